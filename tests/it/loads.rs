//! Models that are small and ask for much before their first request: each costs itself, and nobody waits for it.

use std::path::PathBuf;

use crate::harness::{Server, control_group, onnxruntime_environment, picture, root};

const FLOWERS: &str = "/v1/models/flowers-sample:predict";

fn case(name: &str) -> PathBuf {
    root().join(format!("tests/fixtures/cases/loading/{name}.onnx"))
}

/// The engines that are here, with the virtual environment that each needs.
fn engines() -> Vec<(&'static str, String)> {
    let library = onnxruntime_environment().map(|prefix| ("onnxruntime", prefix));
    [("tract", String::new())].into_iter().chain(library).collect()
}

/// In a control group that could not hold what they ask for.
#[test]
fn what_asks_for_much_fails_to_load_beside_others() {
    for (engine, prefix) in engines() {
        let Some(group) = control_group(512 << 20, None) else { return };
        let models = ["functions_that_double", "large_product"];
        let models = models.map(|name| format!("{name}={}", case(name).display()));
        let flowers = format!("flowers-sample={}", root().join("deploy/models/flowers").display());
        let arguments =
            ["--backend", engine, "--keep-going", "--model", &flowers, "--model", &models[0], "--model", &models[1]];
        let server = Server::start_in(&group, &arguments, &[("VIRTUAL_ENV", &prefix)]);
        let failed = |name: &str| {
            let event = server.event(|event| event["message"] == "model failed to load" && event["model"] == name);
            event["error"].as_str().expect("a reason").to_owned()
        };
        let reason = failed("functions_that_double");
        assert!(reason.contains("functions that stand for 536870912 nodes; at most 50000 are read"), "{reason}");
        let reason = failed("large_product");
        let why = match engine {
            "tract" => "ConstantOfShape (node 'm'): asks for a tensor of shape [12000, 12000]",
            _ => "'m' (ConstantOfShape) may take loading more time or memory than there is",
        };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(server.post(FLOWERS, "image/jpeg", &picture()).status, 200);
    }
}

/// Runs that nobody asked for have an end, too: one that warms up, one that measures, and one that a server leaves behind.
#[test]
fn a_server_stops_whatever_its_models_do() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let model = format!("m={}", case("endless_loop").display());
    let arguments = ["--backend", "onnxruntime", "--model", &model, "--max-run-time", "1h", "--listen-early"];
    let loading = "listening; models are loading";
    let mut server = Server::start_until(&arguments, &[("VIRTUAL_ENV", &prefix)], loading);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    // Ready after the first run was cut; then it is measured.
    let arguments = ["--backend", "onnxruntime", "--model", &model, "--max-run-time", "1s", "--drain-timeout", "1h"];
    let mut server = Server::start_with(&arguments, &[("VIRTUAL_ENV", &prefix)]);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}
