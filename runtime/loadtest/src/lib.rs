//! Load on a running server, the knee of what it can do, and what an autoscaler would make of it.
//!
//! * [`run`] sends prepared [`Call`]s at a fixed rate (open loop) or by a fixed number of callers (closed loop) and
//!   answers a [`Report`].
//! * [`sweep`] looks for the knee: the concurrency at which more callers no longer pay.
//! * [`simulate`] replays a trace of rates against Knative's autoscaler in virtual time.
//! * [`picture`] draws both, and what was seen of a real service.

pub mod advice;
mod call;
mod client;
mod closed;
mod error;
mod open;
mod outcome;
pub mod picture;
mod plan;
mod record;
mod report;
mod run;
mod schedule;
mod shared;
pub mod simulate;
pub mod sweep;
mod target;
#[cfg(test)]
mod tests;

pub use call::{Call, RestCall};
pub use client::{fetch, probe};
pub use error::LoadError;
pub use outcome::Failure;
pub use plan::{Mode, Plan};
pub use record::Progress;
pub use report::{Latency, Lateness, Report};
pub use run::run;
pub use schedule::Arrivals;
pub use target::{Access, Target};
