//! Knative's pod autoscaler.

mod buckets;
mod control;
mod decider;
mod delay;
mod scaler;
mod settings;

pub(super) use control::Kpa;
pub use settings::{Aggregation, Autoscaling, Metric};
