//! The suite that every backend passes: library code, so that a backend's proof is one call.
//!
//! ```text
//! #[test]
//! fn conformance() {
//!     let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
//!     corymb_core::conformance::run(&MyBackend, &fixtures, &[("identity BF16", "the engine has no bfloat16")]);
//! }
//! ```

mod loading;
mod running;
mod values;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::{Backend, BackendError, FileSource, Instance, LoadOptions, Model, ModelFiles, RunOptions, Tensor, Tensors};

/// What a case found: nothing wrong, or what.
type Outcome = Result<(), String>;

/// One promise of the seam.
struct Case {
    name: String,
    check: Box<dyn Fn(&Suite<'_>) -> Outcome>,
}

impl Case {
    fn new(name: impl Into<String>, check: impl Fn(&Suite<'_>) -> Outcome + 'static) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }
}

/// Runs every case on `backend`, with the models in the folder `fixtures`. `known_gaps` are pairs of a case's name and
/// the reason: such a case must fail, so that the list stays true.
///
/// # Panics
/// When a case fails that is not a known gap, passes though it is one, or a known gap names no case. The message lists
/// them all.
#[track_caller]
pub fn run(backend: &dyn Backend, fixtures: &Path, known_gaps: &[(&str, &str)]) {
    let suite = Suite { backend, fixtures };
    let cases: Vec<Case> = loading::cases().into_iter().chain(running::cases()).collect();
    let mut complaints: Vec<String> = known_gaps
        .iter()
        .filter(|(name, _)| cases.iter().all(|case| case.name != *name))
        .map(|(name, _)| format!("'{name}' is listed as a known gap, but there is no such case"))
        .collect();
    for Case { name, check } in &cases {
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&suite)))
            .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))));
        let gap = known_gaps.iter().find(|(known, _)| known == name);
        match (outcome, gap) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Err(reason), None) => complaints.push(format!("'{name}': {reason}")),
            (Ok(()), Some((_, reason))) => {
                complaints.push(format!("'{name}' passes, but is listed as a known gap ({reason})"));
            }
        }
    }
    assert!(
        complaints.is_empty(),
        "{} of {} cases of the conformance suite went wrong for {}:\n  {}",
        complaints.len(),
        cases.len(),
        backend.name(),
        complaints.join("\n  ")
    );
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

/// What the cases work on.
struct Suite<'a> {
    backend: &'a dyn Backend,
    fixtures: &'a Path,
}

impl Suite<'_> {
    /// The fixture `name`.onnx.
    fn files(&self, name: &str) -> ModelFiles {
        ModelFiles { model: FileSource::Path(self.fixtures.join(format!("{name}.onnx"))) }
    }

    fn try_load(&self, name: &str) -> Result<Box<dyn Model>, BackendError> {
        self.backend.load(&self.files(name), &LoadOptions::default())
    }

    fn load(&self, name: &str) -> Result<Box<dyn Model>, String> {
        self.try_load(name).map_err(|error| format!("load {name}.onnx: {error}"))
    }

    fn instance(&self, name: &str) -> Result<Box<dyn Instance>, String> {
        self.load(name)?.instance(1).map_err(|error| format!("make an instance of {name}.onnx: {error}"))
    }
}

/// Runs one request for all outputs.
fn answer(instance: &mut dyn Instance, inputs: &Tensors) -> Result<Tensors, String> {
    let mut answers = answers(instance, std::slice::from_ref(inputs))?;
    match (answers.pop(), answers.len()) {
        (Some(answer), 0) => Ok(answer),
        (_, others) => Err(format!("one request got {others} answers")),
    }
}

/// Runs a batch for all outputs.
fn answers(instance: &mut dyn Instance, batch: &[Tensors]) -> Result<Vec<Tensors>, String> {
    instance.run(batch, &RunOptions::default()).map_err(|error| format!("run: {error}"))
}

/// The output `name` of an answer.
fn output<'a>(answer: &'a Tensors, name: &str) -> Result<&'a Tensor, String> {
    answer.get(name).ok_or_else(|| {
        let given: Vec<&str> = answer.iter().map(|(name, _)| name).collect();
        format!("the answer lacks '{name}'; it has {given:?}")
    })
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// That `result` is an error of the kind that `expected` describes.
fn ensure_error<T>(
    result: Result<T, BackendError>,
    expected: &str,
    is_expected: impl FnOnce(&BackendError) -> bool,
) -> Outcome {
    match result {
        Ok(_) => Err(format!("succeeded; expected {expected}")),
        Err(error) if is_expected(&error) => Ok(()),
        Err(error) => Err(format!("answered {error:?}; expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Availability, Device, ModelInfo};

    /// Usable, and takes no file for a model.
    struct Nothing;

    impl Backend for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }

        fn check(&self) -> Result<Availability, BackendError> {
            Ok(Availability { version: "1".to_owned(), devices: vec![Device::Cpu] })
        }

        fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
            Err(BackendError::InvalidModel("no".to_owned()))
        }

        fn load(&self, _: &ModelFiles, _: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
            Err(BackendError::InvalidModel("no".to_owned()))
        }
    }

    fn complaints(known_gaps: &[(&str, &str)]) -> String {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
        let panic = catch_unwind(AssertUnwindSafe(|| run(&Nothing, &fixtures, known_gaps))).expect_err("it fails");
        panic_text(&*panic).to_owned()
    }

    #[test]
    fn every_failing_case_is_listed() {
        let text = complaints(&[]);
        for name in ["scalars", "identity FP32", "identity BYTES", "inspect agrees with load: image"] {
            assert!(text.contains(&format!("'{name}': ")), "{name} is not in {text}");
        }
        assert!(!text.contains("'an empty file is InvalidModel'"), "a passing case is in {text}");
    }

    #[test]
    fn known_gaps_must_fail_and_exist() {
        let text =
            complaints(&[("scalars", "none"), ("an empty file is InvalidModel", "none"), ("no such case", "none")]);
        assert!(!text.contains("'scalars'"), "{text}");
        assert!(text.contains("'an empty file is InvalidModel' passes, but is listed"), "{text}");
        assert!(text.contains("'no such case' is listed"), "{text}");
    }
}
