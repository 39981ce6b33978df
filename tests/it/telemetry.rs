//! What the server pushes by OTLP: seen by the real Collector, agreeing with the page, and never in the way of serving.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::collector::{Collector, Received, attribute, binary, free_port, points};
use crate::harness::{LIMIT, Server, SetOnDrop, agent, folder, picture, root, send, try_send};
use crate::signals::sample;

const PREDICT: &str = "/v1/models/flowers-sample:predict";

/// Sampled traces of three callers, one for each way in.
const TRACES: [&str; 3] =
    ["0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c", "2af7651916cd43dd8448eb211c80319c"];
const CALLER: &str = "00f067aa0ba902b7";

/// Soon enough for a test.
const SOON: [(&str, &str); 3] =
    [("OTEL_METRIC_EXPORT_INTERVAL", "300"), ("OTEL_BSP_SCHEDULE_DELAY", "100"), ("OTEL_BLRP_SCHEDULE_DELAY", "100")];

/// One picture by gRPC, in the trace of that `traceparent`.
pub(crate) fn grpc_picture(url: String, traceparent: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("connects");
        let mut client = GrpcInferenceServiceClient::new(channel);
        let image = picture();
        let element = [&u32::try_from(image.len()).expect("short").to_le_bytes()[..], &image].concat();
        let mut request = tonic::Request::new(ModelInferRequest {
            model_name: "flowers-sample".to_owned(),
            inputs: vec![InferInputTensor {
                name: "image_bytes".to_owned(),
                datatype: "BYTES".to_owned(),
                shape: vec![1],
                ..Default::default()
            }],
            raw_input_contents: vec![element.into()],
            ..Default::default()
        });
        request.set_timeout(LIMIT);
        request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
        client.model_infer(request).await.expect("answered");
    });
}

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
        see_every_signal(&push_by("http/protobuf", "http", &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]));
    }
}

#[test]
fn the_collector_sees_every_signal_by_grpc() {
    if binary().is_some() {
        see_every_signal(&push_by("grpc", "grpc", &[("OTEL_EXPORTER_OTLP_HEADERS", "x-team=models")]));
    }
}

fn see_every_signal(received: &Received) {
    see_the_resource(received);
    see_every_instrument(received);
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
const INSTRUMENTS: [(&str, &str, &str, &[&str]); 18] = [
    ("corymb.request.in_flight", "{request}", "gauge", &["model"]),
    ("corymb.request.concurrency.time", "s", "sum", &["model"]),
    ("corymb.server.in_flight", "{request}", "gauge", &[]),
    ("corymb.server.concurrency.time", "s", "sum", &[]),
    ("corymb.request.duration", "s", "histogram", &["model", "outcome", "protocol", "version"]),
    ("corymb.stage.duration", "s", "histogram", &["model", "stage", "version"]),
    ("corymb.queue.depth", "{request}", "gauge", &["model"]),
    ("corymb.batch.size", "{request}", "histogram", &["backend", "device", "model", "version"]),
    ("corymb.instance.busy.time", "s", "sum", &["backend", "device", "model", "version"]),
    ("corymb.model.saturation", "1", "gauge", &["model"]),
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

fn see_every_instrument(received: &Received) {
    for (name, unit, kind, attributes) in INSTRUMENTS {
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
    let stages = received.metric("corymb.stage.duration");
    let (_, stages) = points(stages.last().expect("seen above"));
    let stages: BTreeSet<String> = stages.iter().filter_map(|point| attribute(point, "stage")).collect();
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

/// The page read by two at different intervals, the push, and who sent the requests count the same.
#[test]
fn readers_exporter_and_clients_agree() {
    const CLIENTS: usize = 4;
    const EACH: usize = 25;
    let Some(collector) = Collector::start() else { return };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http.as_str());
    let mut server = Server::start_with(&[], &[endpoint, SOON[0], SOON[1], SOON[2]]);
    let integral = |page: &str| {
        sample(page, "corymb_request_concurrency_time_seconds_total", &[r#"model="flowers-sample""#]).expect("there")
    };
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (readings, seconds) = std::thread::scope(|threads| {
        let stop = SetOnDrop(&done);
        // Each adds up the differences that it sees, as a rate does.
        let readers: Vec<_> = [20, 170]
            .map(|milliseconds| {
                let (page, done) = (server.url("/metrics"), &done);
                threads.spawn(move || {
                    let (mut before, mut sum) = (0.0, 0.0);
                    loop {
                        let last = done.load(Ordering::SeqCst);
                        let now = integral(&send(&page, "GET", &[], &[]).text());
                        assert!(now >= before, "an integral never falls: {before}, then {now}");
                        sum += now - before;
                        before = now;
                        if last {
                            return sum;
                        }
                        std::thread::sleep(Duration::from_millis(milliseconds));
                    }
                })
            })
            .into();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (url, sent) = (server.url(PREDICT), &sent);
                threads.spawn(move || {
                    let agent = agent();
                    let mut busy = Duration::ZERO;
                    for _ in 0..EACH {
                        let begin = std::time::Instant::now();
                        let headers = [("content-type", "image/jpeg")];
                        let answer = try_send(&agent, &url, "POST", &headers, &picture());
                        busy += begin.elapsed();
                        assert_eq!(answer.expect("answered").status, 200);
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    busy
                })
            })
            .collect();
        let busy: Duration = clients.into_iter().map(|client| client.join().expect("no panic")).sum();
        drop(stop);
        let readings: Vec<f64> = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        (readings, busy.as_secs_f64())
    });
    let page = server.get("/metrics").text();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let received = collector.received();
    let last = |name: &str| {
        let reports = received.metric(name);
        points(reports.last().unwrap_or_else(|| panic!("{name}"))).1.to_vec()
    };
    let number =
        |value: &Value| value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok()).expect("a number");

    let sent = sent.load(Ordering::SeqCst) as f64;
    assert_eq!(sent, (CLIENTS * EACH) as f64);
    let labels = [r#"outcome="ok""#, r#"protocol="v1""#];
    assert_eq!(sample(&page, "corymb_request_duration_seconds_count", &labels), Some(sent), "the page");
    let pushed: f64 = last("corymb.request.duration").iter().map(|point| number(&point["count"])).sum();
    assert_eq!(pushed, sent, "the push");
    let pushed = last("http.server.request.duration");
    let posts = pushed.iter().filter(|point| attribute(point, "http.request.method").as_deref() == Some("POST"));
    assert_eq!(posts.map(|point| number(&point["count"])).sum::<f64>(), sent, "the push, of HTTP");

    let own = integral(&page);
    for reading in &readings {
        assert!((reading - own).abs() < 1e-9 * own.max(1.0), "{readings:?} against {own}");
    }
    let pushed = number(&last("corymb.request.concurrency.time")[0]["asDouble"]);
    assert!((pushed - own).abs() < 1e-9 * own.max(1.0), "{pushed} pushed, {own} on the page");
    // What clients waited is what was in flight, and the way to the server and back.
    assert!(own <= seconds, "{own} s in flight, clients waited {seconds} s");
}

/// What stands where the Collector should be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Down,
    Slow,
    Refuses,
}

/// Answers each request on its port with 503 until it is told to be well; a slow one answers nothing.
fn stand_in(fault: Fault, well: &Arc<AtomicBool>) -> u16 {
    if fault == Fault::Down {
        return free_port();
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let well = Arc::clone(well);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if fault == Fault::Slow {
                held.push(stream);
                continue;
            }
            let well = Arc::clone(&well);
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let mut bytes = vec![0; 1 << 20];
                // The body is of no interest; a pause is its end.
                while stream.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
                let status = if well.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            });
        }
    });
    port
}

fn resident(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", server.id())).expect("the process is there");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

fn lines(server: &Server, message: &str) -> BTreeMap<String, usize> {
    let mut by_signal = BTreeMap::new();
    for event in server.events() {
        if event["message"].as_str().is_some_and(|text| text.starts_with(message)) {
            *by_signal.entry(event["signal"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    by_signal
}

fn serve_without_a_collector(fault: Fault, transport: &str) {
    const FEW: usize = 3_000;
    let well = Arc::new(AtomicBool::new(false));
    let endpoint = format!("http://127.0.0.1:{}", stand_in(fault, &well));
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", transport),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "400"),
    ];
    variables.extend(SOON);
    let mut server = Server::start_with(&[], &variables);
    let agent = agent();
    let ask = |requests: usize| {
        for _ in 0..requests {
            let answer = try_send(&agent, &server.url("/v1/models/flowers-sample"), "GET", &[], &[]);
            assert_eq!(answer.expect("answered").status, 200);
        }
    };
    ask(FEW);
    let each: BTreeMap<String, usize> = ["logs", "metrics", "traces"].map(|signal| (signal.to_owned(), 1)).into();
    server.event(|_| lines(&server, "signals cannot be delivered") == each);
    let before = resident(&server);
    ask(3 * FEW);
    let grown = resident(&server).saturating_sub(before);
    // The queues were full before; a span and a record are a kilobyte each.
    assert!(grown < 6 << 20, "{fault:?}: {grown} bytes more after {} more requests", 3 * FEW);
    assert_eq!(server.post(PREDICT, "image/jpeg", &picture()).status, 200);
    assert_eq!(lines(&server, "signals cannot be delivered"), each, "{fault:?}: one line each");
    let complaints = server.events().into_iter().filter(|event| event["level"] == "WARN" || event["level"] == "ERROR");
    assert_eq!(complaints.count(), each.len(), "{fault:?}: and nobody else complains");
    assert_eq!(lines(&server, "signals are delivered again"), BTreeMap::new());
    if fault == Fault::Refuses {
        well.store(true, Ordering::SeqCst);
        ask(10);
        server.event(|_| lines(&server, "signals are delivered again") == each);
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{fault:?}: it ends by itself");
}

#[test]
fn a_collector_that_is_down_costs_nothing() {
    serve_without_a_collector(Fault::Down, "http/protobuf");
    serve_without_a_collector(Fault::Down, "grpc");
}

#[test]
fn a_collector_that_does_not_answer_costs_nothing() {
    serve_without_a_collector(Fault::Slow, "http/protobuf");
    serve_without_a_collector(Fault::Slow, "grpc");
}

#[test]
fn a_collector_that_refuses_costs_nothing() {
    serve_without_a_collector(Fault::Refuses, "http/protobuf");
}

#[test]
fn the_collector_accepts_its_configuration() {
    let Some(binary) = binary() else { return };
    let config = root().join("deploy/telemetry/collector.yaml");
    let checked = Command::new(binary).arg("validate").arg("--config").arg(config).output().expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
