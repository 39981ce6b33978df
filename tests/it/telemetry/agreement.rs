//! The page, the push and the clients count the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PREDICT, SOON};
use crate::collector::{Collector, Received, attribute, points};
use crate::harness::{Server, SetOnDrop, agent, picture, send, try_send};
use crate::signals::sample;

const CLIENTS: usize = 4;

/// Requests of each client.
const EACH: usize = 25;

/// Who wants differences gets them, and the page has its sums nevertheless.
#[test]
fn differences_are_pushed_where_they_are_asked_for() {
    let Some(collector) = Collector::start() else { return };
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", format!("{}/v1/metrics", collector.http)),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta".to_owned()),
    ];
    variables.extend(SOON.map(|(name, value)| (name, value.to_owned())));
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut server = Server::start_with(&[], &variables);
    for _ in 0..10 {
        assert_eq!(server.post(PREDICT, "image/jpeg", &picture()).status, 200);
    }
    let page = server.get("/metrics").text();
    assert_eq!(sample(&page, "corymb_request_duration_seconds_count", &[r#"outcome="ok""#]), Some(10.0));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let received = collector.received();
    let reports = received.metric("corymb.request.duration");
    let counts = reports.iter().flat_map(|report| points(report).1).filter_map(|point| point["count"].as_str());
    assert_eq!(counts.filter_map(|count| count.parse::<u64>().ok()).sum::<u64>(), 10);
    assert!(received.spans().is_empty() && received.logs().is_empty(), "only metrics have an endpoint");
}

/// The page read by two at different intervals, the push, and who sent the requests count the same.
#[test]
fn readers_exporter_and_clients_agree() {
    let Some(collector) = Collector::start() else { return };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http.as_str());
    let mut server = Server::start_with(&[], &[endpoint, SOON[0], SOON[1], SOON[2]]);
    let observed = observe(&server);
    let page = server.get("/metrics").text();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let received = collector.received();
    counts_agree(&observed, &page, &received);
    integrals_agree(&observed, &page, &received);
}

/// What readers of the page and clients saw.
struct Observed {
    /// The growth of the integral, as each reader adds it up.
    readings: Vec<f64>,
    sent: f64,
    /// All that clients waited, in seconds.
    waited: f64,
}

/// Clients send requests while two read the page.
fn observe(server: &Server) -> Observed {
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (page, url) = (server.url("/metrics"), server.url(PREDICT));
    std::thread::scope(|threads| {
        let stop = SetOnDrop(&done);
        let readers = [20, 170].map(|milliseconds| {
            let (page, done) = (&page, &done);
            threads.spawn(move || add_up(page, Duration::from_millis(milliseconds), done))
        });
        let clients: Vec<_> = (0..CLIENTS).map(|_| threads.spawn(|| send_each(&url, &sent))).collect();
        let waited: Duration = clients.into_iter().map(|client| client.join().expect("no panic")).sum();
        drop(stop);
        let readings = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        Observed { readings, sent: sent.load(Ordering::SeqCst) as f64, waited: waited.as_secs_f64() }
    })
}

/// Adds up the differences that it sees, as a rate does, until `done`.
fn add_up(page: &str, pause: Duration, done: &AtomicBool) -> f64 {
    let (mut before, mut sum) = (0.0, 0.0);
    loop {
        let last = done.load(Ordering::SeqCst);
        let now = integral(&send(page, "GET", &[], &[]).text());
        assert!(now >= before, "an integral never falls: {before}, then {now}");
        sum += now - before;
        before = now;
        if last {
            return sum;
        }
        std::thread::sleep(pause);
    }
}

/// Sends one request after the other; says how long the answers took together.
fn send_each(url: &str, sent: &AtomicUsize) -> Duration {
    let agent = agent();
    let mut waited = Duration::ZERO;
    for _ in 0..EACH {
        let begin = Instant::now();
        let answer = try_send(&agent, url, "POST", &[("content-type", "image/jpeg")], &picture());
        waited += begin.elapsed();
        assert_eq!(answer.expect("answered").status, 200);
        sent.fetch_add(1, Ordering::SeqCst);
    }
    waited
}

/// Seconds of requests in flight, of the page.
fn integral(page: &str) -> f64 {
    sample(page, "corymb_request_concurrency_time_seconds_total", &[r#"model="flowers-sample""#]).expect("there")
}

fn counts_agree(observed: &Observed, page: &str, received: &Received) {
    let sent = observed.sent;
    assert_eq!(sent, (CLIENTS * EACH) as f64);
    let labels = [r#"outcome="ok""#, r#"protocol="v1""#];
    assert_eq!(sample(page, "corymb_request_duration_seconds_count", &labels), Some(sent), "the page");
    let pushed: f64 = last(received, "corymb.request.duration").iter().map(|point| number(&point["count"])).sum();
    assert_eq!(pushed, sent, "the push");
    let pushed = last(received, "http.server.request.duration");
    let posts = pushed.iter().filter(|point| attribute(point, "http.request.method").as_deref() == Some("POST"));
    assert_eq!(posts.map(|point| number(&point["count"])).sum::<f64>(), sent, "the push, of HTTP");
}

fn integrals_agree(observed: &Observed, page: &str, received: &Received) {
    let (own, readings) = (integral(page), &observed.readings);
    assert_eq!(readings.len(), 2);
    for reading in readings {
        assert!((reading - own).abs() < 1e-9 * own.max(1.0), "{readings:?} against {own}");
    }
    let pushed = number(&last(received, "corymb.request.concurrency.time")[0]["asDouble"]);
    assert!((pushed - own).abs() < 1e-9 * own.max(1.0), "{pushed} pushed, {own} on the page");
    // What clients waited is what was in flight, and the way to the server and back.
    let waited = observed.waited;
    assert!(own <= waited, "{own} s in flight, clients waited {waited} s");
}

/// The points of the last report of a metric.
fn last(received: &Received, name: &str) -> Vec<Value> {
    let reports = received.metric(name);
    points(reports.last().unwrap_or_else(|| panic!("{name}"))).1.to_vec()
}

fn number(value: &Value) -> f64 {
    value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok()).expect("a number")
}
