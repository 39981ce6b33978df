//! Which backends, which plugin host, which exporters: the one place that names them.

mod delivery;
mod libraries;
mod log_bridge;
mod otlp;
mod process;
mod signals;
mod tracer;

use std::sync::Arc;

use anyhow::Context as _;
use corymb_backend_onnxruntime::{OnnxRuntime, Search};
#[cfg(target_os = "linux")]
use corymb_backend_process::{Apart, Limits};
use corymb_backend_tract::Tract;
use corymb_core::{Backend, PluginHost};
use corymb_engine::{Engine, EngineOptions};
#[cfg(target_os = "linux")]
use corymb_plugin_host::CompileLimits;
use corymb_plugin_host::Host;

use crate::config::{CompilerFlags, InstanceFlags, NamedFile};

pub(crate) use libraries::library_search;
pub(crate) use log_bridge::LogBridge;
pub(crate) use signals::{Signals, check_push};

/// The backends that are compiled in, best first. One run may take `run_bytes`.
pub(crate) fn backends(libraries: Search, run_bytes: u64) -> Vec<Arc<dyn Backend>> {
    vec![Arc::new(OnnxRuntime::new(libraries, run_bytes)), Arc::new(Tract::new(run_bytes))]
}

/// The names of these, best first.
const BACKENDS: [&str; 2] = ["onnxruntime", "tract"];

/// What runs and compiles Wasm plugins, for so many workers.
pub(crate) fn plugin_host(workers: usize) -> anyhow::Result<Arc<Host>> {
    let host = Host::for_workers(workers)?;
    #[cfg(target_os = "linux")]
    let host = host
        .compiling_apart(|CompileLimits { memory, time }| CompilerFlags { memory, seconds: time.as_secs() }.typed());
    Ok(Arc::new(host))
}

/// What a process does that compiles a plugin: this program again, as `corymb compiler`.
#[cfg(target_os = "linux")]
pub(crate) fn compile_apart(flags: &CompilerFlags) -> std::io::Result<()> {
    let CompilerFlags { memory, seconds } = *flags;
    corymb_plugin_host::compile_apart(CompileLimits { memory, time: std::time::Duration::from_secs(seconds) })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn compile_apart(_: &CompilerFlags) -> std::io::Result<()> {
    Err(std::io::Error::other("plugins are compiled in the server's own process on this system"))
}

/// The same, whose models may be loaded in processes of their own: this program again, as `corymb instance`.
#[cfg(target_os = "linux")]
fn apart(
    onnxruntime: OnnxRuntime,
    custom_operators: Vec<NamedFile>,
    run_bytes: u64,
) -> std::io::Result<Vec<Arc<dyn Backend>>> {
    let onnxruntime = Arc::new(onnxruntime);
    let tract = Arc::new(Tract::new(run_bytes));
    let searched = Arc::clone(&onnxruntime);
    let arguments = move || {
        // Found once, by the server.
        let used = searched.searched().iter().find(|place| place.is_used());
        let onnxruntime = used.map_or_else(|| "none".into(), |place| place.path.clone());
        InstanceFlags { onnxruntime, custom_operators: custom_operators.clone(), run_bytes, memory: 0 }.typed()
    };
    let apart = |backend: Arc<dyn Backend>| Ok(Arc::new(Apart::new(backend, arguments.clone())?) as Arc<dyn Backend>);
    [onnxruntime as Arc<dyn Backend>, tract].into_iter().map(apart).collect()
}

/// What such a process does.
#[cfg(target_os = "linux")]
pub(crate) fn serve_instance(flags: &InstanceFlags) -> std::io::Result<()> {
    let backends = backends(libraries::of_instance(flags), flags.run_bytes);
    corymb_backend_process::serve(&backends, flags.memory, Limits::of_run(flags.run_bytes), crate::allocator::trim)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn serve_instance(_: &InstanceFlags) -> std::io::Result<()> {
    Err(std::io::Error::other("processes of their own are not to be had on this system"))
}

#[cfg(not(target_os = "linux"))]
fn apart(onnxruntime: OnnxRuntime, _: Vec<NamedFile>, run_bytes: u64) -> std::io::Result<Vec<Arc<dyn Backend>>> {
    Ok(vec![Arc::new(onnxruntime), Arc::new(Tract::new(run_bytes))])
}

/// An engine without models. One run may take `run_bytes`.
pub(crate) fn engine(options: EngineOptions, libraries: Search, run_bytes: u64) -> anyhow::Result<Engine> {
    let plugins: Arc<dyn PluginHost> = plugin_host(options.workers)?;
    let meters = opentelemetry::global::meter_provider();
    let custom_operators = libraries::named(&libraries.custom_operators);
    let onnxruntime = OnnxRuntime::new(libraries, run_bytes);
    // Where tract is asked for nothing takes the place of the library.
    if options.backend != "tract" {
        let named = "the library of ONNX Runtime that was named (--onnxruntime, CORYMB_ONNXRUNTIME or ORT_DYLIB_PATH) cannot be used";
        onnxruntime.check_named().map_err(|reason| anyhow::anyhow!("{named}: {reason}"))?;
    }
    let backends = apart(onnxruntime, custom_operators, run_bytes).context("start the thread that starts processes")?;
    Engine::new(options, backends, Some(plugins), meters).context("start the compute pool")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backends_are_called_by_their_names() {
        let names: Vec<&str> = backends(Search::default(), 0).iter().map(|backend| backend.name()).collect();
        assert_eq!(names, BACKENDS);
    }
}
