//! Plugins that misbehave, served by the real binary: each costs its own request and nothing else.

use serde_json::{Value, json};

use crate::harness::{Server, folder, root, run};

fn fixture(path: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures").join(path)).expect(path)
}

/// A folder with the hostile plugin around a model that answers its input.
fn model() -> tempfile::TempDir {
    folder(&[
        ("model.onnx", &fixture("models/identity_fp32.onnx")),
        ("hostile.wasm", &fixture("plugins/hostile.wasm")),
        ("model.toml", b"[plugin]\nfile = 'hostile.wasm'\n"),
    ])
}

fn request(behaviour: &str, timeout: Option<u64>) -> String {
    let mut parameters = json!({"do": behaviour});
    if let Some(timeout) = timeout {
        parameters["timeout"] = json!(timeout);
    }
    json!({"parameters": parameters, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]})
        .to_string()
}

#[test]
fn a_plugin_that_misbehaves_costs_its_own_request() {
    let model = model();
    let server = Server::start(&["--model", &format!("m={}", model.path().display())]);
    let infer = |behaviour, timeout| {
        server.post("/v2/models/m/infer", "application/json", request(behaviour, timeout).as_bytes())
    };
    // Behaviour, the client's timeout in µs, status, a part of the message.
    for (behaviour, timeout, status, says) in [
        ("loop", Some(100_000), 504, "m"),
        ("loop in host calls", Some(100_000), 504, "m"),
        ("loop in postprocess", Some(100_000), 504, "m"),
        ("grow", None, 500, "memory"),
        ("trap", None, 500, "hostile"),
        ("overflow the stack", None, 500, "hostile"),
        ("flood the handles", None, 500, "hostile"),
        ("large carry", None, 500, "hostile"),
        ("huge carry", None, 500, "hostile"),
        ("answer nothing", None, 500, "hostile"),
        ("answer another dtype", None, 500, "hostile"),
        ("error", None, 404, ""),
    ] {
        let answer = infer(behaviour, timeout);
        assert_eq!(answer.status, status, "{behaviour}: {}", answer.text());
        assert!(answer.error().contains(says), "{behaviour}: {}", answer.text());
        let next = infer("", None);
        assert_eq!(next.status, 200, "after {behaviour}: {}", next.text());
        let y: &Value = &next.json()["outputs"][0]["data"];
        assert_eq!(y, &json!([1.0, 2.0]));
    }
    let page = server.get("/metrics").text();
    let counted = |name: &str| page.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
    assert!(counted("corymb_plugin_traps_total"), "{page}");
    assert!(counted("corymb_plugin_limits_total"), "{page}");
}

#[test]
fn a_forbidden_import_ends_the_start() {
    let model = model();
    std::fs::write(model.path().join("hostile.wasm"), forbidden_import()).expect("written");
    let named = format!("m={}", model.path().display());
    let output = run(&["serve", "--host", "127.0.0.1", "--port", "0", "--model", &named]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let error = text.lines().last().unwrap_or_default();
    assert!(error.starts_with("error: load model 'm'") && error.contains("wasi:cli/environment"), "{error}");
}

/// The smallest component that imports an instance named `wasi:cli/environment@0.2.0`: preamble, a type section with an
/// empty instance type, an import section.
fn forbidden_import() -> Vec<u8> {
    let name = b"wasi:cli/environment@0.2.0";
    let mut component = vec![0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
    component.extend([0x07, 0x03, 0x01, 0x42, 0x00]);
    let import = [&[0x01, 0x00, u8::try_from(name.len()).expect("short")][..], name, &[0x05, 0x00]].concat();
    component.extend([0x0a, u8::try_from(import.len()).expect("short")]);
    component.extend(import);
    component
}
