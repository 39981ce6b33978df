//! JSON of both REST protocols: numbers are parsed straight into typed buffers and written straight from them.

mod column;
mod fault;
mod nest;
mod number;
mod text;
pub(crate) mod v1;
pub(crate) mod v2;
mod v2_parameters;
pub(crate) mod v2_reply;
mod writer;

#[cfg(test)]
mod round_trip;

/// Bytes of tensors that one body of JSON may decode to, over all of its tensors. `[0,0,…]` as FP64 takes four times
/// the bytes of its text and `["","",…]` ten times, so the limit of the body alone does not bound it.
pub(crate) const MAX_DECODED: usize = 512 * 1024 * 1024;
