//! Both engines behind the server: which one runs a model and why, what it takes to have it, and that they agree.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, corymb, folder, onnxruntime_environment, onnxruntime_library, picture, root};

fn fixture(name: &str) -> String {
    root().join(format!("tests/fixtures/models/{name}.onnx")).to_string_lossy().into_owned()
}

/// A server of fixtures, by the engine of that name.
fn serve(engine: &str, prefix: &str, models: &[&str]) -> Server {
    let named: Vec<String> = models.iter().map(|name| format!("{name}={}", fixture(name))).collect();
    let mut arguments = vec!["--backend", engine];
    arguments.extend(named.iter().flat_map(|model| ["--model", model]));
    Server::start_with(&arguments, &[("VIRTUAL_ENV", prefix)])
}

/// Exit code 1 and one line.
fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = corymb(&["serve", "--host", "127.0.0.1", "--port", "0"]);
    failure(&command.args(arguments).envs(variables.iter().copied()).output().expect("the binary runs"))
}

fn infer(server: &Server, model: &str, inputs: &Value) -> Answer {
    let body = json!({ "inputs": inputs }).to_string();
    server.post(&format!("/v2/models/{model}/infer"), "application/json", body.as_bytes())
}

fn int64(name: &str, data: &[i64]) -> Value {
    json!({"name": name, "datatype": "INT64", "shape": [data.len()], "data": data})
}

#[test]
fn the_library_of_a_virtual_environment_is_found_and_used() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let model = format!("m={}", fixture("linear"));
    let server = Server::start_with(&["--model", &model], &[("VIRTUAL_ENV", &prefix)]);
    let ready = server.event(|event| event["message"] == "model ready");
    assert_eq!((&ready["backend"], &ready["device"]), (&json!("onnxruntime"), &json!("cpu")), "{ready}");
    let serving = server.event(|event| event["message"] == "serving");
    assert!(serving["models"].as_str().is_some_and(|text| text.contains("m (onnxruntime, cpu)")), "{serving}");
    let metadata = server.get("/v2/models/m").json();
    assert!(metadata.to_string().contains("onnxruntime"), "{metadata}");
    // And without one, the engine inside the binary.
    let server = Server::start(&["--onnxruntime", "none", "--model", &model]);
    let ready = server.event(|event| event["message"] == "model ready");
    assert_eq!(ready["backend"], "tract", "{ready}");
}

#[test]
fn every_way_to_name_the_library_works() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let library = onnxruntime_library(Path::new(&prefix)).expect("found before");
    let library = library.to_string_lossy();
    let python = format!("{prefix}/bin");
    let model = format!("m={}", fixture("linear"));
    let arguments = ["--backend", "onnxruntime", "--model", &model];
    for variables in [
        ("CORYMB_ONNXRUNTIME", &*library),
        ("ORT_DYLIB_PATH", &library),
        ("LD_LIBRARY_PATH", library.rsplit_once('/').expect("a folder").0),
        ("CONDA_PREFIX", &prefix),
        ("PATH", &python),
    ] {
        let server = Server::start_with(&arguments, &[variables]);
        assert_eq!(server.get("/v2/models/m/ready").status, 200, "{variables:?}");
    }
    let flag = [&arguments[..], &["--onnxruntime", &library]].concat();
    assert_eq!(Server::start(&flag).get("/v2/models/m/ready").status, 200);
}

#[test]
fn a_library_that_is_missing_or_broken_is_one_clear_line() {
    let broken = folder(&[("libonnxruntime.so", b"this is not a library, only as long as one's header")]);
    let broken = broken.path().join("libonnxruntime.so").to_string_lossy().into_owned();
    let model = format!("m={}", fixture("linear"));
    let arguments = ["--backend", "onnxruntime", "--model", &model];
    let error = refused(&[&arguments[..], &["--onnxruntime", "none"]].concat(), &[]);
    assert!(error.contains("switched off"), "{error}");
    let error = refused(&arguments, &[("ORT_DYLIB_PATH", &broken)]);
    assert!(error.contains("ORT_DYLIB_PATH") && error.contains("libonnxruntime.so"), "{error}");
    let error = refused(&[&arguments[..], &["--onnxruntime", "/nowhere/lib.so"]].concat(), &[]);
    assert!(error.contains("/nowhere/lib.so") && error.contains("is not there"), "{error}");
}

#[test]
fn a_device_that_cannot_be_had_says_what_is_missing() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let model = format!("m={}", fixture("linear"));
    let variables = [("VIRTUAL_ENV", prefix.as_str())];
    // No machine has so many, with a library for them or without.
    let arguments = ["--backend", "onnxruntime", "--device", "cuda:4000", "--model", &model];
    let error = refused(&arguments, &variables);
    assert!(error.contains("cuda:4000") && error.contains("onnxruntime-gpu"), "{error}");
    let fallback = ["--backend", "onnxruntime", "--device", "cuda:4000-or-cpu", "--model", &model];
    let server = Server::start_with(&fallback, &variables);
    assert_eq!(server.event(|event| event["message"] == "model ready")["device"], "cpu");
}

#[test]
fn both_engines_see_the_same_flowers() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let flowers = root().join("deploy/models/flowers");
    let copy = crate::harness::flowers_copy();
    let manifest = std::fs::read_to_string(flowers.join("model.toml")).expect("the manifest");
    let scores = |engine: &str| -> Vec<f64> {
        let manifest = manifest.replace("backend = \"auto\"", &format!("backend = \"{engine}\""));
        std::fs::write(copy.path().join("model.toml"), manifest).expect("written");
        let path = copy.path().to_string_lossy().into_owned();
        let arguments = ["--model-dir", &path, "--model-name", "m"];
        let server = Server::start_with(&arguments, &[("VIRTUAL_ENV", &prefix)]);
        assert_eq!(server.event(|event| event["message"] == "model ready")["backend"], engine);
        let answer = server.post("/v1/models/m:predict", "image/jpeg", &picture());
        let answer = answer.json();
        let scores = answer.pointer("/predictions/0/scores").and_then(Value::as_array);
        scores.unwrap_or_else(|| panic!("{answer}")).iter().filter_map(Value::as_f64).collect()
    };
    let (tract, ort) = (scores("tract"), scores("onnxruntime"));
    assert_eq!(tract.len(), 6);
    assert!(tract.iter().zip(&ort).all(|(a, b)| (a - b).abs() < 1e-4), "{tract:?} {ort:?}");
}

#[test]
fn files_that_cannot_be_served_are_named_on_both_engines() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let whole = std::fs::read(fixture("image")).expect("a fixture");
    let external = std::fs::read(fixture("external")).expect("a fixture");
    let models = folder(&[("truncated.onnx", &whole[..whole.len() / 2]), ("alone/external.onnx", &external)]);
    let made = |name: &str| models.path().join(name).to_string_lossy().into_owned();
    for engine in ["onnxruntime", "tract"] {
        for (path, says) in [
            (made("truncated.onnx"), &["truncated.onnx"][..]),
            (made("alone/external.onnx"), &["external"]),
            (fixture("unknown_operator"), &["Frobnicate", "puzzle"]),
            (fixture("foreign"), &["com.acme", "Relu", "surprise"]),
            (fixture("future_opset"), &["99"]),
            (fixture("no_opset"), &["operator set"]),
            (fixture("sequence_output"), &["sequence"]),
        ] {
            let model = format!("m={path}");
            let error = refused(&["--backend", engine, "--model", &model], &[("VIRTUAL_ENV", &prefix)]);
            for part in says {
                assert!(error.contains(part), "{engine}, {path}: '{part}' in: {error}");
            }
        }
    }
}

#[test]
fn what_a_request_breaks_is_its_own_on_both_engines() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let scalar = |limit: i64| json!([{"name": "limit", "datatype": "INT64", "shape": [], "data": [limit]}]);
    for engine in ["onnxruntime", "tract"] {
        let server = serve(engine, &prefix, &["lookup"]);
        for token in [10, -11, i64::MAX] {
            let answer = infer(&server, "lookup", &json!([int64("token", &[token])]));
            assert_eq!(answer.status, 400, "{engine}: {}", answer.text());
            let answer = infer(&server, "lookup", &json!([int64("token", &[9])]));
            assert_eq!(answer.status, 200, "{engine}: {}", answer.text());
        }
    }
    // tract refuses a size that comes from a request.
    let server = serve("onnxruntime", &prefix, &["count"]);
    for limit in [1 << 44, 1 << 62] {
        let answer = infer(&server, "count", &scalar(limit));
        assert_eq!(answer.status, 400, "{}", answer.text());
        let answer = infer(&server, "count", &scalar(3));
        assert_eq!(answer.json().pointer("/outputs/0/data"), Some(&json!([0, 1, 2])), "{}", answer.text());
    }
}

#[test]
fn no_division_ends_the_server() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let mut server = serve("onnxruntime", &prefix, &["divide"]);
    let operands = |a: i64, b: i64| {
        let narrow = |name: &str, dtype: &str, value: i64, least: i64| json!({"name": name, "datatype": dtype, "shape": [1], "data": [value.max(least)]});
        json!([
            int64("a64", &[a]),
            int64("b64", &[b]),
            narrow("a32", "INT32", a, i32::MIN.into()),
            narrow("b32", "INT32", b, i32::MIN.into()),
            narrow("a16", "INT16", a, i16::MIN.into()),
            narrow("b16", "INT16", b, i16::MIN.into()),
        ])
    };
    let answer = infer(&server, "divide", &operands(i64::MIN, -1));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = infer(&server, "divide", &operands(1, 0));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.error().contains("by zero"), "{}", answer.text());
    let answer = infer(&server, "divide", &operands(7, 2));
    assert_eq!(answer.json().pointer("/outputs/0/data"), Some(&json!([3])), "{}", answer.text());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}
