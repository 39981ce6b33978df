//! What a plugin may ask of the other models.

use std::sync::Weak;

use corymb_core::{BoxFuture, Code, Error, Models, Request, Response, ServedModel};

use crate::engine::Engine;
use crate::shared::Shared;
use crate::signals::Protocol;

/// Weak, because the engine owns the plugins that own this.
pub(crate) struct OtherModels(pub(crate) Weak<Shared>);

impl OtherModels {
    fn engine(&self) -> Result<Engine, Error> {
        self.0.upgrade().map(Engine::from_shared).ok_or_else(|| Error::new(Code::NotReady, "the server is stopping"))
    }
}

impl Models for OtherModels {
    fn describe(&self, model: &str, version: Option<&str>) -> Result<ServedModel, Error> {
        let described = self.engine()?.describe(model, version)?;
        Ok(ServedModel { name: described.name, version: described.version, signature: described.signature })
    }

    fn infer(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
        Box::pin(async move {
            let engine = self.engine()?;
            // Nested inference counts for its model, never for the server.
            let call = engine.begin(&request.model, request.version.as_deref(), Protocol::Plugin)?;
            let result = call.infer(request).await;
            call.finish(result.as_ref().map(|_| ()).map_err(|error| error.code()));
            result.map_err(Error::from)
        })
    }
}
