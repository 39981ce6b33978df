//! Bytes to tensors and back, for every prediction protocol.
//!
//! Each protocol is a module with the same functions: `decode` and `encode` are the server's side, `encode_request` and
//! `decode_answer` (for gRPC `request` and `response`) the client's, by which `corymb bench` and `corymb predict --url` speak.
//! Everything is synchronous and knows no server: limits are arguments ([`Limits`]), memory is asked for before it is used
//! ([`Budget`]), and what is wrong is a [`corymb_core::Error`] in the caller's terms. `tests/fuzz` has a target for each
//! decoder.
//!
//! ```
//! use bytes::Bytes;
//! use corymb_core::{DType, Dim, Response, Signature, Tensor, TensorSpec};
//! use corymb_wire::{Limits, Unbounded, v1};
//! use http::HeaderMap;
//!
//! let spec = |name| TensorSpec::new(name, DType::Fp32, vec![Dim::Symbol("N".into()), Dim::Fixed(2)]);
//! let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
//! let body = Bytes::from_static(br#"{"instances": [[1, 2.5]]}"#);
//! let request = v1::decode(&signature, &HeaderMap::new(), &body, &Limits::default(), &mut Unbounded)?;
//! assert_eq!(request.inputs.get("x").and_then(Tensor::as_slice::<f32>), Some(&[1.0, 2.5][..]));
//!
//! let outputs = [("y", request.inputs.get("x").expect("given").clone())].into_iter().collect();
//! let answer = v1::encode(&signature, request.ask, &Response { outputs, ..Response::default() }, &mut Unbounded)?;
//! assert_eq!(answer.body, r#"{"predictions":[[1.0,2.5]]}"#);
//! # Ok::<(), corymb_core::Error>(())
//! ```

mod coding;
mod decoded;
pub mod grpc;
mod json;
mod limits;
mod parameters;
pub mod picture;
pub mod raw;
pub mod refusal;
pub mod timeout;
pub mod v1;
pub mod v2;

#[cfg(test)]
mod round_trip;

pub use coding::{Coding, Inflater};
pub use decoded::{Decoded, Encoded};
pub use limits::{Budget, Limits, Unbounded};
