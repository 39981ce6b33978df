//! A start that cannot succeed: exit code and one clear line.

use std::fs;
use std::net::TcpListener;
use std::process::Output;

use crate::harness::{Server, corymb, flowers_copy, folder, root, run};

/// The last line of what the command said.
fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_owned()
}

fn serve(arguments: &[&str]) -> String {
    let all = [&["serve", "--host", "127.0.0.1", "--port", "0"], arguments].concat();
    failure(&run(&all))
}

/// What is done to a model's folder.
type Damage<'a> = &'a dyn Fn(&std::path::Path);

#[test]
fn what_is_missing_or_damaged_is_named() {
    let cases: [(&str, Damage<'_>, &[&str]); 8] = [
        (
            "an absent model",
            &|path| fs::remove_file(path.join("model.onnx")).expect("removed"),
            &["model.onnx: no such file"],
        ),
        (
            "a changed model",
            &|path| fs::write(path.join("model.onnx"), "x").expect("written"),
            &["model.onnx", "sha256"],
        ),
        (
            "an absent plugin",
            &|path| fs::remove_file(path.join("flowers.wasm")).expect("removed"),
            &["flowers.wasm: no such file"],
        ),
        ("a damaged plugin", &|path| fs::write(path.join("flowers.wasm"), "\0asm?").expect("written"), &["flowers"]),
        (
            "a damaged manifest",
            &|path| fs::write(path.join("model.toml"), "file = [").expect("written"),
            &["model.toml: line 1"],
        ),
        (
            "an unknown key",
            &|path| fs::write(path.join("model.toml"), "bakend = 'tract'").expect("written"),
            &["model.toml: unknown key `bakend`; did you mean `backend`?"],
        ),
        (
            "a configuration that the plugin refuses",
            &|path| {
                let manifest = fs::read_to_string(path.join("model.toml")).expect("read");
                fs::write(path.join("model.toml"), manifest.replace("size =", "sice =")).expect("written");
            },
            &["sice"],
        ),
        (
            "a sample that is no picture",
            &|path| fs::write(path.join("warmup/image_bytes.jpg"), "x").expect("written"),
            &["warm-up with image_bytes.jpg failed"],
        ),
    ];
    for (what, damage, says) in cases {
        let copy = flowers_copy();
        damage(copy.path());
        let error = serve(&["--model-dir", &copy.path().to_string_lossy(), "--model-name", "m"]);
        for part in says {
            assert!(error.contains(part), "{what}: '{part}' in: {error}");
        }
    }
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let models = folder(&[("m/model.onnx", b"not a model"), ("empty/notes.txt", b"")]);
    let path = |name: &str| models.path().join(name).to_string_lossy().into_owned();
    let error = serve(&["--model", &format!("m={}", path("m"))]);
    assert!(error.contains("load model 'm'") && error.contains("model.onnx"), "{error}");
    let error = serve(&["--model-dir", &path("empty")]);
    assert!(error.contains("no model; expected model.toml, one .onnx file, or numbered folders"), "{error}");
    let error = serve(&["--model-dir", &path("absent")]);
    assert!(error.contains("absent: No such file"), "{error}");
    let error = serve(&["--model", &format!("m={}", path("m")), "--backend", "tracd"]);
    assert!(error.contains("backend 'tracd' is unknown; there are onnxruntime, tract"), "{error}");
    let error = serve(&["--device", "cuda"]);
    assert!(error.contains("tract") && error.contains("cuda"), "{error}");
}

#[test]
fn a_taken_port_fails_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let error = failure(&run(&["serve", "--host", "127.0.0.1", "--port", &port]));
    assert!(error.contains(&port) && error.contains("in use"), "{error}");
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let config = folder(&[("c.toml", b"prot = 1")]);
    let error = serve(&["--config", &config.path().join("c.toml").to_string_lossy()]);
    assert!(error.contains("c.toml: unknown key `prot`; did you mean `port`?"), "{error}");
    let mut command = corymb(&["serve", "--host", "127.0.0.1"]);
    let error = failure(&command.env("CORYMB_DRAIN_DELAY", "soon").output().expect("runs"));
    assert!(error.contains("CORYMB_DRAIN_DELAY"), "{error}");
    let unknown = run(&["serve", "--prot", "1"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--port"), "a similar flag is named");
}

#[test]
fn one_that_fails_does_not_stop_the_others_when_told_to_keep_going() {
    let identity = root().join("tests/fixtures/models/identity_fp32.onnx");
    let models = folder(&[("bad.onnx", b"not a model")]);
    let bad = format!("bad={}", models.path().join("bad.onnx").display());
    let good = format!("good={}", identity.display());
    let server = Server::start(&["--keep-going", "--model", &bad, "--model", &good]);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models/good/ready").status, 200);
    assert_eq!(server.get("/v2/models/bad/ready").status, 503);
    let status = server.get("/v1/models/bad").json();
    assert_eq!(status["ready"], false, "{status}");
}

#[test]
fn the_port_of_knative_is_taken() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("bound").port().to_string();
    drop(free);
    // The flag of the harness would win over $PORT.
    let mut command = corymb(&["serve", "--host", "127.0.0.1", "--log-format", "json"]);
    let mut child = command.env("PORT", &port).stderr(std::process::Stdio::null()).spawn().expect("starts");
    let url = format!("http://127.0.0.1:{port}/v2/health/ready");
    let agent = crate::harness::agent();
    let ready = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        crate::harness::try_send(&agent, &url, "GET", &[], &[]).is_ok_and(|answer| answer.status == 200)
    });
    child.kill().expect("our child");
    child.wait().expect("our child");
    assert!(ready, "nothing answered on $PORT");
}

#[test]
fn two_models_of_one_name_are_refused() {
    let identity = root().join("tests/fixtures/models/identity_fp32.onnx");
    let model = format!("m={}", identity.display());
    let error = serve(&["--model", &model, "--model", &model]);
    assert!(error.contains("two models are named 'm'"), "{error}");
}
