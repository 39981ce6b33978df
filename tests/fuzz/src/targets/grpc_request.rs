//! gRPC requests: the look and the decoder agree with the generated types, and what is decoded is the same when the client
//! writes it again.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Code, DType, Tensor, Tensors};
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::{InferParameter, ModelInferRequest};
use corymb_wire::grpc::{self, Look};
use corymb_wire::{Decoded, Limits, Unbounded};
use prost::Message as _;

use crate::decoder::{Decoder, ENTRIES, check_refusal};
use crate::equality::{assert_same, assert_same_parameters};
use crate::input::{self, Input};
use crate::reference;

/// The message.
pub(crate) fn run(data: &[u8]) {
    let body = Input::new(data).body();
    if let Err(error) = grpc::look(&body, &Limits::default()) {
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
    }
    let generated = ModelInferRequest::decode(body.clone()).ok();
    let raw = generated.as_ref().is_none_or(|request| !request.raw_input_contents.is_empty());
    let decoder = Decoder {
        body: &body,
        decode: &|limits, budget| grpc::decode(&body, limits, budget),
        tensors: |request: &Decoded<()>| &request.inputs,
        // Floats and raw contents take no more than they did in the message.
        counts: &|tensor: &Tensor| !raw && !matches!(tensor.dtype(), DType::Fp32 | DType::Fp64),
        most: ENTRIES,
    };
    let decoded = decoder.check();
    if let Some(generated) = &generated {
        if let Some(decoded) = &decoded {
            agrees(decoded, generated);
        }
        canonical(generated);
    }
    if let Some(decoded) = decoded {
        client_says_the_same(&decoded.inputs);
    }
}

/// The message as an encoder writes it. Unknown fields and odd encodings are gone, so both must judge it alike.
fn canonical(generated: &ModelInferRequest) {
    let message = input::body(&generated.encode_to_vec());
    let look = grpc::look(&message, &Limits::default());
    if generated.parameters.values().all(|value| value.parameter_choice.is_some()) {
        assert_eq!(look.expect("canonical"), look_of(generated));
    } else {
        check_refusal(&look.expect_err("a parameter without a value"));
    }

    let decoded = grpc::decode(&message, &Limits::default(), &mut Unbounded);
    let expected = reference::request(generated);
    match (&decoded, &expected) {
        (Ok(decoded), Some(_)) => agrees(decoded, generated),
        (Ok(_), None) => panic!("{generated:?} should be refused"),
        (Err(error), Some(_)) if plain(generated) => panic!("{generated:?} is refused: {error}"),
        (Err(error), _) => check_refusal(error),
    }
}

fn look_of(request: &ModelInferRequest) -> Look {
    let timeout = match request.parameters.get("timeout").and_then(|value| value.parameter_choice.clone()) {
        Some(ParameterChoice::Int64Param(micros)) => u64::try_from(micros).ok(),
        Some(ParameterChoice::Uint64Param(micros)) => Some(micros),
        _ => None,
    };
    Look {
        model: request.model_name.clone(),
        version: Some(request.model_version.clone()).filter(|version| !version.is_empty()),
        id: request.id.clone(),
        timeout: timeout.filter(|micros| *micros > 0).map(Duration::from_micros),
    }
}

fn agrees(decoded: &Decoded<()>, generated: &ModelInferRequest) {
    let expected = reference::request(generated);
    assert_same(&decoded.inputs, &expected.unwrap_or_else(|| panic!("{generated:?} should be refused")));
    let Look { id, timeout, .. } = look_of(generated);
    assert_eq!((&decoded.id, decoded.timeout), (&id, timeout));
    let outputs = generated.outputs.iter().map(|output| &output.name);
    assert!(outputs.eq(&decoded.outputs), "{:?}", decoded.outputs);
    let parameters = generated.parameters.iter().filter(|(name, _)| !is_reserved(name));
    assert_same_parameters(&decoded.parameters, &parameters.map(reference::parameter).collect());
    assert_ne!(decoded.priority, Some(0), "0 is no priority");
}

/// Whether no parameter has a meaning of its own, for which it can be refused.
fn plain(request: &ModelInferRequest) -> bool {
    let plain = |parameters: &HashMap<String, InferParameter>| {
        parameters.iter().all(|(name, value)| !is_reserved(name) && value.parameter_choice.is_some())
    };
    plain(&request.parameters)
        && request.inputs.iter().all(|input| plain(&input.parameters))
        && request.outputs.iter().all(|output| plain(&output.parameters))
}

fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "binary_data_output",
        "timeout",
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "classification",
    ];
    NAMES.contains(&name) || name.starts_with("shared_memory_") || name.starts_with("triton_")
}

fn client_says_the_same(inputs: &Tensors) {
    let message = Bytes::from(grpc::request("m", inputs).encode_to_vec());
    assert_eq!(grpc::look(&message, &Limits::default()).expect("a request").model, "m");
    let again = grpc::decode(&message, &Limits::default(), &mut Unbounded);
    assert_same(&again.unwrap_or_else(|error| panic!("{message:?} is refused: {error}")).inputs, inputs);
}
