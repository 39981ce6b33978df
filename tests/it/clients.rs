//! Clients that exist already: curl over HTTP/2, Python's gRPC from our own `.proto`, the unmodified tritonclient.

use std::process::Command;

use crate::harness::{Server, flowers, root, skip};

const PREDICT: &str = "/v1/models/flowers-sample:predict";

#[test]
fn curl_speaks_http_2_with_prior_knowledge() {
    let server = Server::start(&[]);
    let picture = format!("@{}", flowers().join("warmup/image_bytes.jpg").display());
    let curl = Command::new("curl")
        .args([
            "--silent",
            "--http2-prior-knowledge",
            "--max-time",
            "30",
            "--write-out",
            "\n%{http_version} %{http_code}",
        ])
        .args(["--header", "Content-Type: image/jpeg", "--data-binary", &picture, &server.url(PREDICT)])
        .output();
    let Ok(output) = curl else { return skip("curl is not installed") };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(2) {
        return skip("this curl knows no HTTP/2");
    }
    assert!(text.ends_with("\n2 200"), "{text}");
    assert!(text.contains("predictions"), "{text}");
}

/// Runs a script of `tests/clients` with the Python that `CORYMB_TEST_PYTHON` names, else `python3`.
fn python(script: &str, modules: &[&str]) {
    let python = std::env::var("CORYMB_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = format!("import {}", modules.join(", "));
    let importable = Command::new(&python).args(["-c", &imports]).output();
    if !importable.is_ok_and(|output| output.status.success()) {
        return skip(&format!("{python} cannot import {modules:?}: see tests/clients/requirements.txt"));
    }
    let server = Server::start(&[]);
    let picture = flowers().join("warmup/image_bytes.jpg");
    let output = Command::new(&python)
        .arg(root().join("tests/clients").join(script))
        .args([
            &server.address,
            &picture.to_string_lossy().into_owned(),
            &root().join("proto").to_string_lossy().into_owned(),
        ])
        .output()
        .expect("python runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{script}: {said}");
}

#[test]
fn a_python_client_made_from_our_proto_works() {
    python("own_proto.py", &["grpc", "grpc_tools"]);
}

#[test]
fn tritonclient_works_unmodified() {
    python("triton.py", &["numpy", "tritonclient.http", "tritonclient.grpc"]);
}
