//! The generator against a server whose delays are known. Only lower bounds are asserted: a sleep never ends early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{Arrivals, Call, LoadError, Mode, Plan, Report, Target, run};

/// A server that answers `POST`s of up to 1 KiB after what `delay` says, and what it saw.
#[derive(Clone, Default)]
struct Seen {
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

async fn server(
    status: &'static str,
    close: bool,
    delay: impl Fn(usize) -> Duration + Clone + Send + Sync + 'static,
) -> (Target, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let target = Target::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("valid");
    let seen = Seen::default();
    let all = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            all.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(connection(stream, status, close, delay.clone(), all.clone()));
        }
    });
    (target, seen)
}

async fn connection(
    mut stream: TcpStream,
    status: &'static str,
    close: bool,
    delay: impl Fn(usize) -> Duration,
    seen: Seen,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        // The body is one byte, `x`, so a request ends behind the blank line and that byte.
        while !buffer.ends_with(b"\r\n\r\nx") {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        buffer.clear();
        let number = seen.requests.fetch_add(1, Ordering::SeqCst);
        let at_once = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tokio::time::sleep(delay(number)).await;
        seen.at_once.fetch_sub(1, Ordering::SeqCst);
        let keep = if close { "connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n{keep}\r\nok");
        stream.write_all(answer.as_bytes()).await.ok()?;
        if close {
            return None;
        }
    }
}

fn plan(target: &Target, mode: Mode) -> Plan {
    Plan {
        target: target.clone(),
        calls: vec![Call::rest("/x", &[], Some(Bytes::from_static(b"x"))).expect("valid")],
        mode,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(600),
        timeout: Duration::from_secs(20),
        seed: 1,
    }
}

async fn measure(plan: Plan) -> Report {
    run(plan, |_| {}, std::future::pending()).await.expect("runs")
}

fn open(rate: f64) -> Mode {
    Mode::Open { rate, arrivals: Arrivals::Constant, connections: 1000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_has_one_request_per_connection_and_sees_the_delay() {
    let (target, seen) = server("200 OK", false, |_| Duration::from_millis(20)).await;
    let report = measure(plan(&target, Mode::Closed { concurrency: 3 })).await;
    assert_eq!(seen.connections.load(Ordering::SeqCst), 3);
    assert_eq!(seen.most_at_once.load(Ordering::SeqCst), 3);
    assert_eq!(report.requests, seen.requests.load(Ordering::SeqCst) as u64);
    assert_eq!((report.answered, report.failures()), (report.requests, 0));
    assert!(report.latency.min_ms >= 20.0, "{report:?}");
    assert!(report.latency.p50_ms <= report.latency.p99_ms && report.latency.p99_ms <= report.latency.max_ms);
    assert!(report.concurrency > 1.0 && report.concurrency <= 3.0, "{report:?}");
    assert_eq!(report.bytes_received, 2 * report.answered);
    assert!(report.offered_rps.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_shows_a_stall_to_everyone_who_would_have_come() {
    // Everyone who comes within the first second is answered at its end: half of two seconds' requests.
    let begin = Instant::now();
    let until_one = move |_| (begin + Duration::from_secs(1)).saturating_duration_since(Instant::now());
    let (target, seen) = server("200 OK", false, until_one).await;
    let report = measure(Plan { duration: Duration::from_secs(2), ..plan(&target, open(100.0)) }).await;
    assert_eq!(report.requests, 200);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 200);
    // Waiting times fall from 1 s to 0 over 100 of the 200 requests, less what the test lost before its first.
    assert!(report.latency.p99_ms >= 800.0, "{report:?}");
    assert!(report.latency.p90_ms >= 500.0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_connection_counts_as_latency() {
    // 50 a second of 100 ms each on one connection: the last of 30 waits for all before it.
    let (target, seen) = server("200 OK", false, |_| Duration::from_millis(100)).await;
    let mode = Mode::Open { rate: 50.0, arrivals: Arrivals::Constant, connections: 1 };
    let report = measure(plan(&target, mode)).await;
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    assert_eq!(report.answered, 30);
    assert!(report.latency.max_ms >= 100.0 * 30.0 - 600.0, "{report:?}");
    assert!(report.latency.p50_ms >= 1000.0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_counts_with_the_time_it_was_waited_for() {
    let (target, _) = server("200 OK", false, |_| Duration::from_secs(60)).await;
    for mode in [open(20.0), Mode::Closed { concurrency: 2 }] {
        let report = measure(Plan { timeout: Duration::from_millis(250), ..plan(&target, mode) }).await;
        assert_eq!(report.answered, 0);
        assert_eq!(report.failed.keys().collect::<Vec<_>>(), ["timeout"]);
        assert_eq!(report.failures(), report.requests);
        assert!(report.latency.p50_ms >= 250.0 * 0.99, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_by_what_went_wrong() {
    let (target, _) = server("429 Too Many Requests", false, |_| Duration::from_millis(5)).await;
    let report = measure(plan(&target, Mode::Closed { concurrency: 1 })).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), ["HTTP 429"]);
    // A refusal is fast and says nothing of how long answers take.
    assert!(report.latency.max_ms.abs() < 1e-9, "{report:?}");

    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    let target = Target::parse(&format!("http://{nobody}")).expect("valid");
    let report = measure(plan(&target, Mode::Closed { concurrency: 1 })).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), ["no connection"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_closes_are_made_again() {
    let (target, seen) = server("200 OK", true, |_| Duration::from_millis(5)).await;
    let report = measure(plan(&target, Mode::Closed { concurrency: 2 })).await;
    assert_eq!(report.failures(), 0, "{report:?}");
    assert_eq!(seen.connections.load(Ordering::SeqCst), seen.requests.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warm_up_does_not_count() {
    // The first requests are slow; those that count are not.
    let (target, seen) =
        server("200 OK", false, |number| Duration::from_millis(if number == 0 { 300 } else { 1 })).await;
    let plan = Plan { warm_up: Duration::from_millis(200), ..plan(&target, Mode::Closed { concurrency: 1 }) };
    let report = measure(plan).await;
    assert_eq!(report.requests + 1, seen.requests.load(Ordering::SeqCst) as u64);
    assert_eq!(report.failures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_reports_what_it_has() {
    let (target, _) = server("200 OK", false, |_| Duration::from_millis(10)).await;
    for mode in [open(100.0), Mode::Closed { concurrency: 2 }] {
        let long = Plan { duration: Duration::from_secs(3600), ..plan(&target, mode) };
        let stop = tokio::time::sleep(Duration::from_millis(500));
        let mut views = 0;
        let report = run(long, |_| views += 1, stop).await.expect("runs");
        assert!(report.answered > 0 && report.seconds < 3600.0, "{report:?}");
        assert!(report.failed.keys().all(|why| why.starts_with("cut")), "{report:?}");
    }
}

#[tokio::test]
async fn plans_that_cannot_be_run_are_refused() {
    let target = Target::parse("http://127.0.0.1:9").expect("valid");
    let base = plan(&target, Mode::Closed { concurrency: 1 });
    for (wrong, words) in [
        (Plan { calls: Vec::new(), ..base.clone() }, "nothing to send"),
        (Plan { mode: Mode::Closed { concurrency: 0 }, ..base.clone() }, "0 connections; expected 1 to 10000"),
        (Plan { mode: open(f64::NAN), ..base.clone() }, "a rate of NaN"),
        (Plan { duration: Duration::ZERO, ..base }, "expected more than 0"),
    ] {
        let error: LoadError = run(wrong, |_| {}, std::future::pending()).await.expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
}
