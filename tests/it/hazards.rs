//! Requests that a graph cannot answer, on each engine: each fails by itself, and the next one is served by the same
//! process.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Server, onnxruntime_environment, root, run};

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

/// The engines that are here, with the virtual environment that each needs.
fn engines() -> Vec<(&'static str, String)> {
    let library = onnxruntime_environment().map(|prefix| ("onnxruntime", prefix));
    [("tract", String::new())].into_iter().chain(library).collect()
}

/// A server of cases.
struct Hazards {
    server: Server,
    engine: &'static str,
}

impl Hazards {
    fn start((engine, prefix): &(&'static str, String), models: &[&str], more: &[&str]) -> Self {
        let models: Vec<String> = models.iter().map(|case| model(case)).collect();
        let mut arguments = vec!["--backend", engine];
        models.iter().for_each(|model| arguments.extend(["--model", model]));
        arguments.extend(more);
        Self { server: Server::start_with(&arguments, &[("VIRTUAL_ENV", prefix)]), engine }
    }

    fn infer(&self, case: &str, inputs: &Value) -> (u16, Value) {
        let body = json!({ "inputs": inputs }).to_string();
        let answer = self.server.post(&format!("/v2/models/{case}/infer"), "application/json", body.as_bytes());
        (answer.status, answer.json())
    }

    fn ensure_answered(&self, case: &str, request: &Value) {
        let (status, answer) = self.infer(case, &request["inputs"]);
        assert_eq!(status, 200, "{case} on {}: {answer}", self.engine);
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
        assert_eq!(status, 400, "{case} on {}: {answer}", self.engine);
        let error = answer["error"].as_str().expect("an error");
        assert!(says.iter().all(|part| error.contains(part)), "{case} on {}: {error}", self.engine);
    }
}

/// A model that is quick until a request asks it to turn for ever: nobody else notices, and the run is cut.
#[test]
fn an_endless_run_is_cut_and_delays_nobody() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let mut hazards = Hazards::start(&("onnxruntime", prefix), &["counting_loop"], &["--max-run-time", "5s"]);
    let quick = &requests("counting_loop")[0];
    for _ in 0..20 {
        hazards.ensure_answered("counting_loop", quick);
    }
    let endless = json!([
        { "name": "start", "datatype": "INT64", "shape": [], "data": [0] },
        { "name": "turns", "datatype": "INT64", "shape": [], "data": [i64::MAX] },
    ]);
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| hazards.infer("counting_loop", &endless));
        // Whether the run has begun by then does not matter: it goes on for seconds.
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(hazards.server.get("/v2/health/live").status, 200);
        hazards.ensure_answered("counting_loop", quick);
        assert!(!cut.is_finished(), "it was still running");
        let (status, answer) = cut.join().expect("answered");
        assert_eq!(status, 504, "{answer}");
        let error = answer["error"].as_str().expect("an error");
        assert!(error.contains("a run did not end within 5s"), "{error}");
    });
    hazards.ensure_answered("counting_loop", quick);
    // Nor does one hold up the end.
    let until = std::thread::spawn({
        let url = hazards.server.url("/v2/models/counting_loop/infer");
        let body = json!({ "inputs": endless }).to_string();
        move || crate::harness::try_send(&crate::harness::agent(), &url, "POST", &[], body.as_bytes()).map(|_| ())
    });
    std::thread::sleep(std::time::Duration::from_millis(200));
    hazards.server.signal("TERM");
    assert_eq!(hazards.server.wait(), Some(0));
    let _ = until.join().expect("ended");
}

#[test]
fn what_a_graph_cannot_answer_fails_alone() {
    let cases = vec![
        "gather_tokens",
        "div_i64",
        "div_i32",
        "mod_i64",
        "sum_of_nothing",
        "wrong_shapes",
        "split_remainder",
        "range_by_value",
        "range_of_fractions",
        "fill_by_value",
        "expand_by_value",
        "tile_by_value",
        "top_k_by_value",
    ];
    for engine in engines() {
        let mut cases = cases.clone();
        if engine.0 == "onnxruntime" {
            cases.extend(["one_hot_by_value", "pad_by_value"]);
        }
        let hazards = Hazards::start(&engine, &cases, &[]);
        let process = hazards.server.id();
        for case in cases {
            let requests = requests(case);
            for request in &requests {
                let names = |key: &str| -> bool {
                    request[key].as_array().is_some_and(|names| names.iter().any(|name| name == engine.0))
                };
                if names("fails") {
                    hazards.ensure_refused(case, &request["inputs"], &[]);
                } else if names("survives") {
                    hazards.infer(case, &request["inputs"]);
                } else {
                    hazards.ensure_answered(case, request);
                }
                hazards.ensure_answered(case, &requests[0]);
            }
        }
        assert_eq!(hazards.server.get("/v2/health/ready").status, 200);
        assert_eq!(hazards.server.id(), process);
    }
}

/// Two hundred thousand numbers whose product with each other takes 160 GB, and twenty thousand whose product the machine
/// could hold.
#[test]
fn a_request_takes_no_more_memory_than_a_run_may() {
    let bombs = ["outer_product", "square_of_the_length"];
    for engine in engines() {
        let hazards = Hazards::start(&engine, &bombs, &["--max-run-memory", "1GiB"]);
        for case in bombs {
            let requests = requests(case);
            for length in [200_000, 20_000] {
                hazards.ensure_answered(case, &requests[0]);
                let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [length], "data": vec![1; length]}]);
                hazards.ensure_refused(case, &inputs, &["bytes", "1073741824 are allowed"]);
                hazards.ensure_answered(case, &requests[1]);
            }
        }
    }
}

/// What tract does not count is told by the node and the numbers.
#[test]
fn a_range_that_tract_does_not_count_is_refused_in_words() {
    let hazards = Hazards::start(&("tract", String::new()), &["range_of_fractions"], &[]);
    let number = |name: &str, value: f64| json!({"name": name, "datatype": "FP32", "shape": [], "data": [value]});
    for (start, limit, step, says) in [
        (0.0, 2.5, 1.0, "'count' counts in fractions"),
        (5.0, 1.0, 2.0, "'count' counts from 5 to 1 by 2"),
        (1.0, 2.0, 0.0, "'count' counts from 1 to 2 by 0"),
    ] {
        let inputs = json!([number("start", start), number("limit", limit), number("step", step)]);
        hazards.ensure_refused("range_of_fractions", &inputs, &["these values of 'start', 'limit', 'step'", says]);
    }
}

/// A few bytes that ask for 16 GiB: fewer than any counter overflows at, and as many as tract would make at once.
#[test]
fn a_count_in_a_request_takes_no_more_memory_than_a_run_may() {
    for engine in engines() {
        let hazards = Hazards::start(&engine, &["range_by_value"], &["--max-run-memory", "1GiB"]);
        let requests = requests("range_by_value");
        for count in [1_u64 << 31, 1 << 28] {
            let inputs = json!([{"name": "limit", "datatype": "INT64", "shape": [], "data": [count]}]);
            hazards.ensure_refused("range_by_value", &inputs, &["bytes", "1073741824 are allowed"]);
            hazards.ensure_answered("range_by_value", &requests[0]);
        }
    }
}

/// The log is read by programs: a panic does not break into its lines.
#[test]
fn a_panic_is_a_line_of_the_log() {
    let model = model("gather_tokens");
    let arguments = ["--backend", "tract", "--model", &model];
    let server = Server::start_with(&arguments, &[("RUST_BACKTRACE", "1")]);
    let inputs = json!([{"name": "ids", "datatype": "INT64", "shape": [1, 3], "data": [0, 5, 1]}]);
    let body = json!({ "inputs": inputs }).to_string();
    let answer = server.post("/v2/models/gather_tokens/infer", "application/json", body.as_bytes());
    assert_eq!(answer.status, 400, "{}", answer.text());
    let event = server.event(|event| event["message"] == "panicked");
    assert!(event["place"].as_str().is_some_and(|place| place.contains(".rs:")), "{event}");
    assert!(event["backtrace"].as_str().is_some_and(|trace| trace.contains("gather")), "{event}");
}

/// tract has no loops whose number of turns a request chooses.
#[test]
fn a_loop_that_grows_ends_with_its_request() {
    let bombs = ["doubling_loop", "collecting_loop", "growing_sequence"];
    let Some(prefix) = onnxruntime_environment() else { return };
    let hazards = Hazards::start(&("onnxruntime", prefix), &bombs, &["--max-run-memory", "256MiB"]);
    for case in bombs {
        let requests = requests(case);
        hazards.ensure_answered(case, &requests[0]);
        let inputs = json!([
            {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]},
            {"name": "turns", "datatype": "INT64", "shape": [], "data": [1_000_000_000]},
        ]);
        hazards.ensure_refused(case, &inputs, &["bytes at once", "268435456 are allowed"]);
        hazards.ensure_answered(case, &requests[1]);
    }
}

/// A recurrent layer starts anew with every request, whoever sent the last one.
#[test]
fn no_state_is_left_for_the_next_request() {
    let cases = ["lstm_forward", "gru_bidirectional", "scan"];
    for engine in engines() {
        let hazards = Hazards::start(&engine, &cases, &[]);
        for case in cases {
            for request in requests(case).iter().flat_map(|request| [request, request, request]) {
                hazards.ensure_answered(case, request);
            }
        }
    }
}

/// Recurrent layers of no steps end the process of ONNX Runtime: such a request is refused by itself.
/// What a search found beside recurrent layers: a kernel without a size, a sum with nothing.
#[test]
fn an_operand_without_elements_ends_only_its_request() {
    let Some(prefix) = onnxruntime_environment() else { return };
    let model = |name: &str| format!("{name}={}", root().join(format!("tests/fixtures/models/{name}.onnx")).display());
    let (kernel, skipped) = (model("kernel"), model("skipped"));
    let arguments = ["--backend", "onnxruntime", "--model", &kernel, "--model", &skipped];
    let hazards =
        Hazards { server: Server::start_with(&arguments, &[("VIRTUAL_ENV", &prefix)]), engine: "onnxruntime" };
    let tensor = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        json!({ "name": name, "datatype": "FP32", "shape": shape, "data": vec![1.0; count] })
    };
    let picture = tensor("x", &[1, 1, 4, 4]);
    let tokens = tensor("x", &[2, 3, 4]);
    for _ in 0..2 {
        let (status, answer) = hazards.infer("kernel", &json!([picture, tensor("w", &[1, 1, 2, 2])]));
        assert_eq!((status, &answer["outputs"][0]["shape"]), (200, &json!([1, 1, 3, 3])), "{answer}");
        hazards.ensure_refused(
            "kernel",
            &json!([picture, tensor("w", &[1, 1, 0, 0])]),
            &["'w'", "'convolution' (Conv)"],
        );
        let (status, answer) = hazards.infer("skipped", &json!([tokens, tensor("skip", &[2, 3, 4])]));
        assert_eq!(status, 200, "{answer}");
        let nothing = json!([tokens, tensor("skip", &[0, 3, 4])]);
        hazards.ensure_refused("skipped", &nothing, &["'skip'", "'layer' (SkipLayerNormalization)"]);
    }
}

#[test]
fn no_elements_end_only_their_request() {
    let cases = ["lstm_forward", "gru_bidirectional"];
    for engine in engines() {
        let hazards = Hazards::start(&engine, &cases, &[]);
        for case in cases {
            let requests = requests(case);
            let inputs = requests[0]["inputs"].as_array().expect("inputs");
            let rank = inputs[0]["shape"].as_array().expect("a shape").len();
            for axis in 0..rank {
                let mut empty = inputs.clone();
                empty[0]["shape"][axis] = json!(0);
                empty[0]["data"] = json!([]);
                let (status, answer) = hazards.infer(case, &json!(empty));
                assert!(status == 200 || status == 400, "{case} on {}: {status} {answer}", hazards.engine);
                hazards.ensure_answered(case, &requests[0]);
            }
        }
    }
}

#[test]
fn a_size_that_a_request_would_choose_is_refused_at_load() {
    let output = run(&["serve", "--port", "0", "--backend", "tract", "--model", &model("range_by_maximum")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    for part in ["Range", "count", "value of the request"] {
        assert!(said.contains(part), "no '{part}' in {said}");
    }
}
