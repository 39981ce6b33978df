//! The zoo: small models of the shapes that users have, and the run of a backend through all of them.
//!
//! `tests/fixtures/zoo/make.py` makes the models, the requests and the answers; `zoo.py` beside it says what a case is.
//! A backend's proof is one call:
//!
//! ```text
//! #[test]
//! fn zoo() {
//!     corymb_tests_zoo::run(&MyBackend);
//! }
//! ```

mod case;
mod compare;

use std::panic::{AssertUnwindSafe, catch_unwind};

use corymb_core::{Backend, BackendError, Instance, LoadOptions, Model, RunOptions, Tensors};

pub use crate::case::{Case, Expectation, Request, Rows, cases};
pub use crate::compare::differs;

/// Runs every case on `backend`, whose name decides what is expected of it.
///
/// # Panics
/// When a model is answered wrongly, refused without the words that its case asks for, answered though a refusal is
/// expected (so that the zoo stays true when a gap is closed), or makes the backend panic at load. The message lists all.
#[track_caller]
pub fn run(backend: &dyn Backend) {
    let cases = cases();
    let complaints: Vec<String> = cases
        .iter()
        .flat_map(|case| {
            let found = catch_unwind(AssertUnwindSafe(|| check(backend, case)))
                .unwrap_or_else(|_| vec!["the backend panicked outside of a run".to_owned()]);
            found.into_iter().map(|complaint| format!("{}: {complaint}", case.name))
        })
        .collect();
    assert!(
        complaints.is_empty(),
        "{} complaints about {} in {} cases:\n  {}",
        complaints.len(),
        backend.name(),
        cases.len(),
        complaints.join("\n  ")
    );
}

fn check(backend: &dyn Backend, case: &Case) -> Vec<String> {
    let inspected = backend.inspect(&case.files, &LoadOptions::default());
    let loaded = backend.load(&case.files, &LoadOptions::default());
    match (case.expectation(backend.name()), loaded) {
        (Expectation::Refuses(texts), Err(error)) => {
            let mut complaints = check_refusal(&error, texts);
            // What no engine takes is a broken file, which loading may be the first to see.
            if case.anybody_answers() && inspected.is_ok_and(|info| info.unsupported.is_empty()) {
                complaints.push(format!("inspect reports nothing, though loading fails: {error}"));
            }
            complaints
        }
        (Expectation::Refuses(_), Ok(model)) => {
            let outcomes = Runs { model: &*model, case, engine: backend.name() }.outcomes();
            vec![format!("is loaded, though a refusal is expected; its requests: {outcomes:?}")]
        }
        (Expectation::Answers, Err(error)) => vec![format!("is refused: {error}")],
        (Expectation::Answers, Ok(model)) => {
            let mut complaints = match inspected {
                Ok(info) if info.unsupported.is_empty() => Vec::new(),
                Ok(info) => vec![format!("is loaded, though inspect reports {:?}", info.unsupported)],
                Err(error) => vec![format!("is loaded, though inspect fails: {error}")],
            };
            let found = model.profile().rows;
            if let Some(expected) = case.rows.filter(|expected| (*expected == Rows::Independent) != found.is_proved()) {
                complaints.push(format!("its rows are {expected:?}, but the graph says {found:?}"));
            }
            complaints.extend(Runs { model: &*model, case, engine: backend.name() }.complaints());
            complaints
        }
    }
}

fn check_refusal(error: &BackendError, texts: &[String]) -> Vec<String> {
    let message = error.to_string();
    let missing: Vec<&String> = texts.iter().filter(|text| !message.contains(text.as_str())).collect();
    let mut complaints = Vec::new();
    if !missing.is_empty() {
        complaints.push(format!("the refusal lacks {missing:?}: {message}"));
    }
    if message.contains(env!("CARGO_MANIFEST_DIR").trim_end_matches("tests/zoo")) {
        complaints.push(format!("the refusal names a folder of this machine: {message}"));
    }
    complaints
}

/// The requests of a case on a loaded model.
struct Runs<'a> {
    model: &'a dyn Model,
    case: &'a Case,
    engine: &'a str,
}

impl Runs<'_> {
    fn instance(&self) -> Result<Box<dyn Instance>, String> {
        self.model.instance(1).map_err(|error| format!("no instance: {error}"))
    }

    /// What each request comes to, in words.
    fn outcomes(&self) -> Vec<String> {
        let each = self.case.requests.iter().map(|request| match self.instance() {
            Ok(mut instance) => match run_one(&mut instance, &request.inputs) {
                Ok(outputs) => self.difference(request, &outputs).unwrap_or_else(|| "answered rightly".to_owned()),
                Err(failure) => format!("fails: {}", failure.reason),
            },
            Err(reason) => reason,
        });
        each.collect()
    }

    fn complaints(&self) -> Vec<String> {
        let mut instance = match self.instance() {
            Ok(instance) => instance,
            Err(reason) => return vec![reason],
        };
        let mut complaints = Vec::new();
        for (index, request) in self.case.requests.iter().enumerate() {
            let (may_fail, must_fail) = (request.may_fail(self.engine), request.must_fail(self.engine));
            let complaint = match run_one(&mut instance, &request.inputs) {
                Ok(_) if must_fail => Some("is answered, though a failure is expected".to_owned()),
                Ok(outputs) => self.difference(request, &outputs),
                Err(failure) => {
                    if failure.panicked {
                        // As the engine does: the instance is replaced.
                        match self.instance() {
                            Ok(next) => instance = next,
                            Err(reason) => return vec![reason],
                        }
                    }
                    (!may_fail && !must_fail).then(|| format!("fails: {}", failure.reason))
                }
            };
            complaints.extend(complaint.map(|complaint| format!("request {index} {complaint}")));
            // Nothing of a run may be left for the next one of the same shapes.
            if !may_fail && !must_fail {
                let again = match run_one(&mut instance, &request.inputs) {
                    Ok(outputs) => self.difference(request, &outputs),
                    Err(failure) => Some(format!("fails: {}", failure.reason)),
                };
                complaints.extend(again.map(|complaint| format!("request {index}, sent again, {complaint}")));
            }
        }
        if let Some(rows) = self.case.rows {
            complaints.extend(self.check_rows(&mut instance, rows));
        }
        complaints
    }

    fn difference(&self, request: &Request, outputs: &Tensors) -> Option<String> {
        let expected = request.outputs.as_ref()?;
        let wrong = expected.iter().find_map(|(name, expected)| {
            let Some(given) = outputs.get(name) else { return Some(format!("has no output '{name}'")) };
            match (differs(given, expected, self.case.tolerance), self.case.is_known_wrong(self.engine, name)) {
                (Some(how), false) => Some(format!("is answered wrongly: '{name}' {how}")),
                (None, true) => Some(format!("is answered rightly, though '{name}' is known to be wrong")),
                (Some(_), true) | (None, false) => None,
            }
        });
        let stray = || outputs.iter().map(|(name, _)| name).find(|name| expected.get(name).is_none());
        wrong.or_else(|| {
            stray().filter(|_| !expected.is_empty()).map(|name| format!("has the output '{name}' too much"))
        })
    }

    /// Whether rows alone are answered as they are together is a property of the model: this holds the case to it.
    fn check_rows(&self, instance: &mut Box<dyn Instance>, rows: Rows) -> Option<String> {
        let mut compared = false;
        for request in &self.case.requests {
            let Some(outputs) = request.outputs.as_ref().filter(|outputs| !outputs.is_empty()) else { continue };
            let count = request.inputs.iter().next().and_then(|(_, tensor)| tensor.rows()).unwrap_or(0);
            let whole = |tensors: &Tensors| tensors.iter().all(|(_, tensor)| tensor.rows() == Some(count));
            let fails = request.must_fail(self.engine) || request.may_fail(self.engine);
            if fails || count < 2 || !whole(&request.inputs) || !whole(outputs) {
                continue;
            }
            compared = true;
            for row in 0..count {
                let alone = match run_one(instance, &take_row(&request.inputs, row)) {
                    Ok(alone) => alone,
                    Err(failure) => return Some(format!("row {row} alone fails: {}", failure.reason)),
                };
                let difference = take_row(outputs, row).iter().find_map(|(name, among)| {
                    let how = alone.get(name).map(|alone| differs(alone, among, self.case.tolerance.max(1e-4)));
                    how.unwrap_or_else(|| Some("is missing".to_owned())).map(|how| format!("'{name}' {how}"))
                });
                match (rows, difference) {
                    (Rows::Independent, Some(how)) => {
                        return Some(format!("row {row} alone is answered otherwise: {how}"));
                    }
                    (Rows::Mixed, Some(_)) => return None,
                    (_, None) => {}
                }
            }
        }
        match rows {
            Rows::Mixed => Some("mixes no rows in these requests".to_owned()),
            Rows::Independent if compared => None,
            Rows::Independent => Some("has no request of several rows".to_owned()),
        }
    }
}

fn take_row(tensors: &Tensors, row: usize) -> Tensors {
    let rows = tensors.iter().filter_map(|(name, tensor)| Some((name, tensor.slice_rows(row, 1)?)));
    rows.collect::<Tensors>()
}

struct Failure {
    reason: String,
    panicked: bool,
}

/// A panic of the engine fails the request, as it does in the server.
fn run_one(instance: &mut Box<dyn Instance>, inputs: &Tensors) -> Result<Tensors, Failure> {
    let batch = std::slice::from_ref(inputs);
    match catch_unwind(AssertUnwindSafe(|| instance.run(batch, &RunOptions::default()))) {
        Ok(Ok(mut answers)) if answers.len() == 1 => Ok(answers.remove(0)),
        Ok(Ok(answers)) => {
            Err(Failure { reason: format!("{} answers to one request", answers.len()), panicked: false })
        }
        Ok(Err(error)) => Err(Failure { reason: error.to_string(), panicked: false }),
        Err(_) => Err(Failure { reason: "the engine panicked".to_owned(), panicked: true }),
    }
}
