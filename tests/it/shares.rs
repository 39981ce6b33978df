//! What one model does delays no other: its runs and its plugin's calls share the workers with theirs.

use serde_json::json;

use crate::harness::{Server, flowers, folder, onnxruntime_environment, root, sample_request};

const FLOWERS: &str = "/v1/models/flowers-sample:predict";
/// As many at once as hold every worker of this machine, and more.
const HOLDERS: usize = 4;

/// While `hold` is being answered by so many callers, another model answers: not after them, as it would if they held all
/// workers to their end.
fn answers_beside(server: &Server, hold: impl Fn() -> u16 + Sync, expected: u16) {
    let request = sample_request();
    let ask = || server.post(FLOWERS, "application/json", &request);
    assert_eq!(ask().status, 200);
    std::thread::scope(|scope| {
        let holders: Vec<_> = (0..HOLDERS).map(|_| scope.spawn(&hold)).collect();
        // Whether all have begun by then does not matter: they go on for seconds.
        std::thread::sleep(std::time::Duration::from_millis(200));
        for turn in 0..5 {
            let answer = ask();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(holders.iter().all(|holder| !holder.is_finished()), "it waited for them (turn {turn})");
        }
        for holder in holders {
            assert_eq!(holder.join().expect("answered"), expected);
        }
    });
    assert_eq!(ask().status, 200);
}

#[test]
fn a_plugin_that_spins_delays_no_other_model() {
    let fixture = |path: &str| std::fs::read(root().join("tests/fixtures").join(path)).expect(path);
    let model = folder(&[
        ("model.onnx", &fixture("models/identity_fp32.onnx")),
        ("hostile.wasm", &fixture("plugins/hostile.wasm")),
        ("model.toml", b"[plugin]\nfile = 'hostile.wasm'\ntimeout = '6s'\n"),
    ]);
    let (spins, others) = (model.path().display(), flowers().display().to_string());
    let models = [format!("spins={spins}"), format!("flowers-sample={others}")];
    let server = Server::start(&["--backend", "tract", "--model", &models[0], "--model", &models[1]]);
    let body = json!({
        "parameters": {"do": "loop"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
    });
    let spin = || server.post("/v2/models/spins/infer", "application/json", body.to_string().as_bytes()).status;
    answers_beside(&server, spin, 504);
}

#[test]
fn long_runs_delay_no_other_model() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let long = root().join("tests/fixtures/zoo/cases/counting_loop.onnx");
    let models = [format!("long={}", long.display()), format!("flowers-sample={}", flowers().display())];
    let arguments = ["--backend", "onnxruntime", "--model", &models[0], "--model", &models[1], "--max-run-time", "6s"];
    let server = Server::start_with(&arguments, &[("VIRTUAL_ENV", &prefix)]);
    let endless = json!({"inputs": [
        { "name": "start", "datatype": "INT64", "shape": [], "data": [0] },
        { "name": "turns", "datatype": "INT64", "shape": [], "data": [i64::MAX] },
    ]});
    let run = || server.post("/v2/models/long/infer", "application/json", endless.to_string().as_bytes()).status;
    answers_beside(&server, run, 504);
}
