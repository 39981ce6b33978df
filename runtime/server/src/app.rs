//! What every handler is given.

use std::sync::Arc;

use corymb_engine::Engine;
use corymb_listener::{Drain, Phase};

use crate::options::ServerOptions;

/// The server's name in its own metadata, whatever the protocol.
pub(crate) const NAME: &str = "corymb";

/// The extensions of the Open Inference Protocol that are offered, as Triton names them.
pub(crate) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "parameters"];

/// What all handlers work with; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) drain: Drain,
}

impl App {
    pub(crate) fn new(engine: Engine, options: ServerOptions, drain: Drain) -> Self {
        Self { engine, options: Arc::new(options), drain }
    }

    /// Whether new requests should be sent here: the models are ready and the server is not stopping.
    pub(crate) fn ready(&self) -> bool {
        self.drain.phase() == Phase::Serving && self.engine.ready()
    }
}
