//! ONNX files: read, checked, described and written, without any engine.
//!
//! A backend that cannot be asked about a graph without loading it reads the file here. One whose engine brings types of
//! its own for the messages takes the rules that depend on no types.

mod calls;
mod cost;
mod empty;
mod external;
mod file;
mod folded;
mod names;
pub mod proto;
mod rows;
mod signature;
mod tables;

pub use calls::{Calls, Named, named};
pub use cost::{shapes_bound_cost, uncounted_memory};
pub use empty::{answer_without_rows, axes_without_rows, check_empty};
pub use external::{check_external, external_file};
pub use file::{FileStamp, OnnxFile, is_standard, subgraphs, subgraphs_mut};
pub use folded::costly_load;
pub use names::Names;
pub use rows::analyse_rows;
pub use signature::{Declared, declared, dim, dtype, report, tensor_spec};
pub use tables::tables;
