//! Where the tests find ONNX Runtime's library: in the virtual environment that `CORYMB_TEST_ONNXRUNTIME` names (or it
//! is the library itself), or where the server would look.

use std::path::{Path, PathBuf};

use corymb_backend_onnxruntime::{OnnxRuntime, Search};
use corymb_core::{Backend as _, RUN_BYTES};

/// The backend, or none after saying why the test has nothing to do. Under CI that is a failure.
pub(crate) fn backend() -> Option<OnnxRuntime> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = variable("CORYMB_TEST_ONNXRUNTIME");
    let search = Search {
        explicit: named.clone().filter(|path| path.is_file()),
        system: Search::system_folders(),
        virtual_env: named.or_else(|| variable("VIRTUAL_ENV")),
        conda_prefix: variable("CONDA_PREFIX"),
        path: std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        home: variable("HOME"),
        ..Search::default()
    };
    let backend = OnnxRuntime::new(search, RUN_BYTES);
    match backend.check() {
        Ok(_) => Some(backend),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "missing under CI: {error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// The folder of the small models.
#[allow(dead_code, reason = "the zoo has a folder of its own")]
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models")
}
