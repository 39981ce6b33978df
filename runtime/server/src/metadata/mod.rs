//! What the server is and what its models take and give; nothing here runs a model.

pub(crate) mod grpc;
pub(crate) mod v1;
pub(crate) mod v2;
