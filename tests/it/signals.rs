//! What operators read: the metrics page, the access log, the ids.

use crate::harness::{Server, picture, send};

const PREDICT: &str = "/v1/models/flowers-sample:predict";

/// The value of the first sample whose line starts so and has all these labels.
pub(crate) fn sample(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = page.lines().find(|line| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        (rest.starts_with('{') || rest.starts_with(' ')) && labels.iter().all(|label| rest.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_metrics_page_counts_what_was_served() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        assert_eq!(server.post(PREDICT, "image/jpeg", &picture()).status, 200);
    }
    assert_eq!(server.post(PREDICT, "image/jpeg", b"no picture").status, 400);
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").is_some_and(|value| value.starts_with("text/plain")));
    let page = answer.text();
    let value = |name: &str, labels: &[&str]| {
        sample(&page, name, labels).unwrap_or_else(|| panic!("{name} {labels:?} in {page}"))
    };

    let model = r#"model="flowers-sample""#;
    let count = "corymb_request_duration_seconds_count";
    assert_eq!(value(count, &[model, r#"outcome="ok""#, r#"protocol="v1""#]), 3.0);
    assert_eq!(value(count, &[model, r#"outcome="invalid_argument""#]), 1.0);
    // Warm-up is nobody's request: what ran is what was asked for.
    for (stage, requests) in
        [("decode", 4.0), ("preprocess", 4.0), ("infer", 3.0), ("postprocess", 3.0), ("encode", 3.0)]
    {
        let stage = format!("stage=\"{stage}\"");
        assert_eq!(value("corymb_stage_duration_seconds_count", &[model, &stage]), requests, "{stage}");
    }
    assert!(value("corymb_stage_duration_seconds_count", &[model, r#"stage="queue""#]) >= 4.0);
    assert_eq!(value("corymb_request_in_flight", &[model]), 0.0);
    assert!(value("corymb_request_concurrency_time_seconds_total", &[model]) > 0.0);
    assert!(value("corymb_server_concurrency_time_seconds_total", &[]) > 0.0);
    assert_eq!(value("corymb_server_in_flight", &[]), 0.0, "the page itself is not counted");
    assert_eq!(value("corymb_queue_depth", &[model]), 0.0);
    assert_eq!(value("corymb_model_state", &[model, r#"state="ready""#]), 1.0);
    assert!(value("corymb_instance_busy_time_seconds_total", &[model, r#"backend="tract""#, r#"device="cpu""#]) > 0.0);
    assert_eq!(value("corymb_batch_size_count", &[model]), 3.0);
    assert!(value("corymb_model_load_duration_seconds_count", &[model]) == 1.0);
    assert!(value("http_server_request_duration_seconds_count", &[]) >= 1.0);

    // Concurrency is the time requests were there: the two ways of counting it agree.
    let served = "corymb_request_duration_seconds_sum";
    let summed = value(served, &[r#"outcome="ok""#]) + value(served, &[r#"outcome="invalid_argument""#]);
    let integral = value("corymb_request_concurrency_time_seconds_total", &[model]);
    // The clock is read twice for each request, and a busy machine may do something else in between.
    assert!((summed - integral).abs() < 0.05 + 0.2 * summed, "{summed} against {integral}");
}

#[test]
fn probes_are_not_counted() {
    let server = Server::start(&[]);
    let integral = || sample(&server.get("/metrics").text(), "corymb_server_concurrency_time_seconds_total", &[]);
    let before = integral();
    for path in ["/v2/health/ready", "/v2/health/live"] {
        assert_eq!(send(&server.url(path), "GET", &[("user-agent", "kube-probe/1.31")], &[]).status, 200);
    }
    assert_eq!(integral(), before);
}

#[test]
fn requests_are_named_and_logged() {
    let server = Server::start(&[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("content-type", "image/jpeg"), ("x-request-id", "mine-7"), ("traceparent", &traceparent)];
    let answer = send(&server.url(PREDICT), "POST", &headers, &picture());
    assert_eq!(answer.header("x-request-id"), Some("mine-7"));
    let event = server.event(|event| event["request_id"] == "mine-7");
    assert_eq!(event["trace_id"], trace);
    assert_eq!(event["span_id"].as_str().map(str::len), Some(16));
    assert_eq!(event["model"], "flowers-sample");
    assert_eq!(event["status"], 200);
    assert_eq!(event["protocol"], "v1");
    assert_eq!(event["level"], "INFO");

    let unnamed = send(&server.url(PREDICT), "POST", &headers[..1], &picture());
    assert!(unnamed.header("x-request-id").is_some_and(|id| !id.is_empty()));
}
