//! gRPC answers: raw contents are read as the format says, and what is read is the same when the server writes it again.

use bytes::Bytes;
use corymb_core::Response;
use corymb_proto::inference::{ModelInferResponse, ModelStreamInferResponse};
use corymb_wire::grpc::{self, Form, PREFIX};
use corymb_wire::{Limits, Unbounded};
use prost::Message as _;

use crate::decoder::Decoder;
use crate::equality::{assert_same, assert_same_parameters};
use crate::input::Input;
use crate::reference;

/// The message.
pub(crate) fn run(data: &[u8]) {
    let body = Input::new(data).body();
    let Ok(message) = ModelInferResponse::decode(body.clone()) else { return };
    let decoder = Decoder {
        body: &body,
        decode: &|limits, budget| grpc::response(message.clone(), limits, budget),
        tensors: |answer: &Response| &answer.outputs,
        counts: &|_| false,
        // The generated type has read them all.
        most: usize::MAX,
    };
    let answer = decoder.check();
    let expected = reference::answer(&message);
    let (answer, expected) = match (answer, expected) {
        (Some(answer), Some(expected)) => (answer, expected),
        (None, None) => return,
        (answer, expected) => panic!("{:?}; expected {expected:?}", answer.map(|answer| answer.outputs)),
    };
    assert_same(&answer.outputs, &expected);
    assert_eq!(
        [&answer.id, &answer.model, &answer.version],
        [&message.id, &message.model_name, &message.model_version]
    );

    let written = payload(&answer, Form::Unary);
    check_again(&answer, ModelInferResponse::decode(written).expect("a message"));
    let streamed = ModelStreamInferResponse::decode(payload(&answer, Form::Stream)).expect("a message");
    assert_eq!(streamed.error_message, "");
    let mut inner = streamed.infer_response.expect("an answer");
    let last = inner.parameters.remove("triton_final_response");
    assert!(last.is_some(), "a stream's answer is marked");
    if answer.parameters.get("triton_final_response").is_none() {
        check_again(&answer, inner);
    }
}

fn payload(answer: &Response, form: Form) -> Bytes {
    let message = grpc::encode(answer.clone(), form, &mut Unbounded).expect("short").into_pieces();
    Bytes::from(message.concat()).slice(PREFIX..)
}

fn check_again(answer: &Response, message: ModelInferResponse) {
    let again = grpc::response(message, &Limits::default(), &mut Unbounded).expect("what the server writes");
    assert_eq!([&again.id, &again.model, &again.version], [&answer.id, &answer.model, &answer.version]);
    assert_same(&again.outputs, &answer.outputs);
    assert_same_parameters(&again.parameters, &answer.parameters);
}
