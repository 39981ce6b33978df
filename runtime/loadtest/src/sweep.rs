//! The knee: how many requests a server takes at once before more of them no longer pay, or are too slow.
//!
//! Decisions are pure functions of the steps measured so far; who drives them is `corymb tune`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::Report;

/// Growth of throughput below which another step is no longer worth its latency: 5 % from one step to the next.
const WORTH: f64 = 1.05;

/// Steps that must not have been worth it before the sweep ends.
const FLAT_STEPS: usize = 2;

/// Failed requests that a good step may have, as a share.
const TOLERATED_FAILURES: f64 = 0.001;

/// A closed-loop run at one concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Callers.
    pub concurrency: usize,
    /// What they saw.
    pub report: Report,
}

/// What latency is good enough, e.g. `p95=100ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// `mean`, `p50`, `p75`, `p90`, `p95`, `p99`, `p99.9` or `max`.
    pub percentile: String,
    /// Its limit, in milliseconds.
    pub limit_ms: f64,
}

impl Objective {
    /// Of a percentile's name and its limit.
    ///
    /// # Errors
    /// One line, where the name is unknown or the limit is 0.
    pub fn new(percentile: &str, limit: Duration) -> Result<Self, String> {
        if crate::Latency::default().named(percentile).is_none() {
            return Err(format!("'{percentile}' is unknown; expected mean, p50, p75, p90, p95, p99, p99.9 or max"));
        }
        if limit.is_zero() {
            return Err("a latency of 0 cannot be met".to_owned());
        }
        Ok(Self { percentile: percentile.to_owned(), limit_ms: limit.as_secs_f64() * 1e3 })
    }

    fn is_met(&self, report: &Report) -> bool {
        report.latency.named(&self.percentile).is_some_and(|value| value <= self.limit_ms)
    }
}

/// Whether a step is good: its requests were answered, and fast enough.
#[must_use]
pub fn is_good(step: &Step, objective: Option<&Objective>) -> bool {
    let failed = step.report.failures() as f64 / (step.report.requests.max(1)) as f64;
    step.report.answered > 0
        && failed <= TOLERATED_FAILURES
        && objective.is_none_or(|objective| objective.is_met(&step.report))
}

/// The concurrency to measure next; none when the knee is found or `most` is reached.
///
/// With an objective the steps grow until it is missed, then halve the gap. Without, they grow until throughput
/// does not.
#[must_use]
pub fn next(steps: &[Step], objective: Option<&Objective>, most: usize) -> Option<usize> {
    let good = steps.iter().filter(|step| is_good(step, objective)).map(|step| step.concurrency).max();
    let bad = steps.iter().filter(|step| !is_good(step, objective)).map(|step| step.concurrency).min();
    match (good, bad) {
        (None, None) => Some(1).filter(|_| most >= 1),
        // Not even the least is good, or a slow spell made a small step look bad: nothing to look for.
        (None, Some(_)) => None,
        (Some(good), Some(bad)) if objective.is_some() && bad > good + 1 + good / 10 => Some(good + (bad - good) / 2),
        (Some(_), Some(_)) => None,
        (Some(good), None) if good >= most || (objective.is_none() && is_flat(steps)) => None,
        (Some(good), None) => Some(grown(good).min(most)),
    }
}

/// 1, 2, 3, 4, 6, 8, 12, 16, …
fn grown(concurrency: usize) -> usize {
    match concurrency {
        0..4 => concurrency + 1,
        power if power.is_power_of_two() => power + power / 2,
        between => (between + 1).next_power_of_two(),
    }
}

fn is_flat(steps: &[Step]) -> bool {
    let mut sorted: Vec<&Step> = steps.iter().collect();
    sorted.sort_by_key(|step| step.concurrency);
    let last = sorted.iter().rev().take(FLAT_STEPS);
    sorted.len() > FLAT_STEPS
        && last.zip(sorted.iter().rev().skip(1)).all(|(after, before)| after.report.rps < before.report.rps * WORTH)
}

/// The step that is the knee: with an objective the largest good one, without the one of the greatest power.
///
/// Power is throughput over mean latency (Kleinrock 1979, "Power and deterministic rules of thumb"): it is greatest
/// where a server is full and nobody waits yet.
#[must_use]
pub fn knee<'a>(steps: &'a [Step], objective: Option<&Objective>) -> Option<&'a Step> {
    let good = steps.iter().filter(|step| is_good(step, objective));
    if objective.is_some() {
        return good.max_by_key(|step| step.concurrency);
    }
    let power = |step: &Step| step.report.rps / step.report.latency.mean_ms.max(1e-3);
    good.max_by(|left, right| power(left).total_cmp(&power(right)))
}

/// Throughput at a concurrency between the measured ones, along straight lines, from nothing at 0.
#[must_use]
pub fn throughput_at(steps: &[Step], concurrency: f64) -> f64 {
    let mut points: Vec<(f64, f64)> = steps.iter().map(|step| (step.concurrency as f64, step.report.rps)).collect();
    points.push((0.0, 0.0));
    points.sort_by(|left, right| left.0.total_cmp(&right.0));
    let after = points.partition_point(|(at, _)| *at < concurrency);
    match (after.checked_sub(1).map(|before| points[before]), points.get(after)) {
        (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (concurrency - x0) / (x1 - x0),
        (None, Some(&(_, y))) | (Some((_, y)), None) => y,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A step of a closed loop whose requests all take so long, in milliseconds.
    pub(crate) fn curve(concurrency: usize, milliseconds: f64) -> Step {
        let rps = concurrency as f64 / milliseconds * 1e3;
        let latency = crate::Latency {
            mean_ms: milliseconds,
            min_ms: milliseconds,
            p50_ms: milliseconds,
            p75_ms: milliseconds,
            p90_ms: milliseconds,
            p95_ms: milliseconds,
            p99_ms: milliseconds,
            p999_ms: milliseconds,
            max_ms: milliseconds,
        };
        let report = Report {
            seconds: 1.0,
            requests: rps as u64,
            answered: rps as u64,
            failed: std::collections::BTreeMap::new(),
            rps,
            offered_rps: None,
            concurrency: concurrency as f64,
            latency,
            lateness: None,
            bytes_received: 0,
        };
        Step { concurrency, report }
    }

    /// All steps of a sweep.
    pub(crate) fn sweep(objective: Option<&Objective>, most: usize, step: impl Fn(usize) -> Step) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(concurrency) = next(&steps, objective, most) {
            assert!(steps.iter().all(|known: &Step| known.concurrency != concurrency), "{concurrency} twice");
            steps.push(step(concurrency));
            assert!(steps.len() < 50);
        }
        steps
    }

    /// As [`curve`], of workers that take 10 ms.
    fn step(concurrency: usize, workers: usize) -> Step {
        curve(concurrency, 10.0 * (concurrency as f64 / workers as f64).max(1.0))
    }

    fn swept(workers: usize, objective: Option<&Objective>, most: usize) -> Vec<Step> {
        sweep(objective, most, |concurrency| step(concurrency, workers))
    }

    #[test]
    fn without_an_objective_the_knee_is_where_the_server_is_full() {
        for workers in [1, 2, 4, 8, 16] {
            let steps = swept(workers, None, 256);
            assert_eq!(knee(&steps, None).expect("found").concurrency, workers);
            let most = steps.iter().map(|step| step.concurrency).max().expect("some");
            assert!(most <= 4 * workers.max(2), "{most} for {workers}");
        }
    }

    #[test]
    fn with_an_objective_the_knee_is_the_most_that_meets_it() {
        let objective = Objective::new("p95", Duration::from_millis(55)).expect("valid");
        let steps = swept(4, Some(&objective), 256);
        // 22 requests take 55 ms; the search ends within a tenth.
        let found = knee(&steps, Some(&objective)).expect("found").concurrency;
        assert!((20..=22).contains(&found), "{found}");
        assert!(next(&steps, Some(&objective), 256).is_none());
        let strict = Objective::new("p95", Duration::from_millis(5)).expect("valid");
        let steps = swept(4, Some(&strict), 256);
        assert_eq!(steps.len(), 1);
        assert!(knee(&steps, Some(&strict)).is_none());
    }

    #[test]
    fn the_sweep_ends_where_it_was_told_to() {
        let steps = swept(64, None, 8);
        let all: Vec<usize> = steps.iter().map(|step| step.concurrency).collect();
        assert_eq!(all, [1, 2, 3, 4, 6, 8]);
    }

    #[test]
    fn a_step_with_failures_is_not_good() {
        let mut bad = step(2, 2);
        bad.report.failed.insert("HTTP 429".to_owned(), 50);
        bad.report.requests += 50;
        assert!(!is_good(&bad, None));
        assert_eq!(knee(&[step(1, 2), bad], None).expect("the other").concurrency, 1);
    }
}
