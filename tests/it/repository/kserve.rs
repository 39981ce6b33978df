//! What KServe's own storage initializer leaves in a pod, served as its custom predictor.

use std::path::PathBuf;

use super::clouds::python;
use super::predict;
use crate::harness::{Server, root};

/// KServe's own initializer puts a model into a folder, and that is served by the name that KServe gives.
#[test]
fn what_kserve_s_initializer_leaves_is_served() {
    let Some(python) = python("kserve_storage") else { return };
    let fixture = root().join("tests/fixtures/models/identity_fp32.onnx");
    for case in ["file", "archive", "zip", "folder", "versions", "hub"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place: PathBuf = folder.path().join("models");
        let script = root().join("tests/repository/kserve.py");
        let output = std::process::Command::new(&python).arg(script).arg(case).arg(&place).arg(&fixture).output();
        let output = output.expect("Python starts");
        assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
        let server = Server::start(&["--model_name", "iris", "--model_dir", &place.to_string_lossy()]);
        predict(&server, "iris");
    }
}
