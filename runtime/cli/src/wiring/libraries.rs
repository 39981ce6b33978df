//! Where ONNX Runtime's library is looked for: what the flags and the environment say, in the backend's terms.

use std::path::PathBuf;

use corymb_backend_onnxruntime::{OperatorLibrary, Search};

use crate::config::{Environment, InstanceFlags, NamedFile, SourceFlags};

/// Where ONNX Runtime's library is looked for.
pub(crate) fn library_search(sources: &SourceFlags, environment: &Environment) -> Search {
    let path = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let paths =
        |name: &str| environment.get(name).map(|value| std::env::split_paths(value).collect()).unwrap_or_default();
    let named = sources.onnxruntime.clone().or_else(|| path("CORYMB_ONNXRUNTIME"));
    Search {
        disabled: named.as_ref().is_some_and(|named| named.as_os_str() == "none"),
        explicit: named,
        dylib_path: path("ORT_DYLIB_PATH"),
        beside: std::env::current_exe().ok().and_then(|binary| binary.parent().map(PathBuf::from)),
        library_path: paths("LD_LIBRARY_PATH"),
        system: Search::system_folders(),
        virtual_env: path("VIRTUAL_ENV"),
        conda_prefix: path("CONDA_PREFIX"),
        path: paths("PATH"),
        home: path("HOME"),
        custom_operators: sources.custom_operators.iter().cloned().map(operator_library).collect(),
    }
}

/// What a process for one instance is told: where the library is, and no place else.
#[cfg(target_os = "linux")]
pub(super) fn of_instance(flags: &InstanceFlags) -> Search {
    Search {
        disabled: flags.onnxruntime.as_os_str() == "none",
        explicit: Some(flags.onnxruntime.clone()),
        custom_operators: flags.custom_operators.iter().cloned().map(operator_library).collect(),
        ..Search::default()
    }
}

/// Libraries of custom operators as they are typed.
pub(super) fn named(libraries: &[OperatorLibrary]) -> Vec<NamedFile> {
    let named = |library: &OperatorLibrary| NamedFile { name: library.name.clone(), file: library.path.clone() };
    libraries.iter().map(named).collect()
}

fn operator_library(named: NamedFile) -> OperatorLibrary {
    OperatorLibrary { name: named.name, path: named.file }
}
