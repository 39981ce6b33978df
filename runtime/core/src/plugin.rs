//! The seam to plugins: what wraps a model's signature, and what a plugin may ask of the other models.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;

use crate::backend::FileSource;
use crate::error::{Error, PluginError};
use crate::memory::MemoryPool;
use crate::request::{Request, Response, Tensors};
use crate::signature::Signature;

/// A loaded, configured plugin.
///
/// Boxed futures, so that a plugin waiting for another model holds no thread. They do their work when polled: the engine
/// polls them on its compute pool.
pub trait Plugin: Send + Sync {
    /// What clients send and get.
    fn served(&self) -> &Signature;

    /// What is known of it beside its signature.
    fn info(&self) -> &PluginInfo;

    /// Turns served inputs into model inputs, or answers at once.
    fn preprocess(&self, request: Request) -> BoxFuture<'_, Result<Step, PluginError>>;
}

/// What follows `preprocess`.
pub enum Step {
    /// Run the wrapped model on `inputs`, then give its outputs to `rest`.
    Run {
        /// For the wrapped model; checked against its signature by the host.
        inputs: Tensors,
        /// `postprocess`, and what it needs of this request.
        rest: Box<dyn Finish>,
    },
    /// Answered without the wrapped model.
    Answer(Response),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run { inputs, .. } => f.debug_struct("Run").field("inputs", inputs).finish_non_exhaustive(),
            Self::Answer(response) => f.debug_tuple("Answer").field(response).finish(),
        }
    }
}

/// The second half of a request: turns model outputs into served outputs. Dropping it frees the plugin's instance.
pub trait Finish: Send {
    /// `id`, `model` and `version` of the response are the engine's to fill.
    fn postprocess(self: Box<Self>, outputs: Tensors) -> BoxFuture<'static, Result<Response, PluginError>>;
}

/// What is known of a loaded plugin.
#[derive(Clone, Debug)]
pub struct PluginInfo {
    /// The file's name without its ending.
    pub name: String,
    /// The world whose imports it uses: `transformer`, `image-transformer` or `orchestrator`.
    pub world: &'static str,
    /// Whether the compiled form came from disk.
    pub precompiled: bool,
    /// Time spent compiling, or reading the compiled form.
    pub load_time: Duration,
}

/// How to load a plugin. What may grow later goes here.
#[derive(Clone, Debug)]
pub struct PluginOptions {
    /// The model that it wraps or is, as clients name it.
    pub model: String,
    /// The version being loaded.
    pub version: String,
    /// The manifest's `[plugin.config]` as JSON; `{}` where there is none.
    pub config: String,
    /// Linear memory that one instance may have, in bytes.
    pub memory: usize,
    /// What instances take memory from, beyond a little that each may have.
    pub pool: MemoryPool,
    /// Time that one call may take where the request's own deadline is not shorter.
    pub call_timeout: Duration,
    /// A folder, private to the user, for compiled components. None: keep nothing.
    pub cache: Option<PathBuf>,
}

/// Implemented by the plugin host; the engine calls it when a model loads.
pub trait PluginHost: Send + Sync {
    /// Compiles, configures, and checks the description against the wrapped model's signature. `model` is none for a
    /// plugin that stands alone.
    ///
    /// # Errors
    /// [`PluginError::Load`] with the reason; whatever `configure` answered.
    fn load(
        &self,
        file: &FileSource,
        options: &PluginOptions,
        model: Option<&Signature>,
        models: Arc<dyn Models>,
    ) -> Result<Box<dyn Plugin>, PluginError>;
}

/// What a plugin may ask of the other models of the server. Implemented by the engine.
pub trait Models: Send + Sync {
    /// The served signature of a model.
    ///
    /// # Errors
    /// [`crate::Code::NotFound`], [`crate::Code::NotReady`].
    fn describe(&self, model: &str, version: Option<&str>) -> Result<ServedModel, Error>;

    /// One prediction of another model.
    fn infer(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>>;
}

/// A model as its callers see it.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// As clients name it.
    pub name: String,
    /// The version that answers.
    pub version: String,
    /// What goes in and comes out.
    pub signature: Signature,
}
