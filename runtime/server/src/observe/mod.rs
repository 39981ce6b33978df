//! Around every request: who it is, how long it took, what became of it.

mod instruments;
mod knative;
mod model;
mod propagate;
mod record;
mod span;
mod trace;

use std::fmt;
use std::sync::Arc;

pub use knative::{KnativeStats, PodNameTooLong};
pub use propagate::Propagator;
pub use record::ResponseBody;
pub(crate) use record::{Handler, Observer};
pub use span::Tracing;
pub use trace::with_current_request;
pub(crate) use trace::{name_model, named_model};

/// How requests are counted and traced.
#[derive(Clone)]
pub struct ObserveOptions {
    /// Where spans go; without it nothing is traced.
    pub tracing: Option<Arc<dyn Tracing>>,
    /// The formats in which callers may name their traces; the first that is there counts.
    pub propagators: Vec<Propagator>,
    /// Who counts requests for Knative's autoscaler; whoever sets it calls [`KnativeStats::serve`] too.
    pub knative_stats: Option<KnativeStats>,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self { tracing: None, propagators: vec![Propagator::TraceContext, Propagator::B3], knative_stats: None }
    }
}

impl fmt::Debug for ObserveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveOptions")
            .field("tracing", &self.tracing.is_some())
            .field("propagators", &self.propagators)
            .field("knative_stats", &self.knative_stats)
            .finish()
    }
}
