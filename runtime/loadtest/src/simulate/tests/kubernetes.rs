//! The HPA and KEDA over whole loads.

use super::*;

fn by(scaler: Scaler, scenario: &Scenario) -> Outcome {
    simulate_by(scenario, &Run { scaler, ..Run::default() }).expect("runs")
}

fn hpa() -> Scaler {
    Scaler::Hpa(Hpa::default())
}

fn keda(scale_to_zero: bool) -> Scaler {
    Scaler::Keda(Hpa::default(), Keda { scale_to_zero, ..Keda::default() })
}

fn pods(outcome: &Outcome, seconds: f64) -> u32 {
    outcome.moments.iter().rev().find(|moment| moment.t <= seconds).expect("a moment").ready
}

#[test]
fn a_steady_rate_settles_at_the_target() {
    // 24 a second of 0.2 s are 4.8 in flight: five pods at one each, as long as they are within a tenth of it.
    let mut scenario = scenario("0,24\n900,0", target(1.0), 200.0);
    scenario.pod.parallelism = 4;
    for scaler in [hpa(), keda(false)] {
        let outcome = by(scaler, &scenario);
        assert_eq!(pods(&outcome, 880.0), 5, "{}", outcome.scaler);
        assert_eq!(outcome.summary.answered, 900 * 24);
        assert!(outcome.ticks.is_empty() && outcome.syncs.len() == 60, "{}", outcome.syncs.len());
        // Decisions are 15 s apart, and the first finds what half a minute of samples says.
        assert_eq!(outcome.syncs[0].t, 15.0);
        let last = outcome.syncs[outcome.syncs.len() - 1];
        assert!((4500..5100).contains(&last.value), "{last:?}");
    }
}

#[test]
fn fewer_pods_wait_for_five_minutes() {
    let mut scenario = scenario("0,24\n600,2\n1500,0", target(1.0), 200.0);
    scenario.pod.parallelism = 4;
    for scaler in [hpa(), keda(false)] {
        let outcome = by(scaler, &scenario);
        assert_eq!((pods(&outcome, 850.0), pods(&outcome, 1400.0)), (5, 1), "{}", outcome.scaler);
    }
}

#[test]
fn keda_takes_a_service_to_zero_after_the_cooldown_and_back_at_a_poll() {
    let trace = "0,10\n60,0\n901,10\n960,0\n1000,0";
    let outcome = by(keda(true), &scenario(trace, target(1.0), 50.0));
    let polls: Vec<&Sync> = outcome.syncs.iter().filter(|sync| sync.by == "keda").collect();
    assert_eq!(
        polls.iter().map(|sync| (sync.current, sync.desired)).collect::<Vec<_>>(),
        [(1, 0), (0, 1)],
        "{polls:?}"
    );
    // The rate of what came until 60 s is seen until 90 s, and from the last poll that saw it the cooldown counts.
    assert!((360.0..=420.0).contains(&polls[0].t), "{:?}", polls[0]);
    assert_eq!(polls[1].t, 930.0);
    // Who came first waits for the poll and for the pod.
    assert!((30e3..33e3).contains(&outcome.summary.latency.max_ms), "{:?}", outcome.summary);
    assert_eq!(outcome.summary.answered, outcome.summary.requests);
    let kept = by(keda(false), &scenario(trace, target(1.0), 50.0));
    assert!(kept.moments.iter().all(|moment| moment.ready >= 1));
}

#[test]
fn targets_are_whole_and_bounds_hold() {
    let cut = scenario("0,24\n600,0", target(1.9), 200.0);
    assert_eq!(pods(&by(hpa(), &cut), 590.0), pods(&by(hpa(), &scenario("0,24\n600,0", target(1.0), 200.0)), 590.0));
    let bounded = Autoscaling { min_scale: 2, max_scale: 3, ..target(1.0) };
    let outcome = by(hpa(), &scenario("0,24\n600,0\n1200,0", bounded, 200.0));
    assert!(outcome.moments.iter().all(|moment| (2..=3).contains(&moment.replicas)));
    for (settings, words) in [
        (target(0.7), "target is 0.7; expected 1 or more"),
        (Autoscaling { metric: Metric::Rps, ..target(10.0) }, "metric is rps"),
    ] {
        let error = simulate_by(&scenario("0,1\n9,0", settings, 50.0), &Run { scaler: hpa(), ..Run::default() });
        assert!(error.expect_err(words).to_string().contains(words));
    }
    let wrong = Scaler::Hpa(Hpa { rate_window: 5, ..Hpa::default() });
    let error = simulate_by(&scenario("0,1\n9,0", target(1.0), 50.0), &Run { scaler: wrong, ..Run::default() });
    assert_eq!(error.expect_err("too short").to_string(), "prometheus-rate-window is 5; expected 10 to 3600");
}

#[test]
fn an_objective_says_which_requests_are_late() {
    // One pod can do 20 of the 40 that come.
    let overload = scenario("0,10\n60,40\n120,0", Autoscaling { max_scale: 1, ..target(1.0) }, 50.0);
    let objective = Objective::new("p95", Duration::from_millis(100)).expect("valid");
    let run = Run { scaler: hpa(), objective: Some(objective), ..Run::default() };
    let outcome = simulate_by(&overload, &run).expect("runs");
    let compliance = outcome.summary.objective.clone().expect("asked for");
    assert!(!compliance.met && compliance.value_ms > 10_000.0, "{compliance:?}");
    assert!((0.75..0.82).contains(&compliance.late_share), "{compliance:?}");
    let lateness = &outcome.summary.lateness;
    assert!((lateness.max_ms - (outcome.summary.latency.max_ms - 50.0)).abs() < 100.0, "{lateness:?}");
    assert!(lateness.min_ms < 1.0);
}
