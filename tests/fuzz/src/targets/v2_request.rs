//! V2 requests: what is decoded is the same when the client writes it again, as JSON and as binary data, and comes back in
//! the answer that was asked for.

use corymb_core::{Response, Signature, Tensors};
use corymb_wire::v2::{self, Ask, Binary};
use corymb_wire::{Decoded, Limits, Unbounded};

use crate::decoder::Decoder;
use crate::equality::{assert_same, one_nan};
use crate::input::{Input, json_length, v2_body};
use crate::signatures::SIGNATURES;

/// A byte for the signature, then [`v2_body`].
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let signature = input.pick(&SIGNATURES);
    let (headers, body) = v2_body(input);
    let decoder = Decoder {
        body: &body,
        decode: &|limits, budget| v2::decode(signature, &headers, &body, limits, budget),
        tensors: |request: &Decoded<Ask>| &request.inputs,
        // With the header some are binary data, which the body bounds.
        counts: &|_| headers.is_empty(),
        most: signature.inputs.len(),
    };
    let Some(request) = decoder.check() else { return };
    check_names(signature, &request);
    for binary in [false, true] {
        client_says_the_same(signature, &request.inputs, binary);
        server_answers_the_same(&request, binary);
    }
}

fn check_names(signature: &Signature, request: &Decoded<Ask>) {
    for (index, (name, _)) in request.inputs.iter().enumerate() {
        assert!(signature.input(name).is_some(), "'{name}' is not in the signature");
        assert!(request.inputs.iter().skip(index + 1).all(|(other, _)| other != name), "'{name}' is there twice");
    }
    assert_eq!(request.ask.id, request.id);
    let asked = request.ask.outputs.iter().map(|output| &output.name);
    assert!(asked.eq(&request.outputs), "{:?} and {:?}", request.ask, request.outputs);
    signature.check_outputs(request.outputs.iter().map(String::as_str)).expect("known outputs");
    assert!(request.parameters.iter().len() <= Limits::default().parameters);
    assert_ne!(request.priority, Some(0), "0 is no priority");
}

fn client_says_the_same(signature: &Signature, inputs: &Tensors, binary: bool) {
    let written = v2::encode_request(inputs, Binary { inputs: binary, outputs: binary }).expect("written");
    let (headers, body) = (json_length(written.json_len), written.body);
    let again = v2::decode(signature, &headers, &body, &Limits::default(), &mut Unbounded);
    let again = again.unwrap_or_else(|error| panic!("{body:?} is refused: {error}"));
    assert_eq!(again.ask, Ask { binary, ..Ask::default() });
    assert!(again.parameters.is_empty());
    if binary { assert_same(&again.inputs, inputs) } else { assert_same(&again.inputs, &one_nan(inputs)) }
}

/// The inputs as outputs, those that were asked for, where the request brought them.
fn server_answers_the_same(request: &Decoded<Ask>, binary: bool) {
    let mut ask = Ask { binary, ..request.ask.clone() };
    ask.outputs.retain(|output| request.inputs.get(&output.name).is_some());
    let response = Response { outputs: request.inputs.clone(), ..Response::default() };
    let written = v2::encode(&ask, &response, &mut Unbounded).expect("written");
    let (headers, body) = (json_length(written.json_len), written.body);
    let answer = v2::decode_answer(&headers, &body, &Limits::default(), &mut Unbounded);
    let answer = answer.unwrap_or_else(|error| panic!("{body:?} is refused: {error}"));
    assert_eq!(answer.id, request.id);
    let named = |name: &str| (name.to_owned(), request.inputs.get(name).expect("retained").clone());
    let expected = match ask.outputs.as_slice() {
        [] => request.inputs.clone(),
        outputs => outputs.iter().map(|output| named(&output.name)).collect(),
    };
    assert_same(&one_nan(&answer.outputs), &one_nan(&expected));
}
