//! Numbers in JSON: nested lists are taken for the same tensor, or refused, as by a second parser.

use corymb_core::{DType, Tensors};
use corymb_wire::{Limits, Unbounded, v1};
use http::HeaderMap;

use crate::input::{Input, body};
use crate::nested::{Nested, element};
use crate::signatures::SIGNATURES;

/// A byte for the dtype, a text that stands as the input's value.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let index = usize::from(input.byte()) % DType::ALL.len();
    let (dtype, signature) = (DType::ALL[index], &SIGNATURES[index]);
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    // Texts are for another target, and a brace could end the object that is made here.
    if dtype == DType::Bytes || text.contains(['}', '"']) {
        return;
    }
    let written = body(format!("{{\"inputs\":{text}}}").as_bytes());
    let request = v1::decode(signature, &HeaderMap::new(), &written, &Limits::default(), &mut Unbounded);
    let expected = parsed(dtype, text);
    match (request, expected) {
        (Ok(request), Some((shape, bytes))) => {
            let tensor = request.inputs.get("x").expect("the one input");
            assert_eq!((tensor.shape(), tensor.bytes().expect("fixed").to_vec()), (&*shape, bytes), "{dtype} {text}");
        }
        (Err(_), None) => {}
        (request, expected) => {
            let given: Result<Tensors, _> = request.map(|request| request.inputs);
            panic!("{dtype} {text} gives {given:?}; expected {expected:?}");
        }
    }
}

fn parsed(dtype: DType, text: &str) -> Option<(Vec<usize>, Vec<u8>)> {
    let Nested { mut shape, words } = Nested::parse(text)?;
    let elements: Option<Vec<_>> = words.iter().map(|word| element(dtype, word)).collect();
    if shape == [0] {
        // What an empty list leaves open is taken from the signature, whose second dimension is open too.
        shape.push(0);
    }
    Some((shape, elements?.concat()))
}
