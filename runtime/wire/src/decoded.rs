//! What a request's bytes are decoded to, and what an answer is encoded to.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Parameters, Tensors};

/// A request as tensors, free of its protocol but for `ask`.
#[derive(Clone, Debug)]
pub struct Decoded<A> {
    /// The caller's own name for the request; empty where none was given.
    pub id: String,
    /// What goes in.
    pub inputs: Tensors,
    /// Those for the model; those for the server are taken out.
    pub parameters: Parameters,
    /// Names of the outputs that are wanted; empty for all.
    pub outputs: Vec<String>,
    /// How long the caller waits, by a parameter of the request.
    pub timeout: Option<Duration>,
    /// Which requests go first, by a parameter of the request: 1 before 2, and none last.
    pub priority: Option<u64>,
    /// What the answer needs to know of the request.
    pub ask: A,
}

impl<A> Decoded<A> {
    /// Tensors and nothing else.
    pub(crate) fn of(inputs: Tensors, ask: A) -> Self {
        Self {
            id: String::new(),
            inputs,
            parameters: Parameters::new(),
            outputs: Vec::new(),
            timeout: None,
            priority: None,
            ask,
        }
    }
}

/// A body of REST, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// JSON, with binary data behind it where there is any.
    pub body: Bytes,
    /// Bytes of JSON before the binary data, for the header [`crate::raw::JSON_LENGTH`]; none for JSON alone.
    pub json_len: Option<usize>,
}

impl Encoded {
    /// JSON alone.
    pub(crate) fn json(body: Vec<u8>) -> Self {
        Self { body: body.into(), json_len: None }
    }

    /// The media type of the body.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        if self.json_len.is_some() { "application/octet-stream" } else { "application/json" }
    }
}
