//! The listener: one service behind one or more sockets.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::accept::Acceptors;
use crate::connection::Endpoint;
use crate::counts::Counts;
use crate::drain::Drain;
use crate::options::ListenerOptions;
use crate::service::Service;
use crate::stop::{self, Drained};

/// One service behind one or more sockets, each of which speaks HTTP/1.1 and HTTP/2 with prior knowledge.
pub struct Listener<S> {
    options: ListenerOptions,
    drain: Drain,
    service: S,
}

impl<S: Service> Listener<S> {
    /// Nothing is read or bound here; the sockets are the caller's. `drain` may be shared with whoever wants to know
    /// that the listener stops.
    #[must_use]
    pub fn new(options: ListenerOptions, drain: Drain, service: S) -> Self {
        Self { options, drain, service }
    }

    /// Serves until `shutdown` resolves, then stops as [`ListenerOptions`] says; `hurry` cuts that short.
    ///
    /// When the future is dropped, nothing more is accepted. Connections that are open are then served until their
    /// peers, their timers or their age end them.
    pub async fn serve(
        self,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Drained {
        let Self { options, drain, service } = self;
        let counts = Counts::new(options.max_connections);
        let endpoint = Arc::new(Endpoint { options, drain, counts, service });
        let acceptors = Acceptors::begin(listeners, &endpoint);
        shutdown.await;
        stop::stop(&endpoint.drain, &endpoint.options, acceptors, &endpoint.counts, hurry).await
    }
}

impl<S> fmt::Debug for Listener<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("options", &self.options).field("drain", &self.drain).finish_non_exhaustive()
    }
}
