//! What a run found, as it is printed and as JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::record::State;

/// The result of one run. Its JSON has these names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was measured, the warm-up left out.
    pub seconds: f64,
    /// Requests whose intended start lies in these seconds.
    pub requests: u64,
    /// Those that were answered well.
    pub answered: u64,
    /// Those that were not, by what went wrong: `HTTP 429`, `gRPC Unavailable`, `timeout`, `connection lost`, ….
    pub failed: BTreeMap<String, u64>,
    /// Good answers a second, counted when they came.
    pub rps: f64,
    /// Intended starts a second; open loop only.
    pub offered_rps: Option<f64>,
    /// Requests in flight on average, as the generator sees it.
    pub concurrency: f64,
    /// From the intended start to the last byte, of the requests that were answered or timed out.
    pub latency: Latency,
    /// How late the generator itself was, which `latency` contains; open loop only.
    pub lateness: Option<Lateness>,
    /// Bytes of answers.
    pub bytes_received: u64,
}

/// Milliseconds. All are 0 where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub mean_ms: f64,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub p75_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// Milliseconds between when a request was meant to start and when the generator got to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Lateness {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1e3
}

impl Latency {
    /// Of a histogram of µs.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Self {
            mean_ms: histogram.mean() / 1e3,
            min_ms: milliseconds(histogram.min()),
            p50_ms: at(0.5),
            p75_ms: at(0.75),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: milliseconds(histogram.max()),
        }
    }

    /// The value that an objective such as `p95` speaks of.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<f64> {
        Some(match name {
            "mean" => self.mean_ms,
            "p50" => self.p50_ms,
            "p75" => self.p75_ms,
            "p90" => self.p90_ms,
            "p95" => self.p95_ms,
            "p99" => self.p99_ms,
            "p99.9" | "p999" => self.p999_ms,
            "max" => self.max_ms,
            _ => return None,
        })
    }
}

impl Report {
    pub(crate) fn of(state: &State, is_open: bool) -> Self {
        let seconds = state.end.saturating_duration_since(state.begin).as_secs_f64().max(1e-3);
        let failed: BTreeMap<String, u64> =
            state.failures.iter().map(|(failure, count)| (failure.to_string(), *count)).collect();
        let requests = state.answered + failed.values().sum::<u64>();
        let lateness = Lateness {
            p50_ms: milliseconds(state.lateness.value_at_quantile(0.5)),
            p99_ms: milliseconds(state.lateness.value_at_quantile(0.99)),
            max_ms: milliseconds(state.lateness.max()),
        };
        Self {
            seconds,
            requests,
            answered: state.answered,
            failed,
            rps: state.answered_within as f64 / seconds,
            offered_rps: is_open.then(|| requests as f64 / seconds),
            concurrency: state.busy / seconds,
            latency: Latency::of(&state.latency),
            lateness: is_open.then_some(lateness),
            bytes_received: state.bytes,
        }
    }

    /// Requests that have no good answer.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}
