//! Models from servers: fetched once, resumed, checked, and what goes wrong said plainly.

mod cache;
mod clouds;
mod download;
mod flips;
mod kserve;
mod layout;
mod layouts;
mod oci;
pub(crate) mod store;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::harness::{Server, corymb, folder, root};

/// A model that every backend loads in no time.
fn identity() -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture")
}

/// Bytes that are no model, for what only downloads.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).flat_map(u64::to_le_bytes).take(bytes).collect()
}

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `models pull` into a cache.
fn pull(cache: &Path, uri: &str, more: &[&str]) -> Command {
    let mut command = corymb(&["models", "pull", uri, "--cache", &cache.to_string_lossy()]);
    command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn pulled(cache: &Path, uri: &str) -> String {
    let output = pull(cache, uri, &[]).output().expect("the binary runs");
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// What a failed pull says in its last line.
fn failed(cache: &Path, uri: &str, more: &[&str]) -> String {
    let output = pull(cache, uri, more).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

/// Finished files of the cache.
fn blobs(cache: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(cache.join("models/blobs")) else { return 0 };
    entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().contains('.')).count()
}

fn predict(server: &Server, model: &str) {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}]});
    let answer = server.post(&format!("/v2/models/{model}/infer"), "application/json", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn sha256(content: &[u8]) -> String {
    sum("sha256sum", content)
}

/// In hexadecimal, by a program of coreutils.
fn sum(program: &str, content: &[u8]) -> String {
    let file = folder(&[("x", content)]);
    let output = Command::new(program).arg(file.path().join("x")).output().expect("coreutils");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a digest").to_owned()
}

fn listed(cache: &Path) -> String {
    let output = corymb(&["models", "list", "--cached", "--json", "--cache", &cache.to_string_lossy()]).output();
    String::from_utf8_lossy(&output.expect("the binary runs").stdout).into_owned()
}
