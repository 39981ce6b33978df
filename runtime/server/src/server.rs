//! The service that a listener hands requests to.

use std::pin::Pin;

use axum::response::Response;
use corymb_engine::Engine;
use corymb_listener::{Connection, Drain, RequestBody, Service};
use http::Request;

use crate::app::App;
use crate::observe::{Observer, ResponseBody};
use crate::options::ServerOptions;
use crate::routes::Routes;

/// One engine behind every protocol. It is handed to a [`corymb_listener::Listener`].
///
/// May be served before the models are ready: readiness answers for them until then. The engine, and whatever collects
/// signals, are stopped by the caller behind the listener.
#[derive(Debug)]
pub struct Server {
    observer: Observer<Routes>,
}

impl Server {
    /// Nothing is read or bound here. `drain` is the listener's: readiness ends with it.
    #[must_use]
    pub fn new(engine: Engine, options: ServerOptions, drain: Drain) -> Self {
        let app = App::new(engine, options, drain);
        let routes = Routes::new(&app);
        Self { observer: Observer::new(app.engine.clone(), app.options.observe.clone(), routes) }
    }
}

impl Service for Server {
    type Body = ResponseBody;
    type Answer = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

    fn call(&self, request: Request<RequestBody>, connection: &Connection) -> Self::Answer {
        self.observer.answer(request, connection)
    }
}
