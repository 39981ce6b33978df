//! What tract is not known to compute rightly: refused at load by node and condition, and run where the manifest says so.

use serde_json::Value;

use crate::harness::{Server, folder, root, run};

#[test]
fn what_is_not_verified_runs_only_where_the_manifest_says_so() {
    let content = std::fs::read(root().join("tests/fixtures/zoo/cases/celu_alpha.onnx")).expect("a model");
    let named = |folder: &tempfile::TempDir| format!("celu={}", folder.path().display());
    let plain = folder(&[("model.onnx", &content)]);
    let output = run(&["serve", "--port", "0", "--backend", "tract", "--model", &named(&plain)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    for part in ["Celu", "node 'op'", "alpha", "is not verified on tract", "`unverified = true` in model.toml"] {
        assert!(said.contains(part), "no '{part}' in {said}");
    }
    let trusted = folder(&[("model.onnx", &content), ("model.toml", b"unverified = true\n")]);
    let server = Server::start(&["--backend", "tract", "--model", &named(&trusted)]);
    let metadata: Value = server.get("/v2/models/celu").json();
    assert_eq!(metadata["parameters"]["unverified"], "true", "{metadata}");
    let warned = server.event(|event| event["level"] == "WARN" && event["model"] == "celu");
    assert!(warned["nodes"].as_str().is_some_and(|nodes| nodes.contains("Celu with a positive alpha")), "{warned}");
    // What is allowed and not made use of is not said.
    let content = std::fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("a model");
    let allowed = folder(&[("model.onnx", &content), ("model.toml", b"unverified = true\n")]);
    let server = Server::start(&["--backend", "tract", "--model", &format!("same={}", allowed.path().display())]);
    let metadata: Value = server.get("/v2/models/same").json();
    assert_eq!(metadata["parameters"]["backend"], "tract", "{metadata}");
    assert!(metadata["parameters"]["unverified"].is_null(), "{metadata}");
}
