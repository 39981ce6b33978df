//! Requests that a graph cannot answer, on tract: each fails by itself, and the next one is served by the same process.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Server, root, run};

fn cases() -> PathBuf {
    root().join("tests/fixtures/zoo/cases")
}

/// What `tests/fixtures/zoo/zoo.py` describes; its requests are in the form of the Open Inference Protocol.
fn requests(case: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(cases().join(format!("{case}.json"))).expect(case);
    let case: Value = serde_json::from_str(&text).expect("JSON");
    case["requests"].as_array().expect("requests").clone()
}

fn model(case: &str) -> String {
    format!("{case}={}", cases().join(format!("{case}.onnx")).display())
}

struct Hazards(Server);

impl Hazards {
    fn start(models: &[&str]) -> Self {
        let models: Vec<String> = models.iter().map(|case| model(case)).collect();
        let mut arguments = vec!["--backend", "tract"];
        models.iter().for_each(|model| arguments.extend(["--model", model]));
        Self(Server::start(&arguments))
    }

    fn infer(&self, case: &str, inputs: &Value) -> (u16, Value) {
        let body = json!({ "inputs": inputs }).to_string();
        let answer = self.0.post(&format!("/v2/models/{case}/infer"), "application/json", body.as_bytes());
        (answer.status, answer.json())
    }

    fn ensure_answered(&self, case: &str, request: &Value) {
        let (status, answer) = self.infer(case, &request["inputs"]);
        assert_eq!(status, 200, "{case}: {answer}");
        for expected in request["outputs"].as_array().expect("outputs") {
            let outputs = answer["outputs"].as_array().expect("outputs");
            let given = outputs.iter().find(|given| given["name"] == expected["name"]).expect("the output");
            let numbers = |tensor: &Value| -> Vec<f64> {
                tensor["data"]
                    .as_array()
                    .expect("data")
                    .iter()
                    .map(|element| element.as_f64().expect("a number"))
                    .collect()
            };
            let (left, right) = (numbers(given), numbers(expected));
            let close = |(left, right): (&f64, &f64)| (left - right).abs() <= 1e-4 * right.abs().max(1.0);
            assert!(left.len() == right.len() && left.iter().zip(&right).all(close), "{case}: {left:?} {right:?}");
        }
    }

    fn ensure_refused(&self, case: &str, inputs: &Value, says: &[&str]) {
        let (status, answer) = self.infer(case, inputs);
        assert!(status == 400 || status == 500, "{case}: {status} {answer}");
        let error = answer["error"].as_str().expect("an error");
        assert!(says.iter().all(|part| error.contains(part)), "{case}: {error}");
    }
}

#[test]
fn what_a_graph_cannot_answer_fails_alone() {
    let hazards = [
        ("gather_tokens", vec![1, 2]),
        ("div_i64", vec![1]),
        ("div_i32", vec![1]),
        ("sum_of_nothing", vec![1]),
        ("wrong_shapes", vec![1]),
        ("split_remainder", vec![1]),
    ];
    let server = Hazards::start(&hazards.each_ref().map(|(case, _)| *case));
    let process = server.0.id();
    for (case, bad) in &hazards {
        let requests = requests(case);
        server.ensure_answered(case, &requests[0]);
        for &index in bad {
            server.ensure_refused(case, &requests[index]["inputs"], &[]);
            server.ensure_answered(case, &requests[0]);
        }
    }
    // The least integer by minus one: an error or an answer, never the end of the process.
    for case in ["div_i64", "div_i32"] {
        let requests = requests(case);
        server.infer(case, &requests[3]["inputs"]);
        server.ensure_answered(case, &requests[4]);
    }
    assert_eq!(server.0.get("/v2/health/ready").status, 200);
    assert_eq!(server.0.id(), process);
}

/// Two hundred thousand numbers whose product with each other takes 160 GB.
#[test]
fn memory_that_a_request_would_take_is_known_before_it_is_taken() {
    let bombs = ["outer_product", "square_of_the_length"];
    let server = Hazards::start(&bombs);
    let many = vec![1; 200_000];
    for case in bombs {
        let requests = requests(case);
        server.ensure_answered(case, &requests[0]);
        let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [many.len()], "data": many}]);
        server.ensure_refused(case, &inputs, &["bytes", "allowed"]);
        server.ensure_answered(case, &requests[1]);
    }
}

/// A recurrent layer starts anew with every request, whoever sent the last one.
#[test]
fn no_state_is_left_for_the_next_request() {
    let cases = ["lstm_forward", "gru_bidirectional", "scan"];
    let server = Hazards::start(&cases);
    for case in cases {
        for request in requests(case).iter().flat_map(|request| [request, request, request]) {
            server.ensure_answered(case, request);
        }
    }
}

#[test]
fn a_size_that_a_request_would_choose_is_refused_at_load() {
    let output = run(&["serve", "--port", "0", "--backend", "tract", "--model", &model("range_by_value")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    for part in ["Range", "count", "value of the request", "onnxruntime"] {
        assert!(said.contains(part), "no '{part}' in {said}");
    }
}
