//! One target for each decoder.

pub(crate) mod grpc_answer;
pub(crate) mod grpc_frame;
pub(crate) mod grpc_request;
pub(crate) mod inflate;
pub(crate) mod numbers;
pub(crate) mod picture;
pub(crate) mod raw;
pub(crate) mod refusal;
pub(crate) mod texts;
pub(crate) mod timeouts;
pub(crate) mod v1_answer;
pub(crate) mod v1_request;
pub(crate) mod v2_answer;
pub(crate) mod v2_metadata;
pub(crate) mod v2_request;
