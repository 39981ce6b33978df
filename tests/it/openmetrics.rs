//! The page in OpenMetrics, as others read it: Prometheus with its exemplars, and the parser of Prometheus' Python client.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clients::{python, succeeds};
use crate::collector::free_port;
use crate::dashboards::Prometheus;
use crate::harness::{LIMIT, Server, picture, root, send};
use crate::telemetry::grpc_picture;

const PREDICT: &str = "/v1/models/flowers-sample:predict";
const SAMPLED: &str = "0af7651916cd43dd8448eb211c80319c";
const UNSAMPLED: &str = "1af7651916cd43dd8448eb211c80319c";
const OF_GRPC: &str = "2af7651916cd43dd8448eb211c80319c";

/// A server that traces. Where its spans go nobody listens, which is none of the page's business.
fn traced() -> Server {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let server = Server::start_with(&[], &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint)]);
    for (trace, flags) in [(SAMPLED, "01"), (UNSAMPLED, "00")] {
        let traceparent = format!("00-{trace}-00f067aa0ba902b7-{flags}");
        let headers = [("content-type", "image/jpeg"), ("traceparent", &traceparent)];
        assert_eq!(send(&server.url(PREDICT), "POST", &headers, &picture()).status, 200);
    }
    grpc_picture(server.url(""), &format!("00-{OF_GRPC}-00f067aa0ba902b7-01"));
    server
}

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[test]
fn the_page_is_in_the_format_that_is_asked_for() {
    let server = traced();
    let page = |accept: &str| {
        let answer = send(&server.url("/metrics"), "GET", &[("accept", accept)], &[]);
        assert_eq!((answer.status, answer.header("vary")), (200, Some("accept")));
        (answer.header("content-type").unwrap_or_default().to_owned(), answer.text())
    };
    let (kind, text) = page("*/*");
    assert!(kind == TEXT && !text.contains("# EOF") && !text.contains(SAMPLED), "{text}");
    let (kind, open) = page("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert_eq!(kind, OPEN);
    assert!(open.ends_with("\n# EOF\n") && !open.contains(UNSAMPLED), "{open}");
    for (family, trace) in [
        ("corymb_request_duration_seconds_bucket", SAMPLED),
        ("http_server_request_duration_seconds_bucket", SAMPLED),
        ("corymb_request_duration_seconds_bucket", OF_GRPC),
        ("rpc_server_call_duration_seconds_bucket", OF_GRPC),
    ] {
        let exemplar = |line: &&str| line.starts_with(family) && line.contains(&format!(" # {{trace_id=\"{trace}\""));
        assert_eq!(open.lines().filter(exemplar).count(), 1, "{family}, {trace}: {open}");
    }
    // Both formats have the same samples.
    let names = |page: &str| -> BTreeSet<String> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&text), names(&open));
}

#[test]
fn the_page_tells_what_runs_and_what_it_takes() {
    let server = Server::start(&[]);
    let page = server.get("/metrics").text();
    let value = |name: &str, labels: &[&str]| {
        crate::signals::sample(&page, name, labels).unwrap_or_else(|| panic!("{name} {labels:?} in {page}"))
    };
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(value("corymb_build_info", &[&version, r#"backends="onnxruntime,tract""#, r#"rustc="1."#]), 1.0);
    let model = r#"model="flowers-sample""#;
    let instances =
        |state: &str| value("corymb_instance_count", &[model, r#"device="cpu""#, &format!("state=\"{state}\"")]);
    assert!(instances("idle") >= 1.0 && instances("busy") == 0.0, "{page}");
    if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("its status");
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("threads");
        assert!((value("process_threads", &[]) - threads.trim().parse::<f64>().expect("a number")).abs() <= 4.0);
        let (resident, all) = (value("process_resident_memory_bytes", &[]), value("process_virtual_memory_bytes", &[]));
        assert!(1e7 < resident && resident < all, "{resident} of {all}");
        assert!(value("process_cpu_seconds_total", &[]) > 0.0);
        assert!((3.0..value("process_max_fds", &[])).contains(&value("process_open_fds", &[])), "{page}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - value("process_start_time_seconds", &[]);
        assert!((-0.1..LIMIT.as_secs_f64()).contains(&age), "it started {age} s ago");
    }
}

#[test]
fn prometheus_keeps_the_exemplars() {
    let server = traced();
    let Some(prometheus) = Prometheus::start(&server) else { return };
    let deadline = Instant::now() + LIMIT;
    for family in ["corymb_request_duration_seconds_bucket", "http_server_request_duration_seconds_bucket"] {
        loop {
            let found = prometheus.get("query_exemplars", family, "&start=0&end=9999999999");
            let series = found.as_array().map_or(&[][..], Vec::as_slice).iter();
            let traces = series.flat_map(|series| series["exemplars"].as_array().cloned().unwrap_or_default());
            let traces: Vec<String> =
                traces.filter_map(|exemplar| Some(exemplar["labels"]["trace_id"].as_str()?.to_owned())).collect();
            assert!(!traces.iter().any(|trace| trace == UNSAMPLED), "{found}");
            if traces.iter().any(|trace| trace == SAMPLED) {
                break;
            }
            assert!(Instant::now() < deadline, "{family}: {found}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn the_parser_of_prometheus_python_client_reads_the_page() {
    let Some(mut python) = python(&["prometheus_client.openmetrics.parser"]) else { return };
    let server = traced();
    let script = root().join("tests/clients/openmetrics.py");
    succeeds(python.arg(script).arg(server.url("/metrics")).arg(SAMPLED));
}
