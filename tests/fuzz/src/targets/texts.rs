//! Texts in JSON: a BYTES element is the text that another parser reads, or what its base64 stands for, or both refuse it.

use bytes::Bytes;
use corymb_core::DType;
use corymb_wire::{Limits, Unbounded, v1};
use http::HeaderMap;
use serde_json::Value;

use crate::input::{Input, body};
use crate::signatures::SIGNATURES;

/// A text that stands as the only element, in JSON.
pub(crate) fn run(data: &[u8]) {
    let signature = &SIGNATURES[DType::ALL.len() - 1];
    let text = Input::new(data).rest();
    let written = body(&[b"{\"inputs\":[[", text, b"]]}"].concat());
    let request = v1::decode(signature, &HeaderMap::new(), &written, &Limits::default(), &mut Unbounded);
    let element = request.ok().and_then(|request| {
        let [element] = request.inputs.get("x")?.elements()? else { return None };
        Some(element.clone())
    });
    let expected = serde_json::from_slice::<Value>(text).ok();
    match (element, expected) {
        (Some(element), Some(Value::String(text))) => assert_eq!(element, text),
        (Some(element), Some(Value::Object(object))) => {
            let base64 = object.get("b64").and_then(Value::as_str).expect("no other object is an element");
            assert_eq!(element, Bytes::from(bytes_of(base64)), "{base64}");
        }
        (None, Some(Value::String(text))) => panic!("{text:?} is refused"),
        // With a bracket the text can end its list, and more can follow.
        (Some(element), expected) => assert!(text.contains(&b']'), "{element:?}; expected {expected:?}"),
        (None, _) => {}
    }
}

/// Base64 of either alphabet, whatever else stands between the letters.
fn bytes_of(base64: &str) -> Vec<u8> {
    let sextet = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let sextets: Vec<u8> = base64.bytes().filter_map(sextet).collect();
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0_u32, |bits, sextet| bits << 6 | u32::from(*sextet)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    sextets.chunks(4).flat_map(group).collect()
}
