//! A plugin that misbehaves on demand: the host's tests choose how by the configuration (a JSON string) and, for requests,
//! by the parameter `do`.
//!
//! After a change: `plugins/build.sh tests/guests/hostile tests/fixtures/plugins/hostile.wasm`.
//!
//! Well-behaved, it passes input `x` to the model and the model's `y` back, with `note` carried around the model.

mod abuse;
mod conformance;

use std::cell::Cell;

use bindings::corymb::plugin::inference::{self, Call};
use bindings::corymb::plugin::tensors::{NamedTensor, Tensor};
use bindings::corymb::plugin::types::{Description, Dtype, Error, ErrorCode, Model, TensorSpec};
use bindings::exports::corymb::plugin::transform::{Carry, Guest, Parameter, Prepared, Request, Response, Step, Value};

mod bindings {
    wit_bindgen::generate!({ world: "orchestrator", path: "../../../plugins/wit" });
}

thread_local! {
    /// Calls that this instance has seen: what a fresh instance cannot know of an earlier request.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Hostile;

fn spec(name: &str, dtype: Dtype, shape: &[Option<u32>], optional: bool) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec(), optional, media_type: None }
}

fn named(name: &str, tensor: Tensor) -> NamedTensor {
    NamedTensor { name: name.to_owned(), tensor }
}

fn error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error { code, message: message.into(), details: None }
}

fn take(tensors: &mut Vec<NamedTensor>, name: &str) -> Option<Tensor> {
    let index = tensors.iter().position(|named| named.name == name)?;
    Some(tensors.remove(index).tensor)
}

fn text<'a>(request: &'a Request, name: &str) -> &'a str {
    let text = request.parameters.iter().find_map(|parameter| match &parameter.value {
        Value::Text(text) if parameter.name == name => Some(text.as_str()),
        _ => None,
    });
    text.unwrap_or_default()
}

fn counted() -> Parameter {
    CALLS.set(CALLS.get() + 1);
    Parameter { name: "calls".to_owned(), value: Value::Uint64(CALLS.get()) }
}

fn answer(outputs: Vec<NamedTensor>) -> Result<Step, Error> {
    Ok(Step::Answer(Response { outputs, parameters: vec![counted()] }))
}

fn run(x: Tensor, bytes: Vec<u8>, tensors: Vec<NamedTensor>) -> Result<Step, Error> {
    counted();
    Ok(Step::Run(Prepared { inputs: vec![named("x", x)], carry: Carry { bytes, tensors } }))
}

impl Guest for Hostile {
    fn configure(config: String, model: Option<Model>) -> Result<Description, Error> {
        let rows = |name: &str| spec(name, Dtype::Fp32, &[None, Some(2)], false);
        let note = |name: &str| spec(name, Dtype::Bytes, &[None], true);
        let mut description = Description {
            inputs: vec![rows("x"), note("note")],
            outputs: vec![rows("y"), note("note")],
            model_inputs: model.iter().map(|_| rows("x")).collect(),
            model_outputs: model.iter().map(|_| rows("y")).collect(),
            reusable: true,
        };
        match config.trim_matches('"') {
            "loop" => abuse::spin(),
            "trap" => abuse::trap(),
            "refuse" => return Err(error(ErrorCode::InvalidArgument, "this configuration is not for me")),
            "infer" => {
                inference::describe("other", None)?;
            }
            "misfit" => description.model_inputs = vec![rows("z")],
            "other" => description.outputs[0].dtype = Dtype::Other("fp8".to_owned()),
            _ => {}
        }
        Ok(description)
    }

    fn preprocess(mut request: Request) -> Result<Step, Error> {
        let x = take(&mut request.inputs, "x").ok_or_else(|| error(ErrorCode::Internal, "no x"))?;
        match text(&request, "do") {
            "conformance" => conformance::check().map_err(|what| error(ErrorCode::Internal, what))?,
            "loop" => abuse::spin(),
            "loop in host calls" => abuse::spin_in_host_calls(&x),
            "grow" => abuse::grow(),
            "trap" => abuse::trap(),
            "overflow the stack" => abuse::recurse(1),
            "flood the log" => abuse::flood_the_log(),
            "flood the metrics" => abuse::flood_the_metrics(),
            "flood the handles" => abuse::flood_the_handles(&x),
            "large tensors" => {
                for _ in 0..5 {
                    Tensor::zeroed(&Dtype::Uint8, &[64 << 20])?;
                }
            }
            "large element" => {
                Tensor::from_elements(&[1], &[vec![0; 65 << 20]])?;
            }
            "large carry" => return run(x, vec![7; (64 << 10) + 1], Vec::new()),
            "huge carry" => return run(x, vec![7; 80 << 20], Vec::new()),
            "error" => {
                let details = Some("for the log".to_owned());
                return Err(Error { code: ErrorCode::NotFound, message: "€".repeat(4 << 10), details });
            }
            "large parameter" => {
                let value = Value::Text("x".repeat(64 << 10));
                let parameters = vec![Parameter { name: "text".to_owned(), value }];
                return Ok(Step::Answer(Response { outputs: vec![named("y", x)], parameters }));
            }
            "answer" => return answer(vec![named("y", x)]),
            "answer nothing" => return answer(Vec::new()),
            "answer twice" => return answer(vec![named("y", x.share()), named("y", x)]),
            "answer unknown" => return answer(vec![named("y", x.share()), named("z", x)]),
            "answer another shape" => {
                return answer(vec![named("y", Tensor::create(&Dtype::Fp32, &[2], &[0; 8])?)]);
            }
            "answer another dtype" => {
                return answer(vec![named("y", Tensor::create(&Dtype::Int32, &[1, 2], &[0; 8])?)]);
            }
            "prepare another dtype" => {
                return run(Tensor::create(&Dtype::Int32, &[1, 2], &[0; 8])?, Vec::new(), Vec::new());
            }
            "prepare another name" => {
                let carry = Carry { bytes: Vec::new(), tensors: Vec::new() };
                return Ok(Step::Run(Prepared { inputs: vec![named("z", x)], carry }));
            }
            "infer" => {
                let call =
                    Call { model: text(&request, "model").to_owned(), version: None, inputs: vec![named("x", x)] };
                return answer(inference::infer(call)?);
            }
            "infer all" => {
                let call =
                    |model: &str| Call { model: model.to_owned(), version: None, inputs: vec![named("x", x.share())] };
                let mut answers = inference::infer_all(vec![call("other"), call("missing")]);
                return match (answers.pop(), answers.pop()) {
                    (Some(Err(Error { code: ErrorCode::NotFound, .. })), Some(Ok(outputs))) => answer(outputs),
                    _ => Err(error(ErrorCode::Internal, "answers in another order")),
                };
            }
            _ => {}
        }
        // What `postprocess` is to do travels as any state does.
        let bytes = text(&request, "do").as_bytes().to_vec();
        run(x, bytes, request.inputs)
    }

    fn postprocess(mut outputs: Vec<NamedTensor>, carry: Carry) -> Result<Response, Error> {
        match carry.bytes.as_slice() {
            b"loop in postprocess" => abuse::spin(),
            b"trap in postprocess" => abuse::trap(),
            b"write what was received" => outputs[0].tensor.write(0, &[0; 4])?,
            _ => {}
        }
        outputs.extend(carry.tensors);
        Ok(Response { outputs, parameters: vec![counted()] })
    }
}

bindings::export!(Hostile with_types_in bindings);
