//! Whole simulations against what Knative's formulas say by hand.

mod kubernetes;
mod measured;
mod models;

use std::time::Duration;

use super::*;

fn scenario(trace: &str, autoscaling: Autoscaling, service_ms: f64) -> Scenario {
    Scenario {
        trace: Trace::parse(trace).expect("valid"),
        arrivals: Arrivals::Constant,
        autoscaling,
        pod: PodModel {
            parallelism: 1,
            service_time: ServiceTime::Constant(service_ms),
            cold_start: Duration::from_secs(2),
        },
        start_replicas: 1,
        timeout: Duration::from_secs(300),
        seed: 1,
    }
}

fn target(target: f64) -> Autoscaling {
    Autoscaling { target: Some(target), ..Autoscaling::default() }
}

fn at(outcome: &Outcome, seconds: f64) -> &Tick {
    outcome.ticks.iter().rev().find(|tick| tick.t <= seconds).expect("a tick")
}

#[test]
fn a_steady_rate_settles_where_the_formula_says() {
    // 24 a second of 0.2 s each are 4.8 in flight: seven pods at 70 %, five at 100 %.
    for (utilization, pods) in [(70.0, 7), (100.0, 5)] {
        let settings = Autoscaling { target_utilization_percentage: utilization, ..target(1.0) };
        let mut scenario = scenario("0,24\n600,0", settings, 200.0);
        scenario.pod.parallelism = 4;
        let outcome = simulate(&scenario).expect("runs");
        assert_eq!(at(&outcome, 600.0).ready, pods, "{utilization}");
        assert!((at(&outcome, 600.0).stable - 4.8).abs() < 0.01);
        assert_eq!(outcome.summary.requests, 600 * 24);
        assert_eq!(outcome.summary.answered, outcome.summary.requests);
    }
}

#[test]
fn a_thousand_replicas_are_no_more_trouble_than_five() {
    // 4,000 a second of 0.1748 s are 699.2 in flight: 999 pods at 70 %. A burst that meets too few pods for two seconds
    // of cold start asks for many times more, as it does in Knative.
    let mut scenario = scenario("0,4000\n120,0", target(1.0), 174.8);
    scenario.pod.parallelism = 4;
    scenario.start_replicas = 990;
    let outcome = simulate(&scenario).expect("runs");
    let last = at(&outcome, 120.0);
    assert!((999..1010).contains(&last.ready), "{last:?}");
    assert_eq!(outcome.summary.answered, 120 * 4000);
    assert!(outcome.summary.panic_seconds > 0.0);
}

#[test]
fn an_idle_service_goes_to_zero_and_comes_back_with_a_cold_start() {
    let trace = "0,10\n20,0\n300,10\n320,0\n330,0";
    let outcome = simulate(&scenario(trace, target(1.0), 50.0)).expect("runs");
    assert_eq!((at(&outcome, 280.0).replicas, at(&outcome, 280.0).ready), (0, 0));
    // The first request is told of at once, and waits for its pod.
    let woken = outcome.ticks.iter().find(|tick| tick.t > 299.0 && tick.replicas > 0).expect("woken");
    assert!((300.0..300.2).contains(&woken.t), "{woken:?}");
    assert!(woken.stable > 0.0 && woken.ready == 0);
    assert!(outcome.summary.cold >= 19, "{:?}", outcome.summary);
    assert!((2000.0..2200.0).contains(&outcome.summary.latency.max_ms), "{:?}", outcome.summary);
    assert_eq!(outcome.summary.answered, 400);
}

#[test]
fn a_pod_per_request_and_a_fixed_price_add_up() {
    // One pod all the time, 10 s of work for it.
    let settings = Autoscaling { min_scale: 1, max_scale: 1, ..target(1.0) };
    let outcome = simulate(&scenario("0,1\n100,0", settings, 100.0)).expect("runs");
    let summary = &outcome.summary;
    assert!((summary.pod_seconds - 100.0).abs() < 1e-6 && (summary.replicas_mean - 1.0).abs() < 1e-9);
    assert!((summary.utilization - 0.1).abs() < 1e-6, "{summary:?}");
    assert!((summary.latency.max_ms - 100.0).abs() < 0.1, "{summary:?}");
    assert_eq!(summary.pods_started, 1);
}

#[test]
fn a_hard_limit_keeps_requests_before_the_pods_and_an_overload_is_refused() {
    let hard = Autoscaling { container_concurrency: 1, max_scale: 2, ..target(1.0) };
    let outcome = simulate(&scenario("0,1000\n60,0", hard, 100.0)).expect("runs");
    // Two pods answer 20 a second; 10,000 wait before them, the rest is refused, and who waits 300 s gives up.
    let summary = &outcome.summary;
    assert_eq!(summary.answered + summary.refused + summary.timed_out, 60_000, "{summary:?}");
    assert!(summary.refused > 40_000 && summary.timed_out > 1_000, "{summary:?}");
    assert!(at(&outcome, 60.0).queued >= 9_998, "{:?}", at(&outcome, 60.0));
    assert!(summary.utilization > 0.95, "{summary:?}");
}

#[test]
fn out_of_the_path_the_pods_are_chosen_blindly() {
    let direct = Autoscaling { target_burst_capacity: 0.0, ..target(1.0) };
    let outcome = simulate(&scenario("0,24\n300,0", direct, 200.0)).expect("runs");
    assert!(!at(&outcome, 300.0).proxied && at(&outcome, 10.0).t > 0.0);
    // With one request at a time in each pod, blind choice makes some wait.
    assert!(outcome.summary.waiting.p99_ms > 10.0, "{:?}", outcome.summary);
    assert_eq!(outcome.summary.answered, 24 * 300);
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let mut random = scenario("0,50\n60,5\n120,0", target(2.0), 50.0);
    random.arrivals = Arrivals::Poisson;
    random.pod.service_time = ServiceTime::LogNormal(40.0, 200.0);
    let text = |scenario: &Scenario| serde_json::to_string(&simulate(scenario).expect("runs")).expect("JSON");
    assert_eq!(text(&random), text(&random));
    let first = text(&random);
    random.seed = 2;
    assert_ne!(first, text(&random));
}

#[test]
fn settings_outside_knative_s_limits_are_refused() {
    let wrong = scenario("0,1\n10,0", Autoscaling { window: 5, ..Autoscaling::default() }, 10.0);
    assert!(matches!(simulate(&wrong), Err(SimulateError::Settings(_))));
    let mut wrong = scenario("0,1\n10,0", Autoscaling::default(), 10.0);
    wrong.pod.parallelism = 0;
    assert!(simulate(&wrong).is_err());
    // A target so small that the answer would be absurd.
    let absurd = scenario("0,100000\n20,0", target(0.01), 1000.0);
    assert!(matches!(simulate(&absurd), Err(SimulateError::TooLarge { .. })));
}
