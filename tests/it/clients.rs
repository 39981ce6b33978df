//! Clients that exist already: curl over HTTP/2, Python's gRPC from our own `.proto`, the unmodified tritonclient.

use std::process::Command;

use crate::harness::{Server, flowers, root, sample_request, skip};

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

/// The Python that `CORYMB_TEST_PYTHON` names, else `python3`; none where it cannot import these modules.
pub(crate) fn python(modules: &[&str]) -> Option<Command> {
    let python = std::env::var("CORYMB_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = format!("import {}", modules.join(", "));
    let importable = Command::new(&python).args(["-c", &imports]).output();
    if importable.is_ok_and(|output| output.status.success()) {
        return Some(Command::new(python));
    }
    skip(&format!("{python} cannot import {modules:?}: see tests/clients/requirements.txt"));
    None
}

/// Runs to the end, which must be a good one; answers what was said.
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// A script of `tests/clients` against a server with these flags.
fn script(name: &str, modules: &[&str], flags: &[&str]) {
    let Some(mut python) = python(modules) else { return };
    let server = Server::start(flags);
    let clients = root().join("tests/clients");
    let picture = flowers().join("warmup/image_bytes.jpg");
    succeeds(python.arg(clients.join(name)).arg(&server.address).arg(picture).arg(root().join("proto")));
}

#[test]
fn a_python_client_made_from_our_proto_works() {
    script("own_proto.py", &["grpc", "grpc_tools"], &[]);
}

#[test]
fn tritonclient_works_unmodified() {
    script("triton.py", &["numpy", "tritonclient.http", "tritonclient.grpc"], &[]);
}

/// So that connections end several times while a test looks on.
const AGE: [&str; 4] = ["--max-connection-age", "1s", "--drain-timeout", "1s"];

/// Each of them moves to new connections, and loses nothing by it.
#[test]
fn python_clients_move_on_when_their_connections_age() {
    script("connection_age.py", &["numpy", "tritonclient.grpc"], &AGE);
}

/// Python's HTTP/2 takes a farewell for the end at once, so the client is Node's.
#[test]
fn node_moves_on_when_its_connections_age() {
    if Command::new("node").arg("--version").output().is_err() {
        return skip("node is not installed");
    }
    let server = Server::start(&AGE);
    let script = root().join("tests/clients/connection_age.mjs");
    succeeds(Command::new("node").arg(script).arg(&server.address).arg(flowers().join("warmup/image_bytes.jpg")));
}

/// The seed's own load generator, shortened: nothing but 200.
#[test]
fn hey_sees_only_200() {
    if Command::new("hey").arg("-h").output().is_err() {
        return skip("hey is not installed");
    }
    let server = Server::start(&[]);
    let picture = flowers().join("warmup/image_bytes.jpg");
    for load in [&["-z", "5s", "-c", "5"][..], &["-z", "5s", "-q", "50"]] {
        let mut hey = Command::new("hey");
        hey.args(load).args(["-m", "POST", "-T", "image/jpeg", "-D"]).arg(&picture).arg(server.url(PREDICT));
        let report = succeeds(&mut hey);
        let statuses: Vec<&str> = report.lines().map(str::trim).filter(|line| line.starts_with('[')).collect();
        assert!(statuses.len() == 1 && statuses[0].starts_with("[200]"), "{report}");
        assert!(!report.contains("Error distribution"), "{report}");
    }
}

/// The served model against its card, on the photographs that were kept for measuring; and a daisy mirrored, compressed and
/// scaled, and pictures that show no flower. The photographs are not the project's: whoever has them names their folder.
#[test]
fn the_served_model_is_as_good_as_its_card_says() {
    let Ok(photographs) = std::env::var("CORYMB_TEST_PHOTOGRAPHS") else {
        return eprintln!("skipped: CORYMB_TEST_PHOTOGRAPHS names no folder of photographs");
    };
    let sample = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(sample.path(), sample_request()).expect("written");
    let Some(mut python) = python(&["PIL"]) else { return };
    let server = Server::start(&[]);
    let folder = flowers();
    python.arg(folder.join("evaluate.py")).arg("--data").arg(photographs);
    python.args(["--url", &server.url(PREDICT), "--check"]).arg(folder.join("metrics.json"));
    python.arg("--sample").arg(sample.path());
    println!("{}", succeeds(&mut python));
}
