//! Pictures as bodies: told by content type or first bytes, taken in place as one element, by V1 and V2 alike.

use corymb_core::Code;
use corymb_wire::raw::JSON_LENGTH;
use corymb_wire::{Limits, Unbounded, picture, v1, v2};

use crate::decoder::Decoder;
use crate::equality::assert_same;
use crate::input::{Input, content_type, json_length};
use crate::signatures::SIGNATURES;

/// A byte for the signature, a byte for the header, the body.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let signature = input.pick(&SIGNATURES);
    let choice = input.byte();
    let headers = if choice == 4 { json_length(Some(0)) } else { content_type(choice) };
    let body = input.body();

    let known = picture::media_type(&body);
    let expected = !headers.contains_key(&JSON_LENGTH) && (known.is_some() || [1, 2].contains(&choice));
    assert_eq!(picture::is_picture(&headers, &body), expected, "{known:?} with {headers:?}");
    assert!(known.is_none_or(|media_type| media_type.starts_with("image/")));

    let decoder = Decoder {
        body: &body,
        decode: &|_, _| picture::inputs(signature, &body),
        tensors: |inputs| inputs,
        counts: &|_| true,
        most: 1,
    };
    let inputs = decoder.check();
    match &inputs {
        Some(inputs) => {
            let (_, tensor) = inputs.iter().next().expect("one input");
            assert!(tensor.shape().iter().all(|size| *size == 1), "{tensor:?}");
            let [element] = tensor.elements().expect("BYTES") else { panic!("{tensor:?} is not one element") };
            assert_eq!(element.as_ptr_range(), body.as_ptr_range(), "the picture was copied");
        }
        None => {
            let refused = picture::inputs(signature, &body).map_err(|error| error.code);
            assert_eq!(refused, Err(Code::UnsupportedMediaType));
        }
    }
    if expected {
        let limits = Limits::default();
        let first = v1::decode(signature, &headers, &body, &limits, &mut Unbounded).map(|request| request.inputs);
        let second = v2::decode(signature, &headers, &body, &limits, &mut Unbounded).map(|request| request.inputs);
        match (first, second, inputs) {
            (Ok(first), Ok(second), Some(inputs)) => {
                assert_same(&first, &inputs);
                assert_same(&second, &inputs);
            }
            (Err(_), Err(_), None) => {}
            (first, second, inputs) => panic!("V1 gives {first:?}, V2 {second:?}, both should give {inputs:?}"),
        }
    }
}
