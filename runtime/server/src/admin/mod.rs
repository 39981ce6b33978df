//! The model repository: what there is, and loading and unloading by request.

pub(crate) mod grpc;
mod repository;
pub(crate) mod rest;
