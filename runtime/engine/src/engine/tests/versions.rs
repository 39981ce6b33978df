//! Several versions at once, replaced, divided, and let go.

use corymb_repository::{Offline, Repository, RepositoryOptions, SignaturePolicy, Trust};

use super::*;
use crate::{Split, State};

fn states(engine: &Engine) -> Vec<String> {
    let versions = engine.status("m").expect("known").versions;
    versions.iter().map(|status| format!("{} {}", status.version, status.state.name())).collect()
}

fn answering(engine: &Engine, version: Option<&str>) -> Result<String, EngineError> {
    engine.begin("m", version, Protocol::V2).map(|call| call.version().to_owned())
}

#[tokio::test]
async fn versions_answer_side_by_side_and_the_newest_by_default() {
    let doubler = Arc::new(Doubler::default());
    let engine = engine(&doubler, two_workers());
    // By number, not by letters.
    let update = |versions: &[&str]| {
        let folders = versions.iter().map(|version| folder(version, "")).collect();
        let engine = engine.clone();
        async move { engine.update("m", folders, None).await }
    };
    update(&["9", "10"]).await.expect("loads");
    for (asked, expected) in [(None, "10"), (Some("9"), "9"), (Some("10"), "10")] {
        assert_eq!(answering(&engine, asked).expect("ready"), expected);
    }
    assert_eq!(engine.describe("m", None).expect("ready").versions, ["9", "10"]);

    // What is wanted already stays the very same.
    let kept = engine.0.registry.find("m").expect("known").newest(Some("10")).expect("ready");
    update(&["10", "11"]).await.expect("loads");
    let now = engine.0.registry.find("m").expect("known").newest(Some("10")).expect("ready");
    assert!(Arc::ptr_eq(&kept, &now), "version 10 was loaded again");
    drop((kept, now));
    eventually(|| states(&engine) == ["9 gone", "10 ready", "11 ready"]).await;
    let unknown = answering(&engine, Some("9")).expect_err("gone");
    assert_eq!(unknown.to_string(), "model 'm' has no version '9'; it has '10', '11'");

    // One that fails leaves everything as it was.
    doubler.broken.store(true, Ordering::Relaxed);
    update(&["12"]).await.expect_err("broken");
    assert_eq!(states(&engine), ["9 gone", "10 ready", "11 ready", "12 failed"]);
    assert_eq!(answering(&engine, None).expect("ready"), "11");
}

#[tokio::test]
async fn a_version_is_replaced_by_a_newer_load_of_itself() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "").await;
    let old = engine.begin("m", None, Protocol::V2).expect("ready");
    engine.load(folder("1", "[queue]\nmax = 7")).await.expect("loads");
    assert_eq!(states(&engine), ["1 ready"]);
    assert!(old.infer(request(&[1.0])).await.is_ok(), "what was begun is finished");
    let drains = || engine.0.registry.all()[0].is_draining();
    assert!(drains());
    drop(old);
    eventually(|| !drains()).await;

    doubler.broken.store(true, Ordering::Relaxed);
    engine.load(folder("1", "[queue]\nmax = 8")).await.expect_err("broken");
    let versions = engine.status("m").expect("known").versions;
    assert_eq!(versions[0].state, State::Ready);
    assert_eq!(versions[0].failure.as_deref(), Some("doubler: the file is broken"));
    assert_eq!(infer(&engine, request(&[1.0])).await.expect("answered"), [2.0]);
}

#[tokio::test]
async fn a_signed_model_that_changes_while_it_is_loaded_does_not_serve() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/signatures");
    let place = tempfile::tempdir().expect("a temporary folder");
    let files = ["external.onnx", "external.bin", "labels.txt", "docs/card.md"];
    std::fs::create_dir(place.path().join("docs")).expect("made");
    for file in files.into_iter().chain(["model.toml"]) {
        std::fs::copy(fixtures.join("model").join(file), place.path().join(file)).expect("copied");
    }
    std::fs::copy(fixtures.join("by/p256.sig"), place.path().join("model.sig")).expect("copied");
    let mut signatures = SignaturePolicy::default();
    signatures.demand(Trust::read(&fixtures.join("trust/p256.pub")).expect("a key"));
    let repository = Repository::new(RepositoryOptions {
        offline: Offline::default(),
        cache: None,
        cache_size: None,
        download_timeout: Duration::from_secs(1),
        environment: std::collections::BTreeMap::new(),
        progress: None,
        signatures,
    });
    let uri = place.path().to_string_lossy().into_owned();
    let folder = repository.open("m", &uri).await.expect("signed").remove(0);

    let doubler = Arc::new(Doubler::default());
    engine(&doubler, two_workers()).load(folder.clone()).await.expect("nothing has changed");
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::fs::write(place.path().join("external.bin"), "others").expect("written");
    let engine = engine(&doubler, two_workers());
    let error = engine.load(folder).await.expect_err("refused").to_string();
    assert!(error.ends_with("external.bin: it was changed while the model was being loaded"), "{error}");
    assert_eq!(answering(&engine, None).expect_err("not ready").code(), Code::NotReady);
}

#[tokio::test]
async fn requests_are_divided_by_shares() {
    let doubler = Arc::new(Doubler::default());
    let engine = engine(&doubler, two_workers());
    let versions = |manifest: &str| vec![folder("1", manifest), folder("2", manifest)];
    engine.update("m", versions("[versions]\nall = true\ncanary = 10"), None).await.expect("loads");
    let share = |of: &str| (0..1000).filter(|_| answering(&engine, None).expect("ready") == of).count();
    assert!((95..=105).contains(&share("2")));
    assert_eq!(answering(&engine, Some("2")).expect("ready"), "2", "who names one gets it");
    let shares = engine.describe("m", None).expect("ready").shares;
    assert_eq!(shares, [("1".to_owned(), 90), ("2".to_owned(), 10)]);

    // The split alone is no reason to load anything.
    let before = engine.0.registry.find("m").expect("known").newest(None).expect("ready");
    engine.update("m", versions("[versions]\nall = true\nweights = { 1 = 1, 2 = 1 }"), None).await.expect("loads");
    let after = engine.0.registry.find("m").expect("known").newest(None).expect("ready");
    assert!(Arc::ptr_eq(&before, &after));
    assert!((495..=505).contains(&share("1")));

    // What is asked for goes before the manifest, also when that is read again; until the model is unloaded.
    let asked: Split = "1=0,2=5".parse().expect("weights");
    engine.update("m", versions("[versions]\nall = true\ncanary = 50"), Some(asked)).await.expect("loads");
    assert_eq!(share("2"), 1000);
    engine.update("m", versions("[versions]\nall = true\ncanary = 50"), None).await.expect("loads");
    assert_eq!(share("2"), 1000);
    engine.unload("m").await.expect("known");
    engine.update("m", versions("[versions]\nall = true\ncanary = 50"), None).await.expect("loads");
    assert!((495..=505).contains(&share("2")));
}

#[tokio::test]
async fn what_is_unloaded_is_not_waited_for_and_may_come_back() {
    let doubler = Arc::new(Doubler::default());
    let engine = engine(&doubler, two_workers());
    engine.announce(&[folder("1", "")]);
    engine.load(folder("1", "")).await.expect("loads");
    let call = engine.begin("m", None, Protocol::V2).expect("ready");
    engine.unload("m").await.expect("known");
    assert!(engine.ready(), "it is not asked for any more");
    assert_eq!(answering(&engine, None).expect_err("unloaded").code(), Code::Draining);
    assert!(call.infer(request(&[1.0])).await.is_ok(), "what was begun is finished");
    drop(call);
    eventually(|| states(&engine) == ["1 gone"]).await;
    let error = answering(&engine, None).expect_err("unloaded");
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "model 'm' is not loaded"));
    engine.unload("m").await.expect("it is no error to unload it twice");
    assert_eq!(engine.unload("n").await.expect_err("unknown").code(), Code::NotFound);

    engine.load(folder("1", "")).await.expect("loads");
    assert_eq!(answering(&engine, None).expect("ready"), "1");
    engine.forget("m").await;
    eventually(|| engine.models().is_empty()).await;
    // What fails when nobody asked for it at the start is nobody's readiness.
    doubler.broken.store(true, Ordering::Relaxed);
    engine.load(folder("1", "")).await.expect_err("broken");
    assert!(engine.ready());
}

#[tokio::test]
async fn who_asked_for_a_load_may_go_away() {
    let doubler = Arc::new(Doubler::default());
    let engine = engine(&doubler, two_workers());
    doubler.gate.set(true);
    let asked = tokio::spawn({
        let engine = engine.clone();
        async move { engine.load(folder("1", "")).await }
    });
    eventually(|| doubler.running.load(Ordering::SeqCst) > 0).await;
    asked.abort();
    doubler.gate.set(false);
    eventually(|| answering(&engine, None).is_ok()).await;
}

#[tokio::test]
async fn loads_side_by_side_are_bounded() {
    let doubler = Arc::new(Doubler::default());
    let engine = engine(&doubler, EngineOptions { workers: 1, ..EngineOptions::default() });
    doubler.gate.set(true);
    let loads: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let (engine, folder) = (engine.clone(), ModelFolder { name: name.into(), ..folder("1", "") });
            tokio::spawn(async move { engine.load(folder).await })
        })
        .into();
    eventually(|| doubler.running.load(Ordering::SeqCst) > 0).await;
    let warming = || {
        let states = engine.models().into_iter().flat_map(|model| model.versions).map(|version| version.state);
        states.filter(|state| *state == State::WarmingUp).count()
    };
    eventually(|| engine.models().len() == 3).await;
    assert_eq!(warming(), 1, "the others wait for their turn");
    doubler.gate.set(false);
    for load in loads {
        load.await.expect("no panic").expect("loads");
    }
}
