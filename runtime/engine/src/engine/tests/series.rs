//! What is recorded of a version ends with it, and warm-up is not recorded.

use std::collections::BTreeSet;

use corymb_metrics::{Metrics, MetricsBuilder};

use super::*;

fn measured(doubler: &Arc<Doubler>) -> (Engine, Metrics) {
    let metrics = MetricsBuilder::default().build().expect("a page");
    (engine_with(doubler, two_workers(), Arc::new(metrics.clone())), metrics)
}

/// The lines of the page without their values.
fn series(metrics: &Metrics) -> BTreeSet<String> {
    let page = metrics.page();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let all: Vec<String> = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
    let different: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(different.len(), all.len(), "a series is there once");
    different
}

fn value(metrics: &Metrics, name: &str, label: &str) -> f64 {
    let page = metrics.page();
    let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn answer(engine: &Engine, version: &str, x: f32) {
    let call = engine.begin("m", Some(version), Protocol::V2).expect("ready");
    let outcome = call.infer(request(&[x])).await.map(drop).map_err(|error| error.code());
    call.finish(outcome);
}

/// What a living version has on the page after a request that went well and one that did not.
fn families_of(version: &str, series: &BTreeSet<String>) -> BTreeSet<String> {
    let label = format!("version=\"{version}\"");
    let of = series.iter().filter(|line| line.contains(&label));
    of.filter_map(|line| Some(line.split('{').next()?.to_owned())).collect()
}

#[tokio::test]
async fn versions_that_are_gone_leave_no_series() {
    let doubler = Arc::new(Doubler::default());
    doubler.fast.store(true, Ordering::Relaxed);
    let (engine, metrics) = measured(&doubler);
    let stays = || folder("1", "");
    let replace = |version: usize| {
        let (engine, folders) = (engine.clone(), vec![stays(), folder(&version.to_string(), "")]);
        async move {
            engine.update("m", folders, None).await.expect("loads");
            for version in ["1", &version.to_string()] {
                answer(&engine, version, 1.0).await;
                answer(&engine, version, -1.0).await;
            }
        }
    };
    let versions = || engine.status("m").expect("known").versions;
    let settled = || versions().iter().all(|status| matches!(status.state, State::Ready | State::Gone));
    replace(100).await;
    let (before, size) = (series(&metrics), metrics.page().len());
    for version in 101..=400 {
        replace(version).await;
    }
    eventually(settled).await;
    let (after, after_size) = (series(&metrics), metrics.page().len());
    let renamed: BTreeSet<String> = after.iter().map(|line| line.replace("\"400\"", "\"100\"")).collect();
    assert_eq!(renamed, before);
    assert!(after_size < size + size / 10, "{after_size} bytes after 300 versions, {size} before");
    assert!(versions().len() <= 2 + 16, "{} versions are remembered", versions().len());

    // Those that live have all of theirs, and have counted all along.
    let expected: BTreeSet<String> = [
        "corymb_batch_size",
        "corymb_model_load_duration_seconds",
        "corymb_request_duration_seconds",
        "corymb_stage_duration_seconds",
    ]
    .into_iter()
    .flat_map(|name| ["bucket", "count", "sum"].map(|part| format!("{name}_{part}")))
    .chain(
        ["corymb_instance_busy_time_seconds_total", "corymb_instance_count", "corymb_model_state"].map(str::to_owned),
    )
    .collect();
    for version in ["1", "400"] {
        assert_eq!(families_of(version, &after), expected, "version {version}");
    }
    assert_eq!(value(&metrics, "corymb_request_duration_seconds_count", "version=\"1\""), 602.0);

    // A model that is gone takes all of it along.
    engine.forget("m").await;
    eventually(|| engine.models().is_empty()).await;
    assert!(series(&metrics).iter().all(|line| !line.contains("model=")), "{}", metrics.page());
}

/// A push has an interval, and what was counted since the last one is pushed when the server has stopped.
#[tokio::test]
async fn what_was_counted_is_there_when_the_server_has_stopped() {
    let doubler = Arc::new(Doubler::default());
    doubler.fast.store(true, Ordering::Relaxed);
    let (engine, metrics) = measured(&doubler);
    engine.load(folder("1", "")).await.expect("loads");
    answer(&engine, "1", 1.0).await;
    let mut before = series(&metrics);
    before.retain(|line| !line.starts_with("corymb_instance_count"));
    engine.shut_down(Duration::from_secs(5)).await;
    let after: BTreeSet<String> = series(&metrics).iter().map(|line| line.replace("\"gone\"", "\"ready\"")).collect();
    assert_eq!(after, before);
    assert_eq!(value(&metrics, "corymb_request_duration_seconds_count", "version=\"1\""), 1.0);
}

#[tokio::test]
async fn a_version_counts_until_its_last_request_has_ended() {
    let doubler = Arc::new(Doubler::default());
    let (engine, metrics) = measured(&doubler);
    engine.load(folder("1", "")).await.expect("loads");
    doubler.gate.set(true);
    let call = engine.begin("m", None, Protocol::V2).expect("ready");
    let running = tokio::spawn(async move {
        let outcome = call.infer(request(&[1.0])).await.map(drop).map_err(|error| error.code());
        call.finish(outcome);
    });
    eventually(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let instances = |state: &str| value(&metrics, "corymb_instance_count", &format!("state=\"{state}\""));
    assert_eq!((instances("busy"), instances("idle")), (1.0, 1.0));
    engine.unload("m").await.expect("known");
    assert!(series(&metrics).iter().any(|line| line.contains("state=\"draining\"")));
    assert_eq!(value(&metrics, "corymb_model_load_duration_seconds_count", "version=\"1\""), 1.0);
    doubler.gate.set(false);
    running.await.expect("no panic");
    eventually(|| series(&metrics).iter().all(|line| !line.contains("version="))).await;
}

/// Both loads of the same version have the same series while they are side by side.
#[tokio::test]
async fn a_version_that_is_loaded_beside_itself_counts_on() {
    let doubler = Arc::new(Doubler::default());
    let (engine, metrics) = measured(&doubler);
    engine.load(folder("1", "")).await.expect("loads");
    answer(&engine, "1", 1.0).await;
    let old = engine.begin("m", None, Protocol::V2).expect("ready");
    engine.load(folder("1", "[queue]\nmax = 7")).await.expect("loads");
    answer(&engine, "1", 1.0).await;
    let requests = || value(&metrics, "corymb_request_duration_seconds_count", "outcome=\"ok\"");
    assert_eq!((series(&metrics).is_empty(), requests()), (false, 2.0));
    old.finish(Ok(()));
    assert_eq!(requests(), 3.0);
    assert_eq!(value(&metrics, "corymb_model_load_duration_seconds_count", "version=\"1\""), 2.0);
}

#[tokio::test]
async fn loads_that_fail_are_counted_and_forgotten_in_time() {
    let doubler = Arc::new(Doubler::default());
    let (engine, metrics) = measured(&doubler);
    engine.load(folder("1", "")).await.expect("loads");
    doubler.broken.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        engine.load(folder("2", "")).await.expect_err("broken");
    }
    let failed = |label: &str| value(&metrics, "corymb_model_load_duration_seconds_count", label);
    assert_eq!(failed("version=\"2\""), 3.0);
    for version in 3..100 {
        engine.load(folder(&version.to_string(), "")).await.expect_err("broken");
    }
    assert_eq!((failed("outcome=\"failed\""), failed("version=\"2\""), failed("outcome=\"ok\"")), (16.0, 0.0, 1.0));

    engine.forget("m").await;
    eventually(|| engine.models().is_empty()).await;
    assert!(series(&metrics).iter().all(|line| !line.contains("model=")), "failures go with their model");
}

#[tokio::test]
async fn warm_up_is_not_recorded_as_requests() {
    let doubler = Arc::new(Doubler::default());
    let (engine, metrics) = measured(&doubler);
    for manifest in ["", "[plugin]\nfile = \"p.wasm\""] {
        let before = doubler.log.lock().expect("not poisoned").len();
        engine.load(folder("1", manifest)).await.expect("loads");
        assert!(doubler.log.lock().expect("not poisoned").len() > before, "it was warmed up");
    }
    for name in
        ["corymb_stage_duration_seconds_count", "corymb_batch_size_count", "corymb_instance_busy_time_seconds_total"]
    {
        assert_eq!(value(&metrics, name, "model=\"m\""), 0.0, "{name} in {}", metrics.page());
    }
    answer(&engine, "1", 1.0).await;
    assert_eq!(value(&metrics, "corymb_batch_size_count", "version=\"1\""), 1.0);
    for stage in ["queue", "preprocess", "infer", "postprocess"] {
        let label = format!("stage=\"{stage}\"");
        assert!(value(&metrics, "corymb_stage_duration_seconds_count", &label) >= 1.0, "{stage} in {}", metrics.page());
    }
}
