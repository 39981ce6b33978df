//! JSON of both REST protocols: numbers are parsed straight into typed buffers and written straight from them.
//!
//! A general JSON library would build a tree of values first. For a tensor of a million floats that tree takes ten times
//! the memory of the tensor, and building it several times the time of parsing; `corymb-tests-bench tiny` and `flowers`
//! show what is left. The tokens are read by `jiter`; what is written here is the way from a number to its place.

pub(crate) mod column;
pub(crate) mod fault;
mod nest;
mod number;
pub(crate) mod text;
pub(crate) mod writer;
