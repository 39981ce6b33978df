//! Models in processes of their own: what ends one costs its own request, and neither the server nor a neighbour.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Server, folder, onnxruntime_environment, root};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(root().join(format!("tests/fixtures/models/{name}.onnx"))).expect("a model")
}

/// A request to the model of frames: sixteen samples, in frames of so many. None end the process.
fn frames(server: &Server, length: i64) -> Answer {
    let samples: Vec<f32> = (0_u8..16).map(f32::from).collect();
    let inputs = json!([
        { "name": "x", "datatype": "FP32", "shape": [1, 16, 1], "data": samples },
        { "name": "less", "datatype": "INT64", "shape": [], "data": [8 - length] },
    ]);
    let body = json!({ "inputs": inputs }).to_string();
    server.post("/v2/models/frames/infer", "application/json", body.as_bytes())
}

fn shape(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["outputs"][0]["shape"].clone()
}

fn serve(models: &Path, prefix: &str, more: &[&str]) -> Server {
    let models = models.to_string_lossy();
    let arguments = [&["--backend", "onnxruntime", "--model-dir", &models][..], more].concat();
    Server::start_with(&arguments, &[("VIRTUAL_ENV", prefix)])
}

/// The number behind a counter's name and attributes.
fn crashes(server: &Server) -> f64 {
    let page = server.get("/metrics").text();
    let lines = page.lines().filter(|line| line.starts_with("corymb_instance_crashes"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn what_no_guard_keeps_from_ending_the_process_ends_its_own() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let models = folder(&[("frames/frames.onnx", &fixture("frames")), ("linear/linear.onnx", &fixture("linear"))]);
    let server = serve(models.path(), &prefix, &[]);
    let said = server.event(|event| event["message"].as_str().is_some_and(|text| text.contains("process of its own")));
    assert!(said.to_string().contains("'transform' (STFT)"), "{said}");
    assert_eq!(shape(&frames(&server, 8)), json!([1, 3, 5, 2]));
    std::thread::scope(|scope| {
        // A neighbour in the server's own process, all the while.
        let neighbour = scope.spawn(|| {
            let inputs = json!([{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0] }]);
            let body = json!({ "inputs": inputs }).to_string();
            let ask = |_| server.post("/v2/models/linear/infer", "application/json", body.as_bytes()).status;
            (0..200).map(ask).collect::<Vec<u16>>()
        });
        for _ in 0..2 {
            let crashed = frames(&server, 0);
            assert_eq!(crashed.status, 500, "{}", crashed.text());
            assert!(crashed.error().contains("its process ended while it ran the request"), "{}", crashed.text());
            assert_eq!(shape(&frames(&server, 4)), json!([1, 4, 3, 2]));
        }
        assert_eq!(neighbour.join().expect("answered"), [200; 200]);
    });
    assert!((crashes(&server) - 2.0).abs() < f64::EPSILON, "{}", crashes(&server));
    let logged = server.event(|event| event["level"] == "ERROR");
    assert!(logged.to_string().contains("signal 8 (SIGFPE)"), "{logged}");
}

#[test]
fn one_that_ends_again_and_again_is_not_started_as_often() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let manifest = b"[instances]\ncount = 1";
    let models = folder(&[("frames/frames.onnx", &fixture("frames")), ("frames/model.toml", manifest)]);
    let server = serve(models.path(), &prefix, &[]);
    let refused = (0..40).find_map(|_| Some(frames(&server, 0)).filter(|answer| answer.status == 503));
    let refused = refused.expect("it is started again and again");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.error().contains("is started again in"), "{}", refused.text());
    let until = Instant::now() + Duration::from_secs(40);
    while frames(&server, 8).status != 200 {
        assert!(Instant::now() < until, "it does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn any_model_of_any_engine_may_be_kept_apart() {
    let cases = root().join("tests/fixtures/zoo/cases");
    let manifest = b"[instances]\nisolation = \"process\"\ncount = 1";
    let engines = [Some(("tract", String::new())), onnxruntime_environment().map(|prefix| ("onnxruntime", prefix))];
    for (engine, prefix) in engines.into_iter().flatten() {
        let model = std::fs::read(cases.join("gru_bidirectional.onnx")).expect("a model");
        let text = fixture("identity_bytes");
        let mut files: Vec<(&str, &[u8])> = vec![("gru/gru.onnx", &model), ("gru/model.toml", manifest)];
        let has_text = engine == "onnxruntime";
        if has_text {
            files.extend([("echo/echo.onnx", &text[..]), ("echo/model.toml", manifest)]);
        }
        let models = folder(&files);
        let models = models.path().to_string_lossy().into_owned();
        let server = Server::start_with(&["--backend", engine, "--model-dir", &models], &[("VIRTUAL_ENV", &prefix)]);
        let described: Value =
            serde_json::from_slice(&std::fs::read(cases.join("gru_bidirectional.json")).expect("requests"))
                .expect("JSON");
        for request in described["requests"].as_array().expect("requests") {
            let body = json!({ "inputs": request["inputs"] }).to_string();
            let answer = server.post("/v2/models/gru/infer", "application/json", body.as_bytes());
            assert_eq!(answer.status, 200, "{engine}: {}", answer.text());
            for expected in request["outputs"].as_array().expect("outputs") {
                let outputs = answer.json()["outputs"].clone();
                let given = outputs.as_array().expect("outputs").iter().find(|given| given["name"] == expected["name"]);
                let numbers = |tensor: &Value| -> Vec<f64> {
                    tensor["data"].as_array().expect("data").iter().filter_map(Value::as_f64).collect()
                };
                let (given, expected) = (numbers(given.expect("the output")), numbers(expected));
                let close = given.len() == expected.len()
                    && given.iter().zip(&expected).all(|(one, two)| (one - two).abs() < 1e-4);
                assert!(close, "{engine}: {given:?} {expected:?}");
            }
        }
        if has_text {
            let name = server.get("/v2/models/echo").json()["inputs"][0]["name"].clone();
            let inputs =
                json!([{ "name": name, "datatype": "BYTES", "shape": [2, 2], "data": ["", "zwei", "naïve", "4"] }]);
            let body = json!({ "inputs": inputs }).to_string();
            let answer = server.post("/v2/models/echo/infer", "application/json", body.as_bytes());
            assert_eq!(answer.json()["outputs"][0]["data"], json!(["", "zwei", "naïve", "4"]), "{}", answer.text());
        }
        // What the engine refuses is the caller's to know, as it is without a process between.
        let wrong = server.post("/v2/models/gru/infer", "application/json", br#"{"inputs": []}"#);
        assert_eq!(wrong.status, 400, "{}", wrong.text());
    }
}

/// What the system does to a process that writes too large a file, or that asks not to hear of its children, is not what happens.
#[test]
fn limits_and_signals_of_who_started_the_server_cost_a_request_at_most() {
    // One run for all rows of a request.
    let manifest = b"[instances]\nisolation = \"process\"\ncount = 1\n[batching]\nenabled = false";
    let models = folder(&[("echo/echo.onnx", &fixture("identity_fp32")), ("echo/model.toml", manifest)]);
    let models = models.path().to_string_lossy().into_owned();
    // 512 blocks of 512 bytes; the tensors of a process are in a file.
    let server = Server::start_after("trap '' CHLD && ulimit -f 512", &["--backend", "tract", "--model-dir", &models]);
    let ask = |rows: usize| {
        let inputs = json!([{ "name": "x", "datatype": "FP32", "shape": [rows, 2], "data": vec![1.5; 2 * rows] }]);
        server.post("/v2/models/echo/infer", "application/json", json!({ "inputs": inputs }).to_string().as_bytes())
    };
    for _ in 0..2 {
        assert_eq!(ask(2).status, 200, "{}", ask(2).text());
        let large = ask(100_000);
        assert_eq!(large.status, 500, "{} bytes", large.text().len());
        assert_eq!(ask(2).status, 200, "{}", ask(2).text());
        let child = *children_of(server.id()).first().expect("a child");
        signal(&[child], "KILL");
        ensure_gone(&[child]);
    }
}

#[test]
fn what_may_end_the_process_is_tried_in_another_once() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let model = std::fs::read(root().join("tests/fixtures/zoo/cases/gru_bidirectional.onnx")).expect("a model");
    let (models, cache) = (folder(&[("gru/gru.onnx", &model)]), folder(&[]));
    let kept = cache.path().to_string_lossy().into_owned();
    let is_trial =
        |event: &Value| event["message"].as_str().is_some_and(|text| text.contains("came through its trial"));
    for trials in [1, 0] {
        let server = serve(models.path(), &prefix, &["--cache", &kept]);
        assert_eq!(server.events().into_iter().filter(is_trial).count(), trials);
    }
    // And not at all where the manifest says so.
    let manifest = b"[instances]\nisolation = \"thread\"";
    let models = folder(&[("gru/gru.onnx", &model), ("gru/model.toml", manifest)]);
    let cache = folder(&[]);
    let server = serve(models.path(), &prefix, &["--cache", &cache.path().to_string_lossy()]);
    assert_eq!(server.events().into_iter().filter(is_trial).count(), 0);
}

#[test]
fn one_that_ends_while_nobody_asks_is_missed_by_nobody() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let models = folder(&[("frames/frames.onnx", &fixture("frames"))]);
    let server = serve(models.path(), &prefix, &[]);
    assert_eq!(shape(&frames(&server, 8)), json!([1, 3, 5, 2]));
    let children = children_of(server.id());
    signal(&children, "KILL");
    ensure_gone(&children);
    assert_eq!(shape(&frames(&server, 8)), json!([1, 3, 5, 2]));
    let (counted, ended) = (crashes(&server), children.len() as f64);
    assert!((counted - ended).abs() < f64::EPSILON, "{counted} of {ended}");
}

#[test]
fn a_process_that_does_nothing_costs_the_time_of_one_run() {
    let manifest =
        b"[instances]\nisolation = \"process\"\ncount = 1\nrun_timeout = \"1s\"\n[batching]\nenabled = false";
    let models = folder(&[("echo/echo.onnx", &fixture("identity_fp32")), ("echo/model.toml", manifest)]);
    let models = models.path().to_string_lossy().into_owned();
    let server = Server::start_with(&["--backend", "tract", "--model-dir", &models], &[]);
    let ask = || {
        let inputs = json!([{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5] }]);
        let begin = Instant::now();
        let body = json!({ "inputs": inputs }).to_string();
        (server.post("/v2/models/echo/infer", "application/json", body.as_bytes()), begin.elapsed())
    };
    assert_eq!(ask().0.status, 200);
    let children = children_of(server.id());
    signal(&children, "STOP");
    let (answer, took) = ask();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(took < Duration::from_secs(10), "{took:?}");
    ensure_gone(&children);
    let (answer, _) = ask();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Lists are not counted by the engine, so the system does.
#[test]
fn lists_as_long_as_a_value_says_take_no_more_than_a_run_may() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let model = std::fs::read(root().join("tests/fixtures/zoo/cases/places_of_a_count.onnx")).expect("a model");
    let models = folder(&[("places/model.onnx", &model)]);
    let server = serve(models.path(), &prefix, &["--max-run-memory", "64MiB"]);
    let ask = |limit: usize| {
        let inputs = json!([{ "name": "limit", "datatype": "INT64", "shape": [], "data": [limit] }]);
        let body = json!({ "inputs": inputs }).to_string();
        server.post("/v2/models/places/infer", "application/json", body.as_bytes())
    };
    for _ in 0..2 {
        assert_eq!(ask(10).json()["outputs"][0]["data"], json!([10]));
        // 48 MB of numbers, and ten times as much for the list.
        let answer = ask(6_000_000);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.error().contains("more memory than there is"), "{}", answer.text());
    }
}

/// Models are loaded at the least priority, which children must not keep.
#[test]
fn children_have_the_priority_of_their_server() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let models = folder(&[("frames/frames.onnx", &fixture("frames"))]);
    let server = serve(models.path(), &prefix, &[]);
    let niceness = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
        stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(16)).map(str::to_owned)
    };
    let children = children_of(server.id());
    assert!(!children.is_empty(), "there is one");
    for child in children {
        assert_eq!(niceness(child), niceness(server.id()));
    }
}

/// They end with the server, however it ends.
#[test]
fn no_process_outlives_its_server() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let models = folder(&[("frames/frames.onnx", &fixture("frames"))]);
    for (ends, stopped) in [("TERM", false), ("KILL", false), ("KILL", true)] {
        let mut server = serve(models.path(), &prefix, &[]);
        let children = children_of(server.id());
        assert!(!children.is_empty(), "there is one");
        // One that is stopped sees nothing of its socket.
        if stopped {
            signal(&children, "STOP");
        }
        server.signal(ends);
        server.wait();
        ensure_gone(&children);
    }
}

fn signal(processes: &[u32], name: &str) {
    let ids = processes.iter().map(u32::to_string);
    let sent = std::process::Command::new("kill").arg(format!("-{name}")).args(ids).status().expect("kill runs");
    assert!(sent.success());
}

/// Waits until these processes have ended.
fn ensure_gone(children: &[u32]) {
    let until = Instant::now() + Duration::from_secs(10);
    while children.iter().any(|id| is_there(*id)) {
        assert!(Instant::now() < until, "{children:?} go on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stat(id: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, of)| of == parent)).collect()
}

/// Whether any of its threads goes on: the first may have ended before the others.
fn is_there(id: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    threads > 1 || stat(id).is_some_and(|(state, _)| state != "Z")
}
