//! The server behind its listener: made of the configuration and of what only the running process has, and their life.

use corymb_engine::{Engine, Live, OnDemand};
use corymb_listener::{Drain, Drained, Listener};
use corymb_server::{ObserveOptions, Server, ServerOptions};
use tokio::net::TcpListener;

use super::stop::StopSignals;
use crate::config::Config;
use crate::wiring::Signals;

/// A server that nobody reaches yet.
pub(super) fn new(
    config: &Config,
    engine: &Engine,
    signals: &Signals,
    live: &Live,
    on_demand: Option<OnDemand>,
) -> Listener<Server> {
    let configured = config.server.clone();
    let options = ServerOptions {
        metrics: Some(signals.page()),
        observe: ObserveOptions { tracing: signals.tracing(), ..configured.observe },
        admin: config.admin.then(|| live.clone()),
        on_demand,
        ..configured
    };
    let drain = Drain::new();
    let server = Server::new(engine.clone(), options, drain.clone());
    Listener::new(config.listener.clone(), drain, server)
}

/// Serves until the first signal to stop, then drains; the second one cuts that short.
pub(super) async fn serve(listener: Listener<Server>, sockets: Vec<TcpListener>, stop: &StopSignals) -> Drained {
    listener.serve(sockets, stop.first(), stop.second()).await
}
