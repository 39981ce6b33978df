//! A pod gives what was measured back: throughput within 3 %, the median and p95 within 6 %, at each step of a sweep.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::record::histogram;
use crate::report::Latency;
use crate::simulate::pods::Pods;
use crate::sweep::Step;
use crate::sweep::tests::curve;

/// A step with a spread: as far above the median as servers have it.
fn spread(concurrency: usize, milliseconds: f64) -> Step {
    let mut step = curve(concurrency, milliseconds);
    let latency = &mut step.report.latency;
    for (value, factor) in [
        (&mut latency.min_ms, 0.7),
        (&mut latency.p50_ms, 0.95),
        (&mut latency.p75_ms, 1.05),
        (&mut latency.p90_ms, 1.2),
        (&mut latency.p95_ms, 1.35),
        (&mut latency.p99_ms, 1.9),
        (&mut latency.p999_ms, 3.0),
        (&mut latency.max_ms, 4.0),
    ] {
        *value *= factor;
    }
    step
}

/// Callers of one pod who wait for their answers: answers a second, and their latency.
fn closed(pod: &PodModel, callers: usize) -> (f64, Latency) {
    let (mut pods, mut random) = (Pods::new(pod, 0), fastrand::Rng::with_seed(7));
    let only = pods.start(0);
    pods.becomes_ready(only, 0);
    let mut ends: BinaryHeap<Reverse<(Time, Time)>> = BinaryHeap::new();
    let mut begin = |pods: &Pods, now: Time, arrived: Time| {
        Reverse((now + pod.service_time.draw(&mut random, pods.running(only)).takes, arrived))
    };
    // All are there before the first is begun.
    let begun: Vec<bool> = (0..callers).map(|_| pods.give(only, 0, 0)).collect();
    for _ in begun.iter().filter(|begins| **begins) {
        ends.push(begin(&pods, 0, 0));
    }
    let mut latency = histogram(3);
    let (mut now, requests) = (0, 40_000);
    for _ in 0..requests {
        let Some(Reverse((at, arrived))) = ends.pop() else { break };
        now = at;
        latency.saturating_record(at - arrived);
        if let Some(waited) = pods.ends(only, at) {
            ends.push(begin(&pods, at, waited));
        }
        if pods.give(only, at, at) {
            ends.push(begin(&pods, at, at));
        }
    }
    (f64::from(requests) / now as f64 * SECOND as f64, Latency::of(&latency))
}

fn pod(steps: &[Step]) -> PodModel {
    let curve = Curve::of(steps).expect("good steps");
    PodModel { parallelism: curve.width(), service_time: ServiceTime::Curve(curve), cold_start: Duration::from_secs(2) }
}

/// Batches of up to eight in 20 ms and 2.5 ms a request, and two workers of 50 ms.
fn servers() -> [(&'static str, Vec<Step>); 2] {
    let batches = |callers: usize| (20.0 + 2.5 * callers.min(8) as f64) * (callers as f64 / 8.0).max(1.0);
    let workers = |callers: usize| 50.0 * (callers as f64 / 2.0).max(1.0);
    let swept =
        |time: &dyn Fn(usize) -> f64| [1, 2, 3, 4, 6, 8, 12, 16].map(|callers| spread(callers, time(callers))).to_vec();
    [("batches", swept(&batches)), ("workers", swept(&workers))]
}

fn within(value: f64, expected: f64, share: f64, what: &str) {
    assert!((value / expected - 1.0).abs() < share, "{what}: {value}, measured {expected}");
}

#[test]
fn a_closed_load_has_the_measured_throughput_and_latency() {
    for (name, steps) in servers() {
        let pod = pod(&steps);
        for step in &steps {
            let (rps, latency) = closed(&pod, step.concurrency);
            let what = |of: &str| format!("{name}, {} callers, {of}", step.concurrency);
            within(rps, step.report.rps, 0.03, &what("answers a second"));
            within(latency.p50_ms, step.report.latency.p50_ms, 0.06, &what("p50"));
            within(latency.p95_ms, step.report.latency.p95_ms, 0.06, &what("p95"));
        }
        // Beyond what was measured no more is done; who is too many waits.
        let last = steps.last().expect("steps");
        within(closed(&pod, 40).0, last.report.rps, 0.03, name);
    }
}

#[test]
fn an_open_load_lies_between_the_steps() {
    for (name, steps) in servers() {
        let last = steps.last().expect("steps");
        let rate = last.report.rps * 0.5;
        let settings = Autoscaling { min_scale: 1, max_scale: 1, ..target(100.0) };
        let mut scenario = scenario(&format!("0,{rate}\n600,0"), settings, 1.0);
        scenario.pod = pod(&steps);
        scenario.arrivals = Arrivals::Poisson;
        let summary = simulate(&scenario).expect("runs").summary;
        assert_eq!(summary.answered, summary.requests);
        within(summary.utilization, 0.5, 0.05, name);
        // Slower than alone, for others are there; faster than with all callers.
        let (alone, full) = (steps[0].report.latency.mean_ms, last.report.latency.mean_ms);
        assert!((alone..full).contains(&summary.latency.mean_ms), "{name}: {:?}", summary.latency);
        // By how much is its lateness.
        let late = summary.latency.mean_ms - alone;
        assert!((summary.lateness.mean_ms - late).abs() < alone * 0.06, "{name}: {:?}, {late}", summary.lateness);
    }
}
