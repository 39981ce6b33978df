//! Hosts plugins: Wasm components that wrap a model's signature, run in the server's process without trusting them.
//!
//! [`Host`] implements [`corymb_core::PluginHost`]; it is the only crate that knows wasmtime. The contract is the `.wit`
//! file beside this crate.
//!
//! * Every request gets a fresh instance, made from a pool in microseconds: nothing leaks from one request to the next,
//!   and what a plugin breaks goes with it. `preprocess` and `postprocess` run in the same one, unless it was given up
//!   while the model ran because too many were waiting.
//! * Tensors live in the host; guests hold handles. What a guest made is shared and immutable once it has been handed over.
//! * A plugin has no authority but its imports, which are checked against an exact list; a memory cap, a deadline and
//!   cancellation by epochs, and a budget for everything that it can make the host keep or print.
//! * What a plugin answers is held to its own description and to the model's signature.
//!
//! Deliberately absent: WASI, component-model async, threads, and any state between requests.

mod artifact;
mod bindings;
mod cache;
mod compile;
#[cfg(target_os = "linux")]
mod compiler;
mod description;
mod engine;
mod host;
mod host_tensor;
mod images;
mod imports;
mod inference;
mod instance;
mod limits;
mod plugin;
mod pool;
mod signals;
mod state;
mod telemetry;
mod tensors;
mod ticker;

pub use compile::CompileLimits;
#[cfg(target_os = "linux")]
pub use compiler::compile_apart;
pub use host::Host;
