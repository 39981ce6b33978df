//! What a simulation found, as JSON.

use serde::Serialize;

use super::settings::{Autoscaling, Hpa, Keda};
use super::{Model, PodModel};
use crate::report::Latency;
use crate::sweep::Objective;

/// The result of a simulation.
///
/// Replaying `records` and `ticks` in the order of their times, records first, through Knative's own collector and
/// `Scale` gives the same `stable`, `panic`, `desired` and `excess_burst_capacity`, where second 0 of the trace is a
/// whole, even second of Unix time. Replaying `syncs` through Kubernetes' own controller gives the same `desired`.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `kpa`, `hpa` or `keda`.
    pub scaler: &'static str,
    /// How requests were modelled.
    pub model: Model,
    /// As they were, defaults included; of the HPA and KEDA, only targets, limits and bounds count.
    pub autoscaling: Autoscaling,
    /// Of the HPA, or of the one that KEDA makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hpa: Option<Hpa>,
    /// Of KEDA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keda: Option<Keda>,
    /// The pods.
    pub pod: PodModel,
    /// Ready pods when the trace began.
    pub start_replicas: u32,
    /// What Knative's autoscaler was told: once a second, and when a request comes to an idle activator.
    pub records: Vec<Record>,
    /// What it decided: every other second, and when something comes for a revision at zero.
    pub ticks: Vec<Tick>,
    /// What the HPA saw and decided, every 15 seconds where nothing else is said.
    pub syncs: Vec<Sync>,
    /// The service over time, at most 600 times.
    pub moments: Vec<Moment>,
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

/// One decision, and what it rests on. Values are thousandths, as the APIs of metrics have them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sync {
    /// Seconds since the trace began.
    pub t: f64,
    /// `hpa`, or `keda` where the operator takes the service to zero or back.
    pub by: &'static str,
    /// Replicas that were asked for before.
    pub current: i32,
    /// Pods that are ready or start.
    pub pods: u32,
    /// Of these, those that have the metric, of the HPA; for KEDA, all that are ready.
    pub measured: u32,
    /// Ready, but scraped less than twice.
    pub missing: u32,
    /// Those that start.
    pub pending: u32,
    /// Concurrency of the pods that have the metric, all together.
    pub value: i64,
    /// Replicas that are asked for now.
    pub desired: i32,
}

/// The service at a time, and the requests that were answered since the moment before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds since the trace began.
    pub t: f64,
    /// The trace's rate then, a second.
    pub rate: f64,
    /// Ready pods.
    pub ready: u32,
    /// Replicas that are asked for.
    pub replicas: u32,
    /// Requests in flight, the queued ones included.
    pub in_flight: u64,
    /// Requests that wait.
    pub queued: u64,
    /// Percentiles of the latency in milliseconds; null where nothing was answered.
    pub p50_ms: Option<f64>,
    #[expect(missing_docs, reason = "as the one before")]
    pub p95_ms: Option<f64>,
    #[expect(missing_docs, reason = "as the one before")]
    pub p99_ms: Option<f64>,
}

/// Whether the latency that should hold does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compliance {
    /// What should hold.
    #[serde(flatten)]
    pub objective: Objective,
    /// The percentile as it was, in milliseconds.
    pub value_ms: f64,
    /// Whether it holds, and every request is answered.
    pub met: bool,
    /// Of all requests, those that were answered later than the limit, or not at all.
    pub late_share: f64,
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
    /// How much later than by an idle pod of their own requests were answered: what they waited, and by how much the others on
    /// the same pod slowed them.
    pub lateness: Latency,
    /// The latency that should hold; null where none was given.
    pub objective: Option<Compliance>,
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
