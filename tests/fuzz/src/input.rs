//! What a fuzzer's bytes mean: choices first, then a body.

use bytes::Bytes;
use corymb_core::Buffer;
use corymb_wire::raw::JSON_LENGTH;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// Bytes that were not used yet.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of `choices`, by the next byte.
    pub(crate) fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[usize::from(self.byte()) % choices.len()]
    }

    /// What stands before the next zero byte, which is skipped; all of it without one.
    pub(crate) fn before_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let (before, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        before
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The rest as a body.
    pub(crate) fn body(self) -> Bytes {
        body(self.0)
    }
}

/// A body whose first byte is aligned: whether a tensor can be used in place depends on its input alone.
pub(crate) fn body(bytes: &[u8]) -> Bytes {
    Buffer::copy_of(bytes).freeze()
}

/// Headers with the content type that `choice` says: mostly none.
pub(crate) fn content_type(choice: u8) -> HeaderMap {
    let value = match choice {
        1 => "image/png",
        2 => "IMAGE/*",
        3 => "application/json",
        _ => return HeaderMap::new(),
    };
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))])
}

/// Headers that say where the JSON of a V2 body ends; none where all of it is JSON.
pub(crate) fn json_length(len: Option<usize>) -> HeaderMap {
    len.map(|len| (JSON_LENGTH.clone(), HeaderValue::from(len))).into_iter().collect()
}

/// A V2 body and its headers.
///
/// The first byte chooses: JSON alone; JSON up to the first zero byte, which no JSON has, and binary data behind it; binary
/// data alone; a header that is any text; a content type.
pub(crate) fn v2_body(mut input: Input<'_>) -> (HeaderMap, Bytes) {
    match input.byte() % 5 {
        0 => (HeaderMap::new(), input.body()),
        1 => {
            let json = input.before_zero();
            (json_length(Some(json.len())), body(&[json, input.rest()].concat()))
        }
        2 => (json_length(Some(0)), input.body()),
        3 => {
            let value = HeaderValue::from_bytes(input.before_zero()).ok();
            let headers = value.map(|value| (JSON_LENGTH.clone(), value)).into_iter().collect();
            (headers, input.body())
        }
        _ => (content_type(input.byte()), input.body()),
    }
}
