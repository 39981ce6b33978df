//! What a simulation found, as JSON.

use serde::Serialize;

use super::{Autoscaling, PodModel};
use crate::report::Latency;

/// The result of a simulation.
///
/// Replaying `records` and `ticks` in the order of their times, records first, through Knative's own collector and
/// `Scale` gives the same `stable`, `panic`, `desired` and `excess_burst_capacity`, where second 0 of the trace is a
/// whole, even second of Unix time.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// As they were, defaults included.
    pub autoscaling: Autoscaling,
    /// The pods.
    pub pod: PodModel,
    /// Ready pods when the trace began.
    pub start_replicas: u32,
    /// What the autoscaler was told: once a second, and when a request comes to an idle activator.
    pub records: Vec<Record>,
    /// What it decided: every other second, and when something comes for a revision at zero.
    pub ticks: Vec<Tick>,
    /// In numbers.
    pub summary: Summary,
}

/// A statistic, as the collector gets it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Seconds since the trace began.
    pub t: f64,
    /// Requests in flight on average, those in the activator's queue included.
    pub concurrency: f64,
    /// Requests that came.
    pub requests: f64,
}

/// A decision, and the state at that time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tick {
    /// Seconds since the trace began.
    pub t: f64,
    /// The trace's rate then, a second.
    pub rate: f64,
    /// Ready pods, as the decision saw them.
    pub ready: u32,
    /// Average over the stable window.
    pub stable: f64,
    /// Average over the panic window.
    pub panic: f64,
    /// `Scale`'s answer, before bounds; null where it had no data.
    pub desired: Option<i32>,
    /// Negative where the activator is kept in the path.
    pub excess_burst_capacity: i32,
    /// Panic mode.
    pub panicking: bool,
    /// Replicas that are asked for, after bounds and the rules of scaling to zero.
    pub replicas: u32,
    /// The activator is in the path.
    pub proxied: bool,
    /// Requests in flight, the queued ones included.
    pub in_flight: u64,
    /// Requests in the activator's queue and those that wait inside pods.
    pub queued: u64,
}

/// The whole trace in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Length of the trace in seconds.
    pub seconds: f64,
    /// Requests that came.
    pub requests: u64,
    /// Answered.
    pub answered: u64,
    /// Refused because a queue was full: 503.
    pub refused: u64,
    /// Given up because they waited too long.
    pub timed_out: u64,
    /// Came when no pod was ready.
    pub cold: u64,
    /// From arrival to answer.
    pub latency: Latency,
    /// From arrival to when a pod began to work on it.
    pub waiting: Latency,
    /// The most replicas asked for.
    pub replicas_max: u32,
    /// On average over the trace.
    pub replicas_mean: f64,
    /// From a pod's creation to its end, all pods together: the cost.
    pub pod_seconds: f64,
    /// Of these, those not spent starting.
    pub ready_pod_seconds: f64,
    /// Time worked over time that could have been: parallelism times ready pod seconds.
    pub utilization: f64,
    /// Pods that were started.
    pub pods_started: u64,
    /// Seconds in panic mode.
    pub panic_seconds: f64,
}
