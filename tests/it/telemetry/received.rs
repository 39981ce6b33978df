//! Every signal of every way in, as the Collector received it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{PREDICT, SOON, grpc_picture};
use crate::collector::{Collector, Received, attribute, binary, points};
use crate::harness::{Server, folder, picture, root, send};

/// Sampled traces of three callers, one for each way in.
const TRACES: [&str; 3] =
    ["0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c", "2af7651916cd43dd8448eb211c80319c"];
const CALLER: &str = "00f067aa0ba902b7";

/// Three predictions in three traces, and two that fail.
fn speak(server: &Server) {
    let traceparent = format!("00-{}-{CALLER}-01", TRACES[0]);
    let with = |name: &str, value: &str, path: &str, body: &[u8]| {
        send(&server.url(path), "POST", &[("content-type", "image/jpeg"), (name, value)], body).status
    };
    assert_eq!(with("traceparent", &traceparent, PREDICT, &picture()), 200);
    let single = format!("{}-{CALLER}-1", TRACES[1]);
    assert_eq!(with("b3", &single, "/v2/models/flowers-sample/infer", &picture()), 200);
    grpc_picture(server.url(""), &format!("00-{}-{CALLER}-01", TRACES[2]));
    assert_eq!(with("x-request-id", "bad", PREDICT, b"no picture"), 400);
    let trap = json!({"parameters": {"do": "trap"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]});
    assert_eq!(server.post("/v2/models/hostile/infer", "application/json", trap.to_string().as_bytes()).status, 500);
    let grow = trap.to_string().replace("trap", "grow");
    assert_eq!(server.post("/v2/models/hostile/infer", "application/json", grow.as_bytes()).status, 500);
}

fn hostile() -> tempfile::TempDir {
    let fixture = |path: &str| std::fs::read(root().join("tests/fixtures").join(path)).expect(path);
    folder(&[
        ("model.onnx", &fixture("models/identity_fp32.onnx")),
        ("hostile.wasm", &fixture("plugins/hostile.wasm")),
        ("model.toml", b"[plugin]\nfile = 'hostile.wasm'\n"),
    ])
}

fn push_by(transport: &str, endpoint: &str, more: &[(&str, &str)]) -> Received {
    let Some(collector) = Collector::start() else { unreachable!("the caller has asked") };
    let endpoint = if endpoint == "grpc" { collector.grpc.clone() } else { collector.http.clone() };
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", transport),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("K_SERVICE", "flowers"),
        ("K_REVISION", "flowers-00001"),
        ("POD_NAME", "flowers-00001-abc"),
        ("POD_NAMESPACE", "models"),
    ];
    variables.extend(SOON);
    variables.extend(more);
    let hostile = hostile();
    let flowers = format!("flowers-sample={}", crate::harness::flowers().display());
    let arguments = ["--model", &flowers, "--model", &format!("hostile={}", hostile.path().display())];
    let mut server = Server::start_with(&arguments, &variables);
    speak(&server);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    // The flush at exit is part of it: nothing is waited for here.
    collector.received()
}

#[test]
fn the_collector_sees_every_signal_by_http() {
    if binary().is_some() {
        // No interval ends while it serves: all of it is in the last push, after the models are gone.
        let rarely = ("OTEL_METRIC_EXPORT_INTERVAL", "60000");
        let received = push_by("http/protobuf", "http", &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), rarely]);
        assert!(received.metric("corymb.instance.count").is_empty(), "there are no instances any more");
        see_every_signal(&received, &INSTRUMENTS[1..]);
    }
}

#[test]
fn the_collector_sees_every_signal_by_grpc() {
    if binary().is_some() {
        let received = push_by("grpc", "grpc", &[("OTEL_EXPORTER_OTLP_HEADERS", "x-team=models")]);
        see_every_signal(&received, &INSTRUMENTS);
    }
}

fn see_every_signal(received: &Received, instruments: &[Instrument]) {
    see_the_resource(received);
    see_every_instrument(received, instruments);
    for (trace, way) in TRACES.iter().zip(["V1", "V2", "gRPC"]) {
        see_the_trace(received, trace, way);
        see_the_log(received, trace, way);
    }
}

fn see_the_resource(received: &Received) {
    let resources = received.resources();
    assert!(resources.len() >= 3, "one for each signal");
    for resource in resources {
        for (name, value) in [
            ("service.name", "flowers"),
            ("service.instance.id", "flowers-00001-abc"),
            ("k8s.pod.name", "flowers-00001-abc"),
            ("k8s.namespace.name", "models"),
            ("kn.service.name", "flowers"),
            ("kn.revision.name", "flowers-00001"),
            ("deployment.environment.name", "test"),
            ("telemetry.sdk.language", "rust"),
        ] {
            assert_eq!(attribute(resource, name).as_deref(), Some(value), "{name} in {resource}");
        }
    }
}

/// Name, unit, kind, attributes.
type Instrument = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// The first is of what serves, and gone with it.
const INSTRUMENTS: [Instrument; 28] = [
    ("corymb.instance.count", "{instance}", "gauge", &["backend", "device", "model", "state", "version"]),
    ("corymb.request.in_flight", "{request}", "gauge", &["model"]),
    ("corymb.request.concurrency.time", "s", "sum", &["model"]),
    ("corymb.server.in_flight", "{request}", "gauge", &[]),
    ("corymb.server.concurrency.time", "s", "sum", &[]),
    ("corymb.request.duration", "s", "histogram", &["model", "outcome", "protocol", "version"]),
    ("corymb.stage.duration", "s", "histogram", &["model", "stage", "version"]),
    ("corymb.queue.depth", "{request}", "gauge", &["model"]),
    ("corymb.batch.size", "{request}", "histogram", &["backend", "device", "model", "version"]),
    ("corymb.instance.busy.time", "s", "sum", &["backend", "device", "model", "version"]),
    ("corymb.build.info", "", "gauge", &["backends", "rustc", "version"]),
    ("process.cpu", "s", "sum", &[]),
    ("process.resident_memory", "By", "gauge", &[]),
    ("process.virtual_memory", "By", "gauge", &[]),
    ("process.start_time", "s", "gauge", &[]),
    ("process.threads", "", "gauge", &[]),
    ("process.open_fds", "", "gauge", &[]),
    ("process.max_fds", "", "gauge", &[]),
    ("corymb.model.saturation", "1", "gauge", &["model"]),
    ("corymb.server.saturation", "1", "gauge", &[]),
    ("corymb.model.state", "", "gauge", &["model", "state", "version"]),
    ("corymb.model.load.duration", "s", "histogram", &["model", "outcome", "version"]),
    ("corymb.plugin.memory", "By", "gauge", &["model"]),
    ("corymb.plugin.traps", "{trap}", "sum", &["model"]),
    ("corymb.plugin.limits", "{limit}", "sum", &["model"]),
    (
        "http.server.request.duration",
        "s",
        "histogram",
        &["http.request.method", "http.response.status_code", "network.protocol.version", "url.scheme"],
    ),
    ("http.server.active_requests", "{request}", "sum", &["http.request.method", "url.scheme"]),
    ("rpc.server.call.duration", "s", "histogram", &["rpc.method", "rpc.response.status_code", "rpc.system.name"]),
];

fn see_every_instrument(received: &Received, instruments: &[Instrument]) {
    for &(name, unit, kind, attributes) in instruments {
        let reports = received.metric(name);
        let last = reports.last().unwrap_or_else(|| panic!("{name} was not pushed"));
        assert_eq!(last["unit"].as_str().unwrap_or_default(), unit, "{name}");
        let (pushed, points) = points(last);
        assert_eq!(pushed, kind, "{name}");
        assert!(!points.is_empty(), "{name}");
        for point in points {
            let keys = point["attributes"].as_array().map_or(&[][..], Vec::as_slice).iter();
            let keys: BTreeSet<&str> = keys.filter_map(|attribute| attribute["key"].as_str()).collect();
            assert_eq!(keys, attributes.iter().copied().collect(), "{name}");
        }
    }
    // Each version is a report of its own.
    let reports = received.metric("corymb.stage.duration");
    let stages = reports.iter().flat_map(|report| points(report).1);
    let stages: BTreeSet<String> = stages.filter_map(|point| attribute(point, "stage")).collect();
    assert_eq!(stages, ["decode", "encode", "infer", "postprocess", "preprocess", "queue"].map(str::to_owned).into());
}

/// The spans of a request nest as it went through the rooms.
fn see_the_trace(received: &Received, trace: &str, way: &str) {
    let spans: Vec<&Value> = received.spans().into_iter().filter(|span| span["traceId"] == trace).collect();
    let roots: Vec<&&Value> = spans.iter().filter(|span| span["parentSpanId"] == CALLER).collect();
    let [root] = roots[..] else { panic!("{way}: one span below the caller's, not {roots:?}") };
    assert_eq!(root["kind"], 2, "{way}: a server's span");
    let name = match way {
        "V1" => "POST /v1/models/{model}:predict",
        "V2" => "POST /v2/models/{model}/infer",
        _ => "inference.GRPCInferenceService/ModelInfer",
    };
    assert_eq!(root["name"], name);
    assert_eq!(attribute(root, "model").as_deref(), Some("flowers-sample"));
    match way {
        "gRPC" => assert_eq!(attribute(root, "rpc.response.status_code").as_deref(), Some("OK")),
        _ => assert_eq!(attribute(root, "http.response.status_code").as_deref(), Some("200")),
    }

    let time =
        |span: &Value, what: &str| span[what].as_str().and_then(|text| text.parse::<u64>().ok()).expect("a time");
    let below = |parent: &Value| -> BTreeMap<&str, &Value> {
        let children: Vec<&&Value> = spans.iter().filter(|span| span["parentSpanId"] == parent["spanId"]).collect();
        for child in &children {
            let within = time(parent, "startTimeUnixNano") <= time(child, "startTimeUnixNano")
                && time(child, "endTimeUnixNano") <= time(parent, "endTimeUnixNano");
            assert!(within, "{way}: {child} lies outside of {parent}");
        }
        children.into_iter().map(|child| (child["name"].as_str().unwrap_or_default(), *child)).collect()
    };
    let rooms = below(root);
    assert_eq!(rooms.keys().copied().collect::<Vec<_>>(), ["decode", "encode", "predict"], "{way}");
    let predict = rooms["predict"];
    assert_eq!(attribute(predict, "backend").as_deref(), Some("tract"));
    assert_eq!(attribute(predict, "device").as_deref(), Some("cpu"));
    let stages = below(predict);
    assert_eq!(stages.keys().copied().collect::<Vec<_>>(), ["infer", "postprocess", "preprocess", "queue"], "{way}");
    let ends = |name: &str| time(stages[name], "endTimeUnixNano");
    let starts = |name: &str| time(stages[name], "startTimeUnixNano");
    assert!(ends("preprocess") <= starts("infer") && ends("infer") <= starts("postprocess"), "{way}: {stages:?}");
}

/// The access log's line is in its request's trace, at its request's span.
fn see_the_log(received: &Received, trace: &str, way: &str) {
    let logs = received.logs();
    let record = logs.iter().find(|record| record["traceId"] == trace);
    let record = record.unwrap_or_else(|| panic!("{way}: no record of {trace}"));
    assert_eq!(record["body"]["stringValue"], "request");
    assert_eq!(record["severityText"], "INFO");
    assert_eq!(attribute(record, "model").as_deref(), Some("flowers-sample"));
    let spans = received.spans();
    let root = spans.iter().find(|span| span["traceId"] == trace && span["parentSpanId"] == CALLER);
    assert_eq!(record["spanId"], root.expect("seen above")["spanId"]);
}

#[test]
fn unsampled_requests_leave_no_span_and_have_a_trace_id() {
    let Some(collector) = Collector::start() else { return };
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http.as_str()),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    variables.extend(SOON);
    let mut server = Server::start_with(&[], &variables);
    for _ in 0..20 {
        assert_eq!(server.post(PREDICT, "image/jpeg", &picture()).status, 200);
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let received = collector.received();
    assert_eq!(received.spans(), Vec::<&Value>::new());
    let requests: Vec<&Value> =
        received.logs().into_iter().filter(|record| record["body"]["stringValue"] == "request").collect();
    assert_eq!(requests.len(), 20);
    assert!(requests.iter().all(|record| record["timeUnixNano"].is_string()));
    assert!(requests.iter().all(|record| record["traceId"].as_str().is_some_and(|id| id.len() == 32)));
}
