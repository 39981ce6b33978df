//! The same routes without a socket: for a command that makes one prediction in its own process.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use corymb_engine::Engine;
use corymb_listener::Drain;
use http::{Request, Response};

use crate::app::App;
use crate::observe::Handler as _;
use crate::options::ServerOptions;
use crate::routes::Routes;

/// A server that is called rather than connected to. It speaks REST.
#[derive(Clone, Debug)]
pub struct Local {
    routes: Routes,
    max_body: usize,
}

impl Local {
    /// All routes over `engine`, which the caller loads and stops.
    #[must_use]
    pub fn new(engine: Engine, options: ServerOptions) -> Self {
        let max_body = options.max_body;
        Self { routes: Routes::new(&App::new(engine, options, Drain::new())), max_body }
    }

    /// Answers one request. An answer larger than the largest body is cut to nothing.
    pub async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        let response = self.routes.answer(request.map(Body::from), None).await;
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, to_bytes(body, self.max_body).await.unwrap_or_default())
    }
}
