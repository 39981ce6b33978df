//! What every handler is given.

use std::sync::Arc;
use std::time::Instant;

use corymb_core::Error;
use corymb_engine::{Engine, Waiting};
use corymb_listener::{Drain, Phase};
use corymb_wire::timeout;
use http::HeaderMap;

use crate::options::ServerOptions;
use crate::status::ServerError;

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

    /// Has a model loaded that is loaded when it is asked for. Until what it returns is dropped, the model stays.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn loaded(&self, model: &str, deadline: Option<Instant>) -> Result<Option<Waiting>, ServerError> {
        match &self.options.on_demand {
            Some(demand) => Ok(Some(demand.ensure(model, deadline).await?)),
            None => Ok(None),
        }
    }

    /// The same for a request of REST without a body, which says in its headers how long it waits.
    ///
    /// # Errors
    /// Why it is not, or what is wrong with the header.
    pub(crate) async fn loaded_in_time(
        &self,
        model: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Waiting>, ServerError> {
        let timeout = timeout::of_rest(headers)?;
        self.loaded(model, timeout.and_then(|timeout| Instant::now().checked_add(timeout))).await
    }

    /// Whether a model would be loaded by a request for it, and is not.
    pub(crate) fn would_load(&self, model: &str) -> bool {
        self.options.on_demand.as_ref().is_some_and(|demand| demand.knows(model))
    }

    /// Whether a request for this model would wait for it.
    pub(crate) fn awaits(&self, model: &str) -> bool {
        self.would_load(model) || self.engine.is_loading(model)
    }

    /// Why a model could not be loaded of late that would be loaded by a request for it.
    pub(crate) fn load_failure(&self, model: &str) -> Option<Error> {
        self.options.on_demand.as_ref()?.failure(model)
    }

    /// Whether new requests should be sent here: the models are ready and the server is not stopping.
    pub(crate) fn ready(&self) -> bool {
        self.drain.phase() == Phase::Serving && self.engine.ready()
    }
}
