//! What the server is told by whoever starts it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corymb_engine::Live;

use crate::propagate::Propagator;
use crate::span::Tracing;
use crate::stats::KnativeStats;

/// Renders the page at `/metrics`, in Prometheus' text format.
pub type MetricsPage = Arc<dyn Fn() -> String + Send + Sync>;

/// Limits, timers and texts. What may grow later goes here.
#[derive(Clone)]
pub struct ServerOptions {
    /// Bytes of one request's body, of one gRPC message, and of either after decompression.
    pub max_body: usize,
    /// Connections held at once; beyond it, new ones wait in the kernel's queue.
    pub max_connections: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// A request's body, or the reader of a response, that makes no progress for this long is given up.
    pub body_timeout: Duration,
    /// A connection without requests is closed after this long. More than 90 s, so that Go's pools give up first.
    pub idle_timeout: Duration,
    /// How long a stopping server goes on accepting while endpoints disappear.
    pub drain_delay: Duration,
    /// How long stopping may take in all.
    pub drain_timeout: Duration,
    /// What `/metrics` shows; without it there is no such page.
    pub metrics: Option<MetricsPage>,
    /// Where spans go; without it nothing is traced.
    pub tracing: Option<Arc<dyn Tracing>>,
    /// The formats in which callers may name their traces; the first that is there counts.
    pub propagators: Vec<Propagator>,
    /// Who counts requests for Knative's autoscaler; whoever sets it calls [`KnativeStats::serve`] too.
    pub knative_stats: Option<KnativeStats>,
    /// What loads and unloads models by request; without it they are refused.
    pub admin: Option<Live>,
    /// The version that the server's metadata name.
    pub version: String,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_body: 256 * 1024 * 1024,
            max_connections: 16 * 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(25),
            metrics: None,
            tracing: None,
            propagators: vec![Propagator::TraceContext, Propagator::B3],
            knative_stats: None,
            admin: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("max_body", &self.max_body)
            .field("max_connections", &self.max_connections)
            .field("header_timeout", &self.header_timeout)
            .field("body_timeout", &self.body_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("drain_delay", &self.drain_delay)
            .field("drain_timeout", &self.drain_timeout)
            .field("metrics", &self.metrics.is_some())
            .field("tracing", &self.tracing.is_some())
            .field("propagators", &self.propagators)
            .field("knative_stats", &self.knative_stats)
            .field("admin", &self.admin.is_some())
            .field("version", &self.version)
            .finish()
    }
}
