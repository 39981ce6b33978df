//! Targets for servers of several kinds: what is recommended holds, and what would not is refused with the reason.

use super::*;
use crate::sweep::tests::{curve, sweep};

const COLD_START: Duration = Duration::from_secs(3);

fn objective(text: &str, milliseconds: u64) -> Objective {
    Objective::new(text, Duration::from_millis(milliseconds)).expect("valid")
}

fn ask(steps: &[Step], objective: Option<&Objective>, rate: Option<f64>) -> Advice {
    let server = Server { batch_slots: Some(1), cold_start: COLD_START, ..Server::default() };
    advise(Question { steps, objective, utilization_percentage: 70.0, rate, server }).expect("simulated")
}

/// Workers that take so long for each request, in milliseconds, and queue the rest.
fn workers(count: usize, milliseconds: f64) -> impl Fn(usize) -> Step {
    move |concurrency| curve(concurrency, milliseconds * (concurrency as f64 / count as f64).max(1.0))
}

#[test]
fn a_target_is_what_a_pod_works_on_and_not_the_knee_of_a_closed_loop() {
    // Eight callers still have 200 ms, of whom six wait.
    let objective = objective("p95", 200);
    let steps = sweep(Some(&objective), 256, workers(2, 50.0));
    let told = ask(&steps, Some(&objective), Some(100.0)).recommendation.expect("one holds");
    assert_eq!((told.knee, told.parallelism), (8, 2));
    assert!(told.effective_concurrency <= 2.0 && (1.0..3.0).contains(&told.target), "{told:?}");
    assert!(told.replicas.is_some_and(|replicas| (3..=6).contains(&replicas)), "{told:?}");
    assert_eq!(
        told.replays.iter().map(|replay| replay.load.as_str()).collect::<Vec<_>>(),
        ["steady", "step", "sawtooth", "poisson"]
    );
    for replay in &told.replays {
        assert!(replay.holds() && replay.p95_ms <= 200.0 && replay.pods_min > 0, "{replay:?}");
    }
}

#[test]
fn what_the_sweep_alone_would_say_is_seen_to_swing() {
    let objective = objective("p95", 200);
    let steps = sweep(Some(&objective), 256, workers(2, 50.0));
    let question = Question {
        steps: &steps,
        objective: Some(&objective),
        utilization_percentage: 70.0,
        rate: Some(100.0),
        server: Server { batch_slots: Some(1), cold_start: COLD_START, ..Server::default() },
    };
    let mut knee = first(question).expect("good steps");
    knee.effective_concurrency = 8.0 * 0.7;
    let (tried, _) = replayed(question, at(question, &knee, 1.0)).expect("simulated");
    assert_eq!(tried.target, 8.0);
    assert!(tried.replays.iter().any(|replay| replay.oscillates), "{:?}", tried.replays);
    assert!(reason(&tried, Some(&objective)).starts_with("replicas swing under "));
}

#[test]
fn batches_and_fast_models_have_a_target_that_holds() {
    // A batch of eight takes twice as long as one request.
    let batching = |concurrency: usize| {
        curve(concurrency, 10.0 * (1.0 + concurrency.min(8) as f64 / 8.0) * (concurrency as f64 / 8.0).max(1.0))
    };
    // Half a millisecond, two at a time.
    for (name, steps) in [("batching", sweep(None, 64, batching)), ("fast", sweep(None, 64, workers(2, 0.5)))] {
        let advice = ask(&steps, None, None);
        let told = advice.recommendation.unwrap_or_else(|| panic!("{name}: {:?}", advice.rejected));
        assert!(told.target > 1.0 && told.effective_concurrency <= told.parallelism as f64, "{name}: {told:?}");
        assert_eq!(advice.outcomes.len(), 4);
    }
}

#[test]
fn of_a_fast_model_the_time_in_the_proxies_counts() {
    for (milliseconds, proxy, least) in [(0.03, 1, 6.0), (0.1, 0, 1.4), (0.9, 1, 2.0)] {
        let proxy_time = Duration::from_millis(proxy);
        let server = Server { batch_slots: Some(1), cold_start: COLD_START, proxy_time, is_proxied: proxy == 0 };
        let steps = sweep(None, 64, workers(1, milliseconds));
        let question = Question { steps: &steps, objective: None, utilization_percentage: 70.0, rate: None, server };
        let advice = advise(question).expect("simulated");
        let told = advice.recommendation.unwrap_or_else(|| panic!("{milliseconds} ms: {:?}", advice.rejected));
        assert!(told.target >= least, "{milliseconds} ms behind {proxy} ms: {told:?}");
        // No pod is promised more than it was seen to answer, nor more than its proxy hands on.
        assert!(proxy == 0 || told.rps_per_replica <= PROXY_RATE * 1e3, "{told:?}");
        assert!(told.rps_per_replica <= told.knee_rps * 1.001, "{told:?}");
        let words = if proxy == 0 { "proxies included" } else { "measure through it" };
        assert!(told.warnings.iter().any(|warning| warning.contains(words)), "{:?}", told.warnings);
    }
    // At the whole of its target such a pod would wait.
    let server = Server { batch_slots: Some(1), cold_start: COLD_START, is_proxied: true, ..Server::default() };
    let steps = sweep(None, 1, workers(1, 0.5));
    let question = Question { steps: &steps, objective: None, utilization_percentage: 100.0, rate: None, server };
    let advice = advise(question).expect("simulated");
    assert!(advice.recommendation.is_none(), "{:?}", advice.recommendation);
    let slow = sweep(None, 64, workers(1, 1.1));
    let told = ask(&slow, None, None).recommendation.expect("one holds");
    assert!(!told.warnings.iter().any(|warning| warning.contains("prox")), "{:?}", told.warnings);
}

#[test]
fn a_moment_in_which_a_fast_server_stands_still_swings_nothing() {
    let steps = sweep(None, 1, |concurrency| {
        let mut step = curve(concurrency, 0.02);
        step.report.latency.p99_ms = 0.1;
        (step.report.latency.p999_ms, step.report.latency.max_ms) = (0.5, 60.0);
        step
    });
    let proxy_time = Duration::from_micros(500);
    let server = Server { batch_slots: Some(1), cold_start: COLD_START, proxy_time, is_proxied: false };
    let question = Question { steps: &steps, objective: None, utilization_percentage: 70.0, rate: None, server };
    let advice = advise(question).expect("simulated");
    assert!(advice.recommendation.is_some(), "{:?}", advice.rejected);
}

#[test]
fn where_nothing_holds_the_best_is_told_with_the_reason() {
    // One pod is enough for what comes, at any target, and now and then two requests come at once.
    let objective = objective("max", 12);
    let steps = sweep(Some(&objective), 256, workers(1, 10.0));
    let advice = ask(&steps, Some(&objective), Some(2.0));
    assert!(advice.recommendation.is_none());
    let rejected = advice.rejected.expect("the best one");
    assert!(rejected.reason.contains("max of 12 ms is missed under "), "{}", rejected.reason);
    let json = serde_json::to_value(&rejected).expect("JSON");
    assert!(json["target"].is_number() && json["replays"].as_array().is_some_and(|all| all.len() == 4), "{json}");
    // Of nothing that is good nothing is tried.
    let strict = self::objective("p95", 5);
    let steps = sweep(Some(&strict), 256, workers(1, 10.0));
    let advice = ask(&steps, Some(&strict), None);
    assert!(advice.recommendation.is_none() && advice.rejected.is_none());
}

#[test]
fn the_numbers_follow_from_the_steps() {
    let steps = sweep(None, 256, workers(4, 10.0));
    let server = Server { batch_slots: Some(16), cold_start: COLD_START, ..Server::default() };
    let question =
        Question { steps: &steps, objective: None, utilization_percentage: 70.0, rate: Some(1000.0), server };
    let told = advise(question).expect("simulated").recommendation.expect("one holds");
    assert_eq!((told.knee, told.parallelism, told.container_concurrency), (4, 4, 16));
    assert!(told.warnings[0].contains("batches up to 16"), "{:?}", told.warnings);
    let in_flight = told.target * 0.7;
    assert!((told.effective_concurrency - in_flight).abs() < 1e-9);
    // So many in flight of 10 ms each.
    assert!((told.rps_per_replica - in_flight * 100.0).abs() < 1.0, "{told:?}");
    assert_eq!(told.replicas, Some((1000.0 / told.rps_per_replica).ceil() as u64));
    let ended = sweep(None, 8, workers(64, 10.0));
    let told = ask(&ended, None, None).recommendation.expect("one holds");
    assert!(told.warnings.iter().any(|warning| warning.contains("may lie beyond")), "{:?}", told.warnings);
    let unknown = Question { server: Server::default(), ..question };
    let told = advise(unknown).expect("simulated").recommendation.expect("one holds");
    assert!(told.warnings[0].contains("must be 0 or at least the largest batch"), "{:?}", told.warnings);
}

#[test]
fn targets_have_two_digits() {
    for (target, shown) in
        [(2.857, 2.8), (28.57, 28.0), (0.357, 0.35), (0.0357, 0.03), (285.7, 280.0), (4.0, 4.0), (0.1, 0.1)]
    {
        assert!((rounded(target) - shown).abs() < 1e-9, "{target}: {}", rounded(target));
    }
}
