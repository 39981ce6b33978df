//! Weights in a file of their own, which somebody writes to while they serve.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Server, folder, onnxruntime_environment, root};

#[test]
fn weights_that_are_written_to_change_nothing_that_serves() {
    let cases = root().join("tests/fixtures/zoo/cases");
    let read = |name: &str| fs::read(cases.join(name)).expect(name);
    let described: Value = serde_json::from_slice(&read("external_data.json")).expect("JSON");
    let request = &described["requests"][0];
    let engines = [Some(("tract", String::new())), onnxruntime_environment().map(|prefix| ("onnxruntime", prefix))];
    for (engine, prefix) in engines.into_iter().flatten() {
        let files =
            [("m/model.onnx", &read("external_data.onnx")[..]), ("m/external_data.bin", &read("external_data.bin"))];
        let models = folder(&files);
        let weights = models.path().join("m/external_data.bin");
        let path = models.path().to_string_lossy().into_owned();
        let server = Server::start_with(&["--backend", engine, "--model-dir", &path], &[("VIRTUAL_ENV", &prefix)]);
        let ask = || {
            let body = json!({ "inputs": request["inputs"] }).to_string();
            let answer = server.post("/v2/models/m/infer", "application/json", body.as_bytes());
            assert_eq!(answer.status, 200, "{engine}: {}", answer.text());
            answer.json()["outputs"][0]["data"].clone()
        };
        let before = ask();
        // In place: the same file, with other content, and with none.
        let len = fs::metadata(&weights).expect("there").len();
        fs::write(&weights, vec![0x40; usize::try_from(len).expect("small")]).expect("written");
        assert_eq!(ask(), before, "{engine}: other weights");
        fs::write(&weights, "").expect("written");
        assert_eq!(ask(), before, "{engine}: no weights");
    }
}
