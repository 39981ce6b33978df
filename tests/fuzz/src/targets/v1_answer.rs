//! V1 answers: what is decoded is the same when the server writes it again, as a whole and tensor by tensor.

use bytes::Bytes;
use corymb_core::{Response, Signature, Tensors};
use corymb_wire::v1::{self, Form};
use corymb_wire::{Limits, Unbounded};

use crate::decoder::Decoder;
use crate::equality::{assert_same, one_nan};
use crate::input::Input;
use crate::signatures::{SIGNATURES, check_declared, holds_documents};

/// A byte for the signature, the body.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let signature = input.pick(&SIGNATURES);
    let body = input.body();
    let decoder = Decoder {
        body: &body,
        decode: &|limits, budget| v1::decode_answer(signature, &body, limits, budget),
        tensors: |outputs: &Tensors| outputs,
        counts: &|_| true,
        most: signature.outputs.len(),
    };
    let Some(outputs) = decoder.check() else { return };
    check_declared(&signature.outputs, &outputs);
    if outputs.len() == signature.outputs.len() {
        let response = Response { outputs: outputs.clone(), ..Response::default() };
        let written = v1::encode(signature, Form::Columns, &response, &mut Unbounded).expect("written").body.to_vec();
        assert_same(&read(signature, written), &one_nan(&outputs));
    }
    for (name, tensor) in outputs.iter().filter(|(name, _)| !holds_documents(&signature.outputs, name)) {
        let text = v1::text_of(name, tensor).expect("written");
        let written = format!("{{\"outputs\":{{\"{name}\":{text}}}}}");
        assert_same(&read(signature, written.into()), &one_nan(&Tensors::from_iter([(name, tensor.clone())])));
    }
}

fn read(signature: &Signature, written: Vec<u8>) -> Tensors {
    let written = Bytes::from(written);
    let again = v1::decode_answer(signature, &written, &Limits::default(), &mut Unbounded);
    again.unwrap_or_else(|error| panic!("{written:?} is refused: {error}"))
}
