//! The commands beside `serve`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Server, flowers, folder, run};

fn output(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn picture_path() -> String {
    flowers().join("warmup/image_bytes.jpg").to_string_lossy().into_owned()
}

/// As `corymb … | head` has it.
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corymb"));
    command.args(["models", "list", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.signal(), Some(13), "SIGPIPE, as for other tools");
}

#[test]
fn predict_prints_classes_and_scores() {
    let table = output(&["predict", &picture_path()]);
    let classes = ["daisy", "dandelion", "roses", "sunflowers", "tulips", "none of these"];
    assert!(classes.iter().all(|class| table.contains(class)), "{table}");
    // Best first.
    let scores: Vec<f64> = table
        .lines()
        .filter(|line| classes.iter().any(|class| line.contains(class)))
        .filter_map(|line| line.split_whitespace().last()?.parse().ok())
        .collect();
    assert_eq!(scores.len(), 6, "{table}");
    assert!(scores.is_sorted_by(|left, right| left >= right), "{table}");
}

#[test]
fn predict_here_and_by_a_server_agree() {
    let server = Server::start(&[]);
    let picture = picture_path();
    let here = output(&["predict", "--json", &picture]);
    let there = output(&["predict", "--json", "--url", &server.url(""), &picture]);
    assert_eq!(here, there);
    assert!(here.contains(r#""name":"scores""#), "{here}");
    let labels = flowers().join("labels.txt");
    let table = output(&["predict", "--url", &server.url(""), "--labels", &labels.to_string_lossy(), &picture]);
    assert_eq!(table, output(&["predict", &picture]));
}

#[test]
fn predict_takes_requests_and_arrays() {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend_from_slice(format!("{header:<117}\n").as_bytes());
    npy.extend_from_slice(little_endian(&[1.5, -2.0]).as_slice());
    let v1 = json!({"instances": [[1.5, -2.0]]}).to_string();
    let v2 = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}]}).to_string();
    let files = folder(&[("x.npy", &npy), ("v1.json", v1.as_bytes()), ("v2.json", v2.as_bytes())]);
    let model =
        format!("identity={}", crate::harness::root().join("tests/fixtures/models/identity_fp32.onnx").display());
    for name in ["x.npy", "v1.json", "v2.json"] {
        let path = files.path().join(name).to_string_lossy().into_owned();
        let text = output(&["predict", "--json", "--model", &model, &path]);
        assert!(text.contains("1.5") && text.contains("-2.0"), "{name}: {text}");
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn predict_says_what_is_wrong() {
    let files = folder(&[("x.txt", b"hello")]);
    let path = files.path().join("x.txt").to_string_lossy().into_owned();
    let failed = run(&["predict", &path]);
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1));
    assert!(error.contains("x.txt: neither a JPEG, PNG or WebP picture, nor .npy, nor a request in JSON"), "{error}");
    let failed = run(&["predict", "--url", "http://127.0.0.1:9", &picture_path()]);
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(error.contains("http://127.0.0.1:9/"), "{error}");
}

#[test]
fn models_list_tells_what_would_run() {
    let json: Value = serde_json::from_str(&output(&["models", "list", "--json"])).expect("JSON");
    let model = &json[0];
    assert_eq!(model["name"], "flowers-sample");
    assert_eq!(model["backend"], "tract");
    assert_eq!(model["plugin"], "flowers.wasm");
    // What clients send, and what the plugin makes of it.
    assert_eq!(model["inputs"], json!(["image_bytes BYTES[?]", "key BYTES[?]"]));
    assert_eq!(model["model_inputs"], json!(["pixels FP32[N,3,160,160]"]));
    let text = output(&["models", "list", "--model-dir", &flowers().to_string_lossy(), "--model-name", "mine"]);
    assert!(text.starts_with("mine (version 1)\n"), "{text}");
    let unknown = crate::harness::root().join("tests/fixtures/models/unknown_operator.onnx");
    let failed = run(&["models", "list", "--model", &format!("u={}", unknown.display())]);
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(text.contains("reason      no backend can run it: ") && text.contains("tract lacks Frobnicate"), "{text}");
    assert_eq!(failed.status.code(), Some(1));
    // What is wrong with one does not hide the others.
    let identity =
        std::fs::read(crate::harness::root().join("tests/fixtures/models/identity_fp32.onnx")).expect("there");
    let place = folder(&[("good/model.onnx", &identity), ("odd/a.onnx", b"a"), ("odd/b.onnx", b"b")]);
    let failed = run(&["models", "list", &place.path().to_string_lossy()]);
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(
        text.contains("good (version 1)") && text.contains("odd\n  error       ") && text.contains("2 .onnx files"),
        "{text}"
    );
    assert!(String::from_utf8_lossy(&failed.stderr).contains("1 of 2 models cannot be served"));
    let empty = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(
        output(&["models", "list", "--cached", "--cache", &empty.path().to_string_lossy()]),
        "the cache is empty\n"
    );
}

#[test]
fn plugin_compile_writes_what_the_server_takes() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let compiled = out.path().join("flowers.cwasm").to_string_lossy().into_owned();
    let wasm = flowers().join("flowers.wasm").to_string_lossy().into_owned();
    let text = output(&["plugin", "compile", &wasm, "--output", &compiled]);
    assert!(text.starts_with(&compiled), "{text}");
    assert!(std::fs::metadata(&compiled).expect("written").len() > 100_000);
    let failed = run(&["plugin", "compile", &picture_path()]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("image_bytes.jpg"));
}

#[test]
fn the_version_is_the_workspace_s() {
    assert_eq!(output(&["--version"]), format!("corymb {}\n", env!("CARGO_PKG_VERSION")));
}
