//! Runs that do not look whether they have to stop.

use super::*;

#[tokio::test]
async fn who_waits_for_a_run_that_does_not_stop_is_answered() {
    let doubler = Arc::new(Doubler::default());
    let manifest = "[instances]\ncount = 1\nrun_timeout = '20ms'";
    let engine = serving(&doubler, two_workers(), manifest).await;
    doubler.gate.set(true);
    let running = started(&engine, 1.0);
    let error = running.await.expect("no panic").expect_err("it goes on");
    assert!(matches!(error, EngineError::RunTooLong { .. }), "{error}");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(doubler.running.load(Ordering::SeqCst), 1, "nothing has ended it");
    let behind = started(&engine, 2.0);
    eventually(|| engine.0.registry.all()[0].queue_depth() == 1).await;
    doubler.gate.set(false);
    assert_eq!(behind.await.expect("no panic").expect("answered"), [4.0]);
}
