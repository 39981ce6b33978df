//! `corymb bench` against the real server, over every protocol.

use serde_json::{Value, json};

use crate::harness::{Server, flowers, folder, root, run};

fn json_of(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn error_of(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The server's own count of requests, of all protocols.
fn counted(server: &Server) -> f64 {
    let page = server.get("/metrics").text();
    let lines = page.lines().filter(|line| line.starts_with("corymb_request_duration_seconds_count{"));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn every_protocol_is_answered_and_counted_alike() {
    let server = Server::start(&[]);
    let url = server.url("");
    for protocol in ["v1", "v2", "v2-binary", "picture", "grpc"] {
        let before = counted(&server);
        let result =
            json_of(&["bench", &url, "--protocol", protocol, "-c", "2", "-d", "500ms", "--warm-up", "0s", "--json"]);
        let report = &result["report"];
        assert_eq!(result["protocol"], protocol);
        assert_eq!(result["model"], "flowers-sample");
        assert_eq!(report["failed"], json!({}), "{protocol}: {report}");
        let answered = report["answered"].as_f64().expect("a number");
        assert!(answered >= 1.0 && report["requests"] == report["answered"], "{protocol}: {report}");
        // One more was sent to see that the request is understood.
        let seen = counted(&server) - before;
        assert!((seen - answered - 1.0).abs() < 0.5, "{protocol}: the server counted {seen}, the generator {answered}");
        assert!(report["concurrency"].as_f64().is_some_and(|concurrency| concurrency <= 2.0), "{report}");
    }
}

#[test]
fn a_rate_is_kept_and_files_are_sent_in_turn() {
    let server = Server::start(&[]);
    let picture = flowers().join("warmup/image_bytes.jpg");
    let v1 = json!({"instances": [{"image_bytes": {"b64": "/9j/"}}]}).to_string();
    let files = folder(&[("v1.json", v1.as_bytes())]);
    let url = server.url("");
    let picture = picture.to_string_lossy().into_owned();
    let result = json_of(&[
        "bench",
        &url,
        "--data",
        &picture,
        "--data",
        &picture,
        "--rate",
        "20",
        "-d",
        "1s",
        "--warm-up",
        "0s",
        "--json",
    ]);
    assert_eq!(result["report"]["requests"], 20);
    assert_eq!(result["mode"]["open"]["rate"], 20.0);
    assert!(result["report"]["lateness"]["max_ms"].is_number());
    // A refused request ends the run before it begins, in the server's words.
    let broken = files.path().join("v1.json").to_string_lossy().into_owned();
    let error = error_of(&["bench", &url, "--data", &broken]);
    assert!(error.contains("refused the request: 400"), "{error}");
    let error = error_of(&["bench", &url, "--data", &picture, "--data", &broken]);
    assert!(error.contains("a load is of one protocol"), "{error}");
}

#[test]
fn a_model_is_served_for_the_time() {
    let model = root().join("tests/fixtures/models/identity_fp32.onnx");
    let model = format!("identity={}", model.display());
    let result =
        json_of(&["bench", "--model", &model, "--batch", "3", "-c", "1", "-d", "300ms", "--warm-up", "0s", "--json"]);
    assert_eq!(result["model"], "identity");
    assert!(result["report"]["answered"].as_u64().is_some_and(|answered| answered > 0), "{result}");
    let output = run(&["bench", "--model", &model, "-c", "1", "-d", "2s", "--warm-up", "0s"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["identity at http://127.0.0.1:", "v2-binary", "closed loop of 1 callers", "p99.9"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Without a terminal the view is lines.
    assert!(String::from_utf8_lossy(&output.stderr).contains("in flight 1"), "{output:?}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (arguments, words) in [
        (&["bench", "ftp://localhost:1"][..], "ftp://localhost:1"),
        (&["bench", "https://127.0.0.1:9"], "https://127.0.0.1:9: no connection"),
        (&["bench", "http://127.0.0.1:9"], "http://127.0.0.1:9: no connection"),
        (&["bench", "/absent/model"], "/absent/model"),
        (&["bench", "--host", "m.example.com"], "--host is for a server that runs"),
        (&["bench", "/absent/model", "-H", "a: b"], "--header is for a server that runs"),
        (&["bench", "http://127.0.0.1:9", "--ca", "/absent.pem"], "--ca has no effect on http://"),
        (&["bench", "https://127.0.0.1:9", "--ca", "/absent.pem"], "--ca /absent.pem"),
        (&["bench", "--shape", "x=1", "-d", "1s"], "--shape names the input 'x'"),
    ] {
        let error = error_of(arguments);
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}
