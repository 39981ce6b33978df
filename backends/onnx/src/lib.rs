//! ONNX files: read, checked, described and written, without any engine.
//!
//! A backend that cannot be asked about a graph without loading it reads the file here.

mod empty;
mod external;
mod file;
pub mod proto;
mod signature;

pub use empty::{answer_without_rows, check_empty};
pub use external::check_external;
pub use file::{OnnxFile, is_standard, subgraphs, subgraphs_mut};
pub use signature::{Declared, batch_axis, declared, dtype, report};
