//! Whether the server and its models are there, and whether they can answer.

pub(crate) mod grpc;
pub(crate) mod rest;
