//! A fluid against one request after the other, on loads that are small enough for both: pods within one of each other, or 5 % of
//! many, 96 % of the time, p95 within 12 %, pod-seconds within 5 %.

use super::*;

struct Case {
    name: &'static str,
    /// Rates between which the load goes up and down, over 1,500 s.
    rates: (f64, f64),
    settings: Autoscaling,
    pod: PodModel,
}

fn pod(parallelism: u32, service_time: ServiceTime) -> PodModel {
    PodModel { parallelism, service_time, cold_start: Duration::from_secs(3) }
}

fn cases() -> [Case; 4] {
    let limited =
        |target, limit| Autoscaling { container_concurrency: limit, target: Some(target), ..Autoscaling::default() };
    [
        Case {
            name: "steps, several at a time",
            rates: (430.0, 950.0),
            settings: target(2.0),
            pod: pod(4, ServiceTime::Exponential(40.0)),
        },
        Case {
            name: "a hard limit",
            rates: (310.0, 630.0),
            settings: limited(4.0, 8),
            pod: pod(4, ServiceTime::LogNormal(60.0, 200.0)),
        },
        Case {
            name: "one at a time, slow",
            rates: (63.0, 130.0),
            settings: target(1.0),
            pod: pod(2, ServiceTime::Constant(150.0)),
        },
        Case {
            name: "batches",
            rates: (620.0, 980.0),
            settings: target(3.0),
            pod: {
                let batches = |callers: usize| (20.0 + 2.5 * callers.min(8) as f64) * (callers as f64 / 8.0).max(1.0);
                let steps = [1, 2, 4, 8, 12, 16].map(|callers| crate::sweep::tests::curve(callers, batches(callers)));
                let curve = Curve::of(&steps).expect("good steps");
                pod(curve.width(), ServiceTime::Curve(curve))
            },
        },
    ]
}

/// Level, up, level, down and level again.
fn ramp((low, high): (f64, f64)) -> String {
    let share = |second: u32| match second {
        0..300 => 0.0,
        300..600 => f64::from(second - 300) / 300.0,
        600..900 => 1.0,
        900..1200 => 1.0 - f64::from(second - 900) / 300.0,
        _ => 0.0,
    };
    let rows = (0..1500).step_by(5).map(|second| format!("{second},{}\n", low + (high - low) * share(second)));
    rows.collect::<String>() + "1500,0\n"
}

#[test]
fn a_fluid_scales_and_answers_as_requests_one_by_one_do() {
    let hpa = Hpa::default();
    let scalers = [Scaler::Kpa, Scaler::Hpa(hpa.clone()), Scaler::Keda(hpa, Keda::default())];
    for Case { name, rates, settings, pod } in cases() {
        for scaler in &scalers {
            let mut scenario = scenario(&ramp(rates), settings.clone(), 1.0);
            scenario.pod = pod.clone();
            scenario.arrivals = Arrivals::Poisson;
            scenario.start_replicas = 12;
            let by =
                |model| simulate_by(&scenario, &Run { scaler: scaler.clone(), model: Some(model), objective: None });
            let (events, fluid) = (by(Model::Events).expect("runs"), by(Model::Fluid).expect("runs"));
            let what = format!("{name}, {}", scaler.name());
            assert_eq!(events.moments.len(), fluid.moments.len());
            let pairs = events.moments.iter().zip(&fluid.moments);
            let far = pairs.filter(|(left, right)| left.ready.abs_diff(right.ready) > (left.ready / 20).max(1)).count();
            let (left, right) = (&events.summary, &fluid.summary);
            assert!(far * 100 <= events.moments.len() * 4, "{what}: {far} of {}", events.moments.len());
            assert!((left.latency.p95_ms / right.latency.p95_ms - 1.0).abs() < 0.12, "{what}");
            assert!((left.pod_seconds / right.pod_seconds - 1.0).abs() < 0.05, "{what}");
            assert!((left.requests as f64 / right.requests as f64 - 1.0).abs() < 0.02, "{what}");
        }
    }
}

#[test]
fn a_fluid_wakes_and_goes_to_zero_too() {
    let mut scenario = scenario("0,200\n60,0\n300,200\n360,0\n480,0", target(10.0), 50.0);
    scenario.pod.parallelism = 400;
    let run = Run { model: Some(Model::Fluid), ..Run::default() };
    let outcome = simulate_by(&scenario, &run).expect("runs");
    assert_eq!((at(&outcome, 290.0).replicas, at(&outcome, 290.0).ready), (0, 0));
    let woken = outcome.ticks.iter().find(|tick| tick.t >= 300.0 && tick.replicas > 0).expect("woken");
    assert!(woken.t < 300.2, "{woken:?}");
    let summary = &outcome.summary;
    assert!((399..=401).contains(&summary.cold), "{summary:?}");
    assert!((2000.0..2600.0).contains(&summary.latency.max_ms), "{summary:?}");
    assert_eq!((summary.requests, summary.answered), (24_000, 24_000));
}

#[test]
fn large_loads_are_a_fluid_by_themselves() {
    let mut large = scenario("0,10000\n3600,0", target(10.0), 20.0);
    large.pod.parallelism = 8;
    large.start_replicas = 40;
    let outcome = simulate(&large).expect("runs");
    assert_eq!((outcome.model, outcome.summary.requests), (Model::Fluid, 36_000_000));
    // 200 in flight and a few that wait, seven to a pod.
    assert!((29..=31).contains(&at(&outcome, 3600.0).ready), "{:?}", at(&outcome, 3600.0));
    let run = Run { model: Some(Model::Events), ..Run::default() };
    let vast = scenario("0,100000\n3600,0", target(10.0), 20.0);
    assert!(matches!(simulate_by(&vast, &run), Err(SimulateError::TooLarge { .. })));
}
