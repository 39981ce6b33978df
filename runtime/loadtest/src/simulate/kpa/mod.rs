//! Knative's pod autoscaler.

mod buckets;
mod control;
mod decider;
mod delay;
mod scaler;

pub(super) use control::Kpa;
