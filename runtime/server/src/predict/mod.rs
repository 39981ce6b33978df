//! Predictions: one pipeline, and what is particular to each protocol.

mod grpc;
mod pipeline;
mod protocol;
mod rest;
mod source;
mod stream;

pub(crate) use grpc::model_infer;
pub(crate) use pipeline::deadline;
pub(crate) use rest::{v1, v2};
pub(crate) use stream::model_stream_infer;
