//! Which backends, which plugin host, which exporters: the one place that names them.

mod delivery;
mod libraries;
mod log_bridge;
mod otlp;
mod signals;
mod tracer;

use std::sync::Arc;

use anyhow::Context as _;
use corymb_backend_onnxruntime::{OnnxRuntime, Search};
use corymb_backend_tract::Tract;
use corymb_core::{Backend, PluginHost};
use corymb_engine::{Engine, EngineOptions};
use corymb_plugin_host::Host;

pub(crate) use libraries::library_search;
pub(crate) use log_bridge::LogBridge;
pub(crate) use signals::Signals;

/// The backends that are compiled in, best first. One run may take `run_bytes`.
pub(crate) fn backends(libraries: Search, run_bytes: u64) -> Vec<Arc<dyn Backend>> {
    vec![Arc::new(OnnxRuntime::new(libraries, run_bytes)), Arc::new(Tract::new(run_bytes))]
}

/// What runs and compiles Wasm plugins.
pub(crate) fn plugin_host() -> anyhow::Result<Arc<Host>> {
    Ok(Arc::new(Host::new()?))
}

/// An engine without models. One run may take `run_bytes`.
pub(crate) fn engine(options: EngineOptions, libraries: Search, run_bytes: u64) -> anyhow::Result<Engine> {
    let plugins: Arc<dyn PluginHost> = plugin_host()?;
    let meters = opentelemetry::global::meter_provider();
    Engine::new(options, backends(libraries, run_bytes), Some(plugins), meters).context("start the compute pool")
}
