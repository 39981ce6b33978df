//! V2 answers: what is decoded is the same when the server writes it again, as JSON and as binary data.

use corymb_core::Response;
use corymb_wire::v2::{self, Ask};
use corymb_wire::{Limits, Unbounded};

use crate::decoder::{Decoder, ENTRIES};
use crate::equality::{assert_same, assert_same_parameters, one_nan};
use crate::input::{Input, json_length, v2_body};

/// [`v2_body`].
pub(crate) fn run(data: &[u8]) {
    let (headers, body) = v2_body(Input::new(data));
    let decoder = Decoder {
        body: &body,
        decode: &|limits, budget| v2::decode_answer(&headers, &body, limits, budget),
        tensors: |answer: &Response| &answer.outputs,
        counts: &|_| headers.is_empty(),
        most: ENTRIES,
    };
    let Some(answer) = decoder.check() else { return };
    for binary in [false, true] {
        let written = v2::encode(&Ask { id: answer.id.clone(), binary, ..Ask::default() }, &answer, &mut Unbounded)
            .expect("written");
        let (headers, body) = (json_length(written.json_len), written.body);
        let again = v2::decode_answer(&headers, &body, &Limits::default(), &mut Unbounded);
        let again = again.unwrap_or_else(|error| panic!("{body:?} is refused: {error}"));
        assert_eq!((again.id, again.model, again.version), {
            let Response { id, model, version, .. } = answer.clone();
            (id, model, version)
        });
        assert_same_parameters(&again.parameters, &answer.parameters);
        match binary {
            true => assert_same(&again.outputs, &answer.outputs),
            false => assert_same(&again.outputs, &one_nan(&answer.outputs)),
        }
    }
}
