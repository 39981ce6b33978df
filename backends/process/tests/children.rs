//! The shared suites on tract in child processes. This program is its own child, so it has no test harness.

use std::path::Path;
use std::sync::Arc;

use corymb_backend_process::{Apart, serve};
use corymb_backend_tract::Tract;
use corymb_core::{Availability, Backend, BackendError, LoadOptions, Model, ModelFiles, ModelInfo};

/// Loads every model apart.
struct Always(Apart);

impl Backend for Always {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn check(&self) -> Result<Availability, BackendError> {
        self.0.check()
    }

    fn inspect(&self, files: &ModelFiles, options: &LoadOptions) -> Result<ModelInfo, BackendError> {
        self.0.inspect(files, options)
    }

    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        let model = self.0.load(files, &LoadOptions { apart: true, ..options.clone() })?;
        assert!(model.is_apart());
        Ok(model)
    }
}

fn main() {
    let tract: Arc<dyn Backend> = Arc::new(Tract::default());
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("child") {
        let memory = arguments.next().and_then(|number| number.parse().ok()).expect("the number of an open file");
        serve(&[tract], memory).expect("served");
        return;
    }
    let apart = Always(Apart::new(tract, || vec!["child".into()]).expect("a thread"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    let gaps = [
        ("identity BF16", "tract's ONNX reader does not know bfloat16"),
        ("identity BYTES", "tract has no operators on text"),
    ];
    corymb_core::conformance::run(&apart, &fixtures, &gaps);
    corymb_tests_zoo::run(&apart);
    println!("models in child processes pass the conformance suite and the zoo");
}
