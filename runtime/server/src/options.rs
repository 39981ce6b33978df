//! What the server is told by whoever starts it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corymb_engine::{Live, OnDemand};
use corymb_wire::Limits;

use crate::observe::ObserveOptions;
use crate::tap::Tap;

/// Renders the page at `/metrics`, in the format that the reader asked for.
pub type MetricsPage = Arc<dyn Fn(MetricsFormat) -> String + Send + Sync>;

/// The formats of the page at `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

/// Limits, texts and who looks on. What may grow later goes here; what concerns connections is the listener's.
#[derive(Clone)]
pub struct ServerOptions {
    /// Bytes of one request's body, of one gRPC message, and of either after decompression.
    pub max_body: usize,
    /// Limits of what one request is decoded to.
    pub limits: Limits,
    /// A request's body that makes no progress for this long is given up.
    pub body_timeout: Duration,
    /// What `/metrics` shows; without it there is no such page.
    pub metrics: Option<MetricsPage>,
    /// How requests are counted and traced.
    pub observe: ObserveOptions,
    /// Sees each request and its answer as tensors; without one nobody does.
    pub tap: Option<Arc<dyn Tap>>,
    /// What loads and unloads models by request; without it they are refused.
    pub admin: Option<Live>,
    /// What loads models when they are asked for; without it they are loaded before.
    pub on_demand: Option<OnDemand>,
    /// The version that the server's metadata name.
    pub version: String,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_body: 256 * 1024 * 1024,
            limits: Limits::default(),
            body_timeout: Duration::from_secs(30),
            metrics: None,
            observe: ObserveOptions::default(),
            tap: None,
            admin: None,
            on_demand: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("max_body", &self.max_body)
            .field("limits", &self.limits)
            .field("body_timeout", &self.body_timeout)
            .field("metrics", &self.metrics.is_some())
            .field("observe", &self.observe)
            .field("tap", &self.tap.is_some())
            .field("admin", &self.admin.is_some())
            .field("version", &self.version)
            .finish()
    }
}
