//! The engines that the benchmarks can call without a server.

use std::path::PathBuf;

use anyhow::Context as _;
use corymb_backend_onnxruntime::{OnnxRuntime, Search};
use corymb_backend_tract::Tract;
use corymb_core::{Backend, RUN_BYTES};

/// The variables by which the server, and so the bare loop, finds ONNX Runtime's library.
pub(crate) const LIBRARY_VARIABLES: [&str; 6] =
    ["ORT_DYLIB_PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH", "HOME"];

/// The engine of that name; an error says why there is none.
pub(crate) fn named(name: &str) -> anyhow::Result<Box<dyn Backend>> {
    let backend: Box<dyn Backend> = match name {
        "tract" => Box::new(Tract::default()),
        "onnxruntime" => Box::new(OnnxRuntime::new(search(), RUN_BYTES)),
        _ => anyhow::bail!("'{name}' is no backend; expected tract or onnxruntime"),
    };
    backend.check().with_context(|| format!("{name} cannot be used here"))?;
    Ok(backend)
}

/// Where the server would look, without its flags.
fn search() -> Search {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let paths = |name: &str| std::env::var_os(name).map(|text| std::env::split_paths(&text).collect());
    Search {
        dylib_path: path("ORT_DYLIB_PATH"),
        library_path: paths("LD_LIBRARY_PATH").unwrap_or_default(),
        system: Search::system_folders(),
        virtual_env: path("VIRTUAL_ENV"),
        conda_prefix: path("CONDA_PREFIX"),
        path: paths("PATH").unwrap_or_default(),
        home: path("HOME"),
        ..Search::default()
    }
}
