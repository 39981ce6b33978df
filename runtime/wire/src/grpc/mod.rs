//! gRPC of the Open Inference Protocol: framing, requests and answers of `ModelInfer` and `ModelStreamInfer`.
//!
//! Requests are read straight from the wire into tensors and answers are written from the tensors' own buffers, so that
//! every limit holds before memory is taken and payloads are not copied on their way in or out.

mod answer;
mod client;
mod fields;
mod frame;
mod glimpse;
mod request;

use corymb_core::Error;

pub use self::answer::{Form, encode, refusal};
pub use self::client::{request, response};
pub use self::frame::{Head, Message, PREFIX};
pub use self::glimpse::first_name;
pub use self::request::{Look, decode, look};

/// The refusal of bytes that are not the protobuf they should be.
#[must_use]
pub fn malformed(what: impl std::fmt::Display) -> Error {
    fields::malformed(what)
}

#[cfg(test)]
mod tests;
