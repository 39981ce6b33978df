//! Knative's pod autoscaler in virtual time: what a trace of request rates would do to replicas, queues and cost.
//!
//! The decisions are those of Knative 1.23 (`knative.dev/serving` v0.50.0), operation by operation, so that the same
//! records and the same counts of ready pods give the same desired scale:
//! `buckets` is `pkg/autoscaler/aggregation`, `delay` is its `max`, `decider` is `Scale` in
//! `pkg/autoscaler/scaling/autoscaler.go`, `settings` resolves targets as `pkg/reconciler/autoscaling/resources`
//! does, and `scaler` is `pkg/reconciler/autoscaling/kpa/scaler.go` with the activity of `kpa.go`.
//!
//! What surrounds them is a model (`world`): pods that work on a few requests at once, a cold start of a fixed time,
//! the activator's and the Service's ways to choose a pod. Left out on purpose: scraping a sample of the pods instead
//! of all, delays of the control plane, pods that cannot be scheduled.

mod buckets;
mod decider;
mod delay;
mod outcome;
mod pods;
mod scaler;
mod service;
mod settings;
mod trace;
mod world;

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

pub use outcome::{Outcome, Record, Summary, Tick};
pub use service::ServiceTime;
pub use settings::{Aggregation, Autoscaling, Metric};
pub use trace::Trace;

use crate::schedule::Arrivals;

/// Microseconds since the trace began.
type Time = u64;

const SECOND: Time = 1_000_000;

/// What one pod is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodModel {
    /// Requests that it works on at the same time; the others wait in it.
    pub parallelism: u32,
    /// How long it works on one.
    pub service_time: ServiceTime,
    /// From when a pod is asked for to when it is ready.
    #[serde(with = "seconds")]
    pub cold_start: Duration,
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Rates over time.
    pub trace: Trace,
    /// Equal gaps between requests, or random ones.
    pub arrivals: Arrivals,
    /// The autoscaler's settings.
    pub autoscaling: Autoscaling,
    /// The pods.
    pub pod: PodModel,
    /// Ready pods when the trace begins.
    pub start_replicas: u32,
    /// Requests that wait longer are given up: a revision's `timeoutSeconds`.
    pub timeout: Duration,
    /// Of everything random.
    pub seed: u64,
}

/// Why nothing was simulated.
#[derive(Clone, Debug, PartialEq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SimulateError {
    #[error("line {line} of the trace: {reason}")]
    Trace { line: usize, reason: String },
    #[error("{0}")]
    Settings(String),
    #[error("{what}; a simulation has at most {limit}")]
    TooLarge { what: String, limit: u64 },
}

/// Runs a scenario to the end of its trace, and until the requests in flight then have ended.
///
/// # Errors
/// Where a setting is outside Knative's limits, or the simulation would be too large.
pub fn simulate(scenario: &Scenario) -> Result<Outcome, SimulateError> {
    scenario.autoscaling.check()?;
    scenario.pod.check()?;
    world::run(scenario)
}

impl PodModel {
    fn check(&self) -> Result<(), SimulateError> {
        if self.parallelism == 0 {
            return Err(SimulateError::Settings("a pod works on at least 1 request at a time".to_owned()));
        }
        self.service_time.check().map_err(SimulateError::Settings)
    }
}

/// Durations as seconds.
mod seconds {
    use std::time::Duration;

    use serde::Serializer;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
