//! A start where the system allows little: threads, addresses, a place for what is downloaded.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::harness::{Server, as_a_stranger, corymb_after, root, run_command};
use crate::repository::store::Store;

/// What is said where it does not start: one line of its own, and the exit code 1.
fn refusal(mut command: Command) -> String {
    command.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
    let output = run_command(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked") && !text.contains("jemalloc"), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
    let [error] = errors[..] else { panic!("{text}") };
    error.to_owned()
}

#[test]
fn few_addresses_are_named() {
    for kibibytes in [400_000, 1_000_000, 2_000_000] {
        let error = refusal(corymb_after(&format!("ulimit -v {kibibytes}")));
        assert!(error.starts_with("error: this process may have ") && error.contains("(`ulimit -v`)"), "{error}");
    }
    // Enough for the server and not for its plugin.
    let error = refusal(corymb_after("ulimit -v 4000000"));
    assert!(error.contains("plugin flowers") && error.contains("raise `ulimit -v`"), "{error}");
}

#[test]
fn few_threads_are_named() {
    for threads in [2, 6, 10] {
        let Some(stranger) = as_a_stranger(54_321, &format!("prlimit --nproc={threads}")) else { return };
        let error = refusal(corymb_after(&stranger));
        assert!(error.starts_with("error: this process may start ") && error.contains("raise `ulimit -u`"), "{error}");
    }
}

/// As OpenShift runs containers: any user, whose home is the root of the file system.
#[test]
fn what_is_downloaded_has_a_place_without_a_home() {
    let Some(stranger) = as_a_stranger(54_322, "") else { return };
    let model = std::fs::read(root().join("tests/fixtures/models/identity_fp32.onnx")).expect("the fixture");
    let store = Store::start(&[("m.onnx", &model)]);
    let temporary = tempfile::tempdir().expect("made");
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o1777)).expect("set");
    let home = format!("unset XDG_CACHE_HOME && export HOME=/ TMPDIR={} && {stranger}", temporary.path().display());
    let server = Server::start_after(&home, &["--model", &format!("m={}", store.url("m.onnx"))]);
    assert_eq!(server.get("/v2/models/m").status, 200);
    let warned = server.event(|event| event["level"] == "WARN" && event["message"].to_string().contains("--cache"));
    let message = warned["message"].as_str().expect("a text");
    assert!(message.starts_with("/.cache/corymb cannot be written; "), "{message}");
    assert!(temporary.path().join("corymb-54322/models").is_dir());
}
