//! What becomes of requests and what pods cost, whichever way requests are modelled.

use hdrhistogram::Histogram;

use super::control::{View, seconds};
use super::outcome::{Compliance, Moment, Summary};
use super::{SECOND, Time};
use crate::record::histogram;
use crate::report::Latency;
use crate::sweep::Objective;

/// Moments of a trace, at most: more than a picture is wide.
const MOMENTS: u64 = 600;

/// Units of a histogram's count that are one request, since a fluid has parts of them.
const UNITS: f64 = 1024.0;

/// Counts of requests, which a fluid has parts of.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) requests: f64,
    pub(super) answered: f64,
    pub(super) refused: f64,
    pub(super) timed_out: f64,
    pub(super) cold: f64,
    latency: Histogram<u64>,
    waiting: Histogram<u64>,
    lateness: Histogram<u64>,
    recent: Histogram<u64>,
    objective: Option<Objective>,
    /// Answers beyond the objective.
    beyond: f64,
    moments: Vec<Moment>,
    every: Time,
    next: Time,
    replica_time: f64,
    replicas_max: u32,
    /// The trace has ended: what is in flight ends, and costs nothing more.
    is_over: bool,
}

/// What the pods have cost until the trace ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Pod-µs, and those of pods that were ready.
    pub(super) alive: f64,
    pub(super) alive_ready: f64,
    /// Of a ready pod's time, what was spent working.
    pub(super) utilization: f64,
    pub(super) started: u64,
}

impl Account {
    pub(super) fn new(end: Time, objective: Option<&Objective>) -> Self {
        let every = (end / SECOND).div_ceil(MOMENTS).max(2) * SECOND;
        Self {
            requests: 0.0,
            answered: 0.0,
            refused: 0.0,
            timed_out: 0.0,
            cold: 0.0,
            latency: histogram(3),
            waiting: histogram(3),
            lateness: histogram(3),
            recent: histogram(2),
            objective: objective.cloned(),
            beyond: 0.0,
            moments: Vec::new(),
            every,
            next: every,
            replica_time: 0.0,
            replicas_max: 0,
            is_over: false,
        }
    }

    /// A pod begins to work on requests that have waited so long, and will be later by so much than each would be alone. In µs.
    pub(super) fn begins(&mut self, waited: Time, late: Time, requests: f64) {
        let units = (requests * UNITS) as u64;
        self.waiting.saturating_record_n(waited.max(1), units);
        self.lateness.saturating_record_n(late.max(1), units);
    }

    /// Requests are answered, after so many µs.
    pub(super) fn answers(&mut self, latency: Time, requests: f64) {
        let units = (requests * UNITS) as u64;
        self.answered += requests;
        self.latency.saturating_record_n(latency.max(1), units);
        self.recent.saturating_record_n(latency.max(1), units);
        if self.objective.as_ref().is_some_and(|objective| latency as f64 > objective.limit_ms * 1e3) {
            self.beyond += requests;
        }
    }

    /// So many replicas were asked for over so many µs.
    pub(super) fn asked(&mut self, replicas: u32, time: Time) {
        if self.is_over {
            return;
        }
        self.replica_time += f64::from(replicas) * time as f64;
        self.replicas_max = self.replicas_max.max(replicas);
    }

    /// The trace ends.
    pub(super) fn ends(&mut self) {
        self.is_over = true;
    }

    /// The service at the end of a second.
    pub(super) fn second(&mut self, view: &View, replicas: u32) {
        if view.now < self.next {
            return;
        }
        self.next = view.now + self.every;
        let at = |quantile| (!self.recent.is_empty()).then(|| self.recent.value_at_quantile(quantile) as f64 / 1e3);
        self.moments.push(Moment {
            t: seconds(view.now),
            rate: view.rate,
            ready: view.ready,
            replicas,
            in_flight: view.in_flight,
            queued: view.queued,
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
        });
        self.recent.reset();
    }

    pub(super) fn close(self, end: Time, cost: &Cost) -> (Summary, Vec<Moment>) {
        let latency = Latency::of(&self.latency);
        let whole = |count: f64| count.round() as u64;
        let objective = self.objective.map(|objective| {
            let value_ms = latency.named(&objective.percentile).unwrap_or_default();
            let lost = self.refused + self.timed_out;
            let late_share = if self.requests > 0.0 { (self.beyond + lost) / self.requests } else { 0.0 };
            Compliance { met: value_ms <= objective.limit_ms && lost == 0.0, value_ms, late_share, objective }
        });
        let summary = Summary {
            seconds: seconds(end),
            requests: whole(self.requests),
            answered: whole(self.answered),
            refused: whole(self.refused),
            timed_out: whole(self.timed_out),
            cold: whole(self.cold),
            latency,
            waiting: Latency::of(&self.waiting),
            lateness: Latency::of(&self.lateness),
            objective,
            replicas_max: self.replicas_max,
            replicas_mean: self.replica_time / end as f64,
            pod_seconds: cost.alive / SECOND as f64,
            ready_pod_seconds: cost.alive_ready / SECOND as f64,
            utilization: cost.utilization,
            pods_started: cost.started,
            panic_seconds: 0.0,
        };
        (summary, self.moments)
    }
}
