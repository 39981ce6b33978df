//! The words of Corymb: tensors, signatures, requests, errors, and the traits that backends and plugins implement.
//!
//! Nothing here knows an async runtime, HTTP, JSON, Wasm or an inference engine, so that every other crate can
//! depend on it (and a plugin's guest could too).

mod backend;
mod buffer;
#[cfg(feature = "conformance")]
pub mod conformance;
mod device;
mod dtype;
mod error;
pub mod files;
mod heartbeat;
mod memory;
mod plugin;
mod request;
mod rows;
mod settings;
mod signature;
mod tensor;

pub use backend::{
    Availability, Backend, FileSource, Finding, Instance, LoadOptions, Model, ModelFiles, ModelInfo, Problem, Profile,
    RUN_BYTES, RunOptions, UnsupportedOperator, too_much_memory,
};
pub use buffer::Buffer;
pub use device::{Device, DeviceChoice, UnknownDevice};
pub use dtype::{DType, Element};
pub use error::{BackendError, Code, Danger, Ending, Error, Hazard, PluginError, Shortage};
pub use futures_core::future::BoxFuture;
pub use heartbeat::{Beating, Heartbeat};
pub use memory::{Holder, MemoryPool, UNCOUNTED};
pub use plugin::{Finish, Models, Plugin, PluginHost, PluginInfo, PluginOptions, ServedModel, Step};
pub use request::{CancelFlag, Parameters, Request, Response, Tensors, Value};
pub use rows::{BatchAxes, Culprit, Independence, RowAnalysis};
pub use settings::{EngineSettings, Optimization};
pub use signature::{Dim, Signature, SignatureError, TensorSpec};
pub use tensor::{MAX_RANK, Tensor, TensorError, element_count, format_dims};
