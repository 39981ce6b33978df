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

#[tokio::test]
async fn so_is_who_had_waited_before_it_ran() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[instances]\ncount = 1\nrun_timeout = '20ms'").await;
    doubler.gate.set(true);
    let (first, behind) = (started(&engine, 1.0), started(&engine, 2.0));
    first.await.expect("no panic").expect_err("it goes on");
    // Longer than a run may take: it is still in the queue when that has passed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(engine.0.registry.all()[0].queue_depth(), 1);
    {
        // The first is let through, and held behind the gate until that is shut again.
        let held = doubler.threads.lock().expect("not poisoned");
        let passed = doubler.gate.passed.load(Ordering::SeqCst);
        doubler.gate.set(false);
        while doubler.gate.passed.load(Ordering::SeqCst) == passed {
            std::thread::sleep(Duration::from_millis(1));
        }
        doubler.gate.set(true);
        drop(held);
    }
    // The queue would let it wait for a minute.
    let limit = Duration::from_secs(30);
    let answered = tokio::time::timeout(limit, behind).await.expect("it is answered long before");
    assert!(matches!(answered.expect("no panic"), Err(EngineError::RunTooLong { .. })));
    doubler.gate.set(false);
}

#[tokio::test]
async fn the_queue_has_its_own_time_limit() {
    let doubler = Arc::new(Doubler::default());
    let engine = serving(&doubler, two_workers(), "[instances]\ncount = 1\n[queue]\ntimeout = '20ms'").await;
    doubler.gate.set(true);
    let running = started(&engine, 1.0);
    eventually(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let error = infer(&engine, request(&[2.0])).await.expect_err("no instance");
    assert_eq!(error.code(), Code::Overloaded);
    // The limit is of waiting: what runs is left to run.
    doubler.gate.set(false);
    assert_eq!(running.await.expect("no panic").expect("answered"), [2.0]);
}
