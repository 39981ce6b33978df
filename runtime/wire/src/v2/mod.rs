//! V2 REST: the Open Inference Protocol's inference document, with Triton's binary tensors beside it.
//!
//! The format is the protocol's `inference_rest.md` and Triton's "Binary Tensor Data Extension"; the rules beyond them are:
//! * members may come in any order; unknown ones are ignored, a known one given twice is an error, `null` is absence;
//! * `data` may be flat or nested: nested lists must be regular, but only the number of elements is held against `shape`;
//! * FP16 and BF16 are numbers; NaN, Infinity and -Infinity are bare words; BOOL may be 0 and 1;
//! * BYTES elements are texts, `{"b64": "…"}`, or base64 where the parameter `content_type` is `base64`;
//! * a body that is a picture is the model's only required input.

mod answer;
mod binary;
mod member;
mod metadata;
mod parameters;
mod request;
mod tensor;
mod writer;

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Error, Response, Signature, Tensors};
use http::HeaderMap;

use self::binary::{Parts, split};
pub use self::metadata::{decode_signature, encode_spec};
use crate::decoded::{Decoded, Encoded};
use crate::limits::{Budget, Ledger, Limits};
use crate::{picture, raw};

/// What the answer needs to know of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Echoed; empty where none was given.
    pub id: String,
    /// Empty for all.
    pub outputs: Vec<AskedOutput>,
    /// Whether outputs are binary that do not say it themselves.
    pub binary: bool,
}

/// An output that was asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedOutput {
    /// Of the signature.
    pub name: String,
    /// Whether it is binary; none where the request as a whole says so.
    pub binary: Option<bool>,
}

/// Which tensors a client sends and wants as binary data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binary {
    /// Those of the request.
    pub inputs: bool,
    /// Those of the answer.
    pub outputs: bool,
}

/// Reads a request's body into the model's inputs. The header [`raw::JSON_LENGTH`] says where the binary data begin.
///
/// # Errors
/// [`corymb_core::Code::InvalidArgument`] names the input, what was given and what was expected;
/// [`corymb_core::Code::TooLarge`] and what `budget` refuses.
pub fn decode(
    signature: &Signature,
    headers: &HeaderMap,
    body: &Bytes,
    limits: &Limits,
    budget: &mut dyn Budget,
) -> Result<Decoded<Ask>, Error> {
    if picture::is_picture(headers, body) {
        return Ok(Decoded::of(picture::inputs(signature, body)?, Ask::default()));
    }
    match split(headers, body)? {
        // A client that sends bytes alone reads bytes.
        Parts::Raw(body) => {
            let mut ledger = Ledger::new(limits, budget);
            let input = raw::raw_input(signature, &body, &mut ledger)?;
            ledger.settle()?;
            Ok(Decoded::of([input].into_iter().collect(), Ask { binary: true, ..Ask::default() }))
        }
        Parts::Json(json, binary) => request::read(signature, &json, &binary, limits, budget),
    }
}

/// How long a request's body says that its caller waits, whatever its model is.
#[must_use]
pub fn timeout(headers: &HeaderMap, body: &Bytes, limits: &Limits) -> Option<Duration> {
    match split(headers, body).ok()? {
        Parts::Json(json, _) => request::timeout(&json, limits),
        Parts::Raw(_) => None,
    }
}

/// Writes the answer.
///
/// # Errors
/// [`corymb_core::Code::Internal`] where the model did not give an output that was asked for; what `budget` refuses.
pub fn encode(ask: &Ask, response: &Response, budget: &mut dyn Budget) -> Result<Encoded, Error> {
    writer::answer(ask, response, budget)
}

/// Writes a request. Binary tensors follow the JSON.
///
/// # Errors
/// None for tensors that are what they say.
pub fn encode_request(inputs: &Tensors, binary: Binary) -> Result<Encoded, Error> {
    writer::request(inputs, binary)
}

/// Reads an answer.
///
/// # Errors
/// As [`decode`], with outputs for inputs.
pub fn decode_answer(
    headers: &HeaderMap,
    body: &Bytes,
    limits: &Limits,
    budget: &mut dyn Budget,
) -> Result<Response, Error> {
    match split(headers, body)? {
        Parts::Json(json, binary) => answer::read(&json, &binary, limits, budget),
        Parts::Raw(body) => answer::read(&Bytes::new(), &body, limits, budget),
    }
}

#[cfg(test)]
mod tests;
