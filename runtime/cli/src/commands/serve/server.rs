//! The server: made of the configuration and of what only the running process has, and its life on the listeners.

use corymb_engine::{Engine, Live};
use corymb_server::{Drained, Server, ServerOptions};
use tokio::net::TcpListener;

use super::stop::StopSignals;
use crate::config::Config;
use crate::wiring::Signals;

/// A server that nobody reaches yet.
pub(super) fn new(config: &Config, engine: &Engine, signals: &Signals, live: &Live) -> Server {
    let options = ServerOptions {
        metrics: Some(signals.page()),
        tracing: signals.tracing(),
        admin: config.admin.then(|| live.clone()),
        ..config.server.clone()
    };
    Server::new(engine.clone(), options)
}

/// Serves until the first signal to stop, then drains; the second one cuts that short.
pub(super) async fn serve(server: Server, listeners: Vec<TcpListener>, stop: &StopSignals) -> Drained {
    server.serve(listeners, stop.first(), stop.second()).await
}
