//! The alerts: the template that `corymb manifest` prints is made from them, promtool sees each of them fire and keep silent, and
//! a real Prometheus that scrapes a real server has what they ask for.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use serde_json::json;
use tonic::transport::Channel;

use crate::dashboards::Prometheus;
use crate::harness::{LIMIT, Server, SetOnDrop, flowers, folder, onnxruntime_environment, picture, root, skip};

const RULES: &str = "deploy/telemetry/rules.yaml";
const TESTS: &str = "deploy/telemetry/rules_test.yaml";
const TEMPLATE: &str = "runtime/cli/src/commands/manifest/rules.yaml";
/// Set to make the template anew.
const WRITE: &str = "CORYMB_WRITE_RULES";

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// The rules as the Prometheus operator takes them.
fn template() -> String {
    let mut template = "\
# Alerts on Corymb, for the Prometheus operator: it reads a PrometheusRule where the `ruleSelector` of a Prometheus selects it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ${name}
  namespace: ${namespace}
spec:
"
    .to_owned();
    let rules = text(RULES);
    for line in rules.lines().skip_while(|line| *line != "groups:") {
        assert!(!line.contains("${"), "the template would take it for a placeholder: {line}");
        template += &if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    }
    template
}

#[test]
fn the_template_is_made_from_the_rules() {
    let path = root().join(TEMPLATE);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, template()).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == template(), "{TEMPLATE} is not what {RULES} says; `just rules` makes it anew");
}

#[test]
fn promtool_sees_each_alert_fire_and_keep_silent() {
    let tests = text(TESTS);
    for (alert, _) in alerts() {
        let name = format!("alertname: {alert}\n");
        let parts = tests.split(name.as_str()).skip(1);
        let fires: Vec<bool> = parts.map(|part| part.trim_start().starts_with("exp_alerts:\n")).collect();
        assert!(fires.contains(&true) && fires.contains(&false), "{alert} is not tested both ways: {fires:?}");
    }
    for arguments in [["check", "rules", RULES], ["test", "rules", TESTS]] {
        let Ok(checked) = Command::new("promtool").args(arguments).current_dir(root()).output() else {
            return skip("promtool, a part of Prometheus, is not installed");
        };
        let said = [checked.stdout, checked.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(checked.status.success(), "{arguments:?}: {said}");
    }
}

/// The alerts with what they ask.
fn alerts() -> Vec<(String, String)> {
    let rules = text(RULES);
    let mut alerts: Vec<(String, String)> = Vec::new();
    let mut within = false;
    for line in rules.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            alerts.push((alert.to_owned(), String::new()));
        }
        // The expression is what is indented deeper than its key.
        within = line.starts_with("        expr: |-") || (within && line.starts_with("          "));
        if let Some((_, expr)) = alerts.last_mut().filter(|_| within && !line.contains("expr:")) {
            *expr += line.trim();
            expr.push(' ');
        }
    }
    assert!(alerts.len() >= 9 && alerts.iter().all(|(_, expr)| expr.contains(" > ")), "{alerts:?}");
    alerts
}

/// What an alert compares with its threshold, of the last ten seconds.
fn compared(expr: &str) -> String {
    let short = ["[5m]", "[10m]", "[30m]"].iter().fold(expr.to_owned(), |expr, range| expr.replace(range, "[10s]"));
    let mut words: Vec<&str> = short.split(' ').collect();
    while let Some(at) = words.iter().position(|word| *word == ">") {
        assert!(words[at + 1].parse::<f64>().is_ok(), "{expr}");
        words.drain(at..at + 2);
    }
    words.join(" ")
}

/// Models of every fate: one that is well, one whose plugin traps, one that cannot be loaded, and one that ends its process.
fn models() -> tempfile::TempDir {
    let fixture = |path: &str| std::fs::read(root().join("tests/fixtures").join(path)).expect(path);
    folder(&[
        ("hostile/model.onnx", &fixture("models/identity_fp32.onnx")),
        ("hostile/hostile.wasm", &fixture("plugins/hostile.wasm")),
        ("hostile/model.toml", b"[plugin]\nfile = 'hostile.wasm'\n"),
        ("broken/model.onnx", b"no model"),
        ("frames/frames.onnx", &fixture("models/frames.onnx")),
    ])
}

/// More than the server takes, by gRPC.
fn too_large(url: String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("connects");
        let message = ModelInferRequest { raw_input_contents: vec![vec![0; 2 << 20].into()], ..Default::default() };
        let refused = GrpcInferenceServiceClient::new(channel).model_infer(message).await.expect_err("too large");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    });
}

/// Something of each kind happens once.
fn happen(server: &Server, crashes: bool) {
    // The places may not be free again yet.
    let answered = |path: &str, kind: &str, body: &[u8]| loop {
        let status = server.post(path, kind, body).status;
        if status != 429 {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let post = |path: &str, body: String| answered(path, "application/json", body.as_bytes());
    assert_eq!(answered("/v1/models/flowers-sample:predict", "image/jpeg", &picture()), 200);
    let trap = json!({"parameters": {"do": "trap"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]});
    assert_eq!(post("/v2/models/hostile/infer", trap.to_string()), 500);
    if crashes {
        let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [1, 16, 1], "data": vec![0.5; 16]},
            {"name": "less", "datatype": "INT64", "shape": [], "data": [8]}]);
        // A child that ends again and again is started again a little later, and until then nobody answers.
        let crashed = post("/v2/models/frames/infer", json!({ "inputs": inputs }).to_string());
        assert!([500, 503].contains(&crashed), "{crashed}");
    }
    too_large(server.url(""));
    // Whoever begins to send holds a place.
    let begin = |_| {
        let mut stream = TcpStream::connect(&server.address).expect("connects");
        let head = "POST /v1/models/flowers-sample:predict HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    };
    let holding: Vec<TcpStream> = (0..PLACES).map(begin).collect();
    std::thread::sleep(Duration::from_millis(50));
    let _ = server.post("/v1/models/flowers-sample:predict", "image/jpeg", &picture());
    drop(holding);
}

const PLACES: usize = 4;

#[test]
fn every_alert_asks_for_what_is_there() {
    let (models, prefix) = (models(), onnxruntime_environment());
    if prefix.is_none() {
        std::fs::remove_dir_all(models.path().join("frames")).expect("removed");
    }
    let (flowers, directory) = (format!("flowers-sample={}", flowers().display()), models.path().to_string_lossy());
    let places = PLACES.to_string();
    let limits = ["--keep-going", "--max-body", "1MiB", "--max-in-flight", &places];
    let arguments = [&["--model", flowers.as_str(), "--model-dir", &directory][..], &limits].concat();
    let variables: Vec<(&str, &str)> = prefix.iter().map(|prefix| ("VIRTUAL_ENV", prefix.as_str())).collect();
    let server = Server::start_with(&arguments, &variables);
    let Some(prometheus) = Prometheus::start(&server) else { return };
    let mut waiting: Vec<(String, String)> =
        alerts().into_iter().map(|(alert, expr)| (alert, compared(&expr))).collect();
    if prefix.is_none() {
        waiting.retain(|(_, query)| !query.contains("corymb_instance_crashes_total"));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _stop = SetOnDrop(&done);
        threads.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                happen(&server, prefix.is_some());
            }
        });
        let deadline = Instant::now() + LIMIT;
        while !waiting.is_empty() && Instant::now() < deadline {
            waiting.retain(|(_, query)| !prometheus.answers(query));
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    assert!(waiting.is_empty(), "without data: {waiting:#?}");
}
