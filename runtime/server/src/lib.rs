//! One port, every protocol, one engine.
//!
//! A request takes this way: `listen` accepts the connection and tells HTTP/1.1 from HTTP/2, `observe` counts and
//! names the request, `app` hands it to the REST routes or to gRPC, a handler decodes it, the engine answers, the
//! handler encodes. What two protocols both need is in the engine or later; the only table of status codes is
//! `status`.

mod activity;
mod app;
mod body;
mod connection;
mod drain;
#[cfg(test)]
mod fake;
mod grpc;
mod inflate;
mod instruments;
mod linger;
mod listen;
mod local;
mod observe;
mod options;
mod sniff;
mod span;
mod stall;
mod stats;
mod status;
mod trace;
mod turn;

mod binary;
mod deadline;
mod json;
mod parameters;
mod predict;
mod propagate;
mod raw;
mod repository;
mod routes;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use drain::Drained;
pub use listen::Server;
pub use local::Local;
pub use options::{MetricsPage, ServerOptions};
pub use propagate::Propagator;
pub use span::Tracing;
pub use stats::{KnativeStats, PodNameTooLong};
pub use trace::with_current_request;
