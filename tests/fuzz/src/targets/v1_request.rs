//! V1 requests: what is decoded is written by the client, and answered by the server, and is the same when it is read again.

use corymb_core::{Response, Signature};
use corymb_wire::v1::{self, Form};
use corymb_wire::{Decoded, Limits, Unbounded};
use http::HeaderMap;

use crate::decoder::Decoder;
use crate::equality::{assert_same, one_nan};
use crate::input::{Input, content_type};
use crate::signatures::{SIGNATURES, check_declared, holds_documents};

/// A byte for the signature, a byte for the content type, the body.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let signature = input.pick(&SIGNATURES);
    let headers = content_type(input.byte());
    let body = input.body();
    let decoder = Decoder {
        body: &body,
        decode: &|limits, budget| v1::decode(signature, &headers, &body, limits, budget),
        tensors: |request: &Decoded<Form>| &request.inputs,
        counts: &|_| true,
        most: signature.inputs.len(),
    };
    let Some(request) = decoder.check() else { return };
    check_declared(&signature.inputs, &request.inputs);
    if let Form::Rows(rows) = request.ask {
        assert!(rows > 0, "a request without rows");
        let shapes = request.inputs.iter().map(|(_, tensor)| tensor.rows());
        // A picture is a row of an input without an axis of rows, too.
        assert!(shapes.flatten().all(|given| given == rows), "{:?} of {rows} rows", request.inputs);
    }
    assert!(request.id.is_empty() && request.parameters.is_empty() && request.outputs.is_empty());
    assert_eq!((request.timeout, request.priority), (None, None));
    client_says_the_same(signature, &request);
    server_answers_the_same(signature, &request);
}

/// The client writes no documents, since it knows no signature; and without an input that is required, it names none.
fn client_says_the_same(signature: &Signature, request: &Decoded<Form>) {
    let inputs = &request.inputs;
    let complete = signature.required_inputs().all(|spec| inputs.get(&spec.name).is_some());
    if !complete || inputs.iter().any(|(name, _)| holds_documents(&signature.inputs, name)) {
        return;
    }
    let written = v1::encode_request(inputs).expect("written").body;
    let again = v1::decode(signature, &HeaderMap::new(), &written, &Limits::default(), &mut Unbounded);
    let again = again.unwrap_or_else(|error| panic!("{written:?} is refused: {error}"));
    assert_same(&again.inputs, &one_nan(inputs));
}

/// The inputs as outputs, in the form of the request.
fn server_answers_the_same(signature: &Signature, request: &Decoded<Form>) {
    let outputs = &request.inputs;
    let rows = match request.ask {
        Form::Rows(_) => outputs.iter().all(|(_, tensor)| tensor.rows().is_some()),
        Form::Columns => true,
    };
    // A client cannot tell which of several outputs has been left out.
    if !rows || outputs.len() != signature.outputs.len() {
        return;
    }
    let response = Response { outputs: outputs.clone(), ..Response::default() };
    let written = v1::encode(signature, request.ask, &response, &mut Unbounded).expect("written").body;
    let again = v1::decode_answer(signature, &written, &Limits::default(), &mut Unbounded);
    let again = again.unwrap_or_else(|error| panic!("{written:?} is refused: {error}"));
    assert_same(&again, &one_nan(outputs));
}
