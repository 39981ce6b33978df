//! The process that runs cases: it may crash or hang, which is then a failure of the case that it was at.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use corymb_backend_tract::Tract;
use corymb_core::{Backend as _, BackendError, LoadOptions, RunOptions, Tensors};
use serde::{Deserialize, Serialize};

use crate::case::{self, Case, tensors};
use crate::compare::differs;

/// How often each case is run on one instance: what one run leaves behind must not change the next.
const RUNS: usize = 3;
/// The name that the generator gives to the node that a case is about.
pub(crate) const UNDER_TEST: &str = "tested";

/// What the names of nodes begin with that the generator puts around it.
const AROUND: &str = "around_";

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Right, each time.
    Right,
    /// Refused at load, or as input, which is no mistake.
    Refused(String),
    /// Answered wrongly.
    Wrong(String),
    /// Loaded, and not answered.
    Failed(String),
}

/// What a child reports: first the form of the node, in case that it does not live to report the outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Form {
        case: usize,
        /// Lines of the table: of the node, or of all nodes that it was rewritten into.
        lines: Vec<String>,
        /// Whether there is no node of the name and operator any more.
        rewritten: bool,
    },
    Outcome {
        case: usize,
        outcome: Outcome,
    },
}

/// Runs the cases whose numbers come on the standard input, a line each.
pub(crate) fn run(path: &Path) -> Result<(), String> {
    // What panics is reported as the outcome.
    std::panic::set_hook(Box::new(|_| {}));
    let cases = case::read(path)?;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let number: usize = line.trim().parse().map_err(|_| format!("'{line}' is no number"))?;
        let case = cases.get(number).ok_or_else(|| format!("there is no case {number}"))?;
        let (lines, rewritten) = catch_unwind(|| form(case)).unwrap_or_default();
        say(&Report::Form { case: number, lines, rewritten })?;
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(case)))
            .unwrap_or_else(|_| Outcome::Failed("it panicked".to_owned()));
        say(&Report::Outcome { case: number, outcome })?;
    }
    Ok(())
}

fn say(report: &Report) -> Result<(), String> {
    let line = serde_json::to_string(report).map_err(|error| error.to_string())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// The lines of the node under test, and whether it was rewritten. No lines where the graph cannot be read.
fn form(case: &Case) -> (Vec<String>, bool) {
    let Ok(files) = case.files() else { return Default::default() };
    let Ok(found) = Tract::default().forms(&files) else { return Default::default() };
    let operator = case.name.split(' ').next().unwrap_or_default();
    // An operator of another domain has that before its name.
    let is_it = |name: &str| name.rsplit('.').next() == Some(operator);
    let tested = found.iter().find(|node| node.node == UNDER_TEST && is_it(&node.operator));
    if let Some(node) = tested {
        return (node.lines.clone(), false);
    }
    let written = found.into_iter().filter(|node| !node.node.starts_with(AROUND));
    (written.flat_map(|node| node.lines).collect(), true)
}

fn answer(case: &Case) -> Outcome {
    let attempt = || -> Result<Outcome, String> {
        let (inputs, right) = (tensors(&case.inputs)?, tensors(&case.outputs)?);
        let options = LoadOptions { unverified: true, ..LoadOptions::default() };
        let model = match Tract::default().load(&case.files()?, &options) {
            Ok(model) => model,
            Err(error) => return Ok(Outcome::Refused(error.to_string())),
        };
        let mut instance = model.instance(1).map_err(|error| error.to_string())?;
        for run in 0..RUNS {
            let mut answers = match instance.run(std::slice::from_ref(&inputs), &RunOptions::default()) {
                Ok(answers) => answers,
                // Shapes and values that tract does not take are refused when they come.
                Err(BackendError::InvalidInput(why)) => return Ok(Outcome::Refused(why)),
                Err(error) => return Err(error.to_string()),
            };
            let answer = answers.pop().ok_or("no answer")?;
            if let Some(how) = difference(case, &answer, &right)? {
                return Ok(Outcome::Wrong(format!("run {run}: {how}")));
            }
        }
        // The plan for all shapes, where tract has one: what it cannot run gets a plan of its own, and is no mistake.
        let open = || Tract::default().load_open(&case.files().ok()?).ok()?.instance(1).ok();
        if let Some(mut instance) = catch_unwind(open).ok().flatten()
            && let Ok(mut answers) = instance.run(std::slice::from_ref(&inputs), &RunOptions::default())
            && let Some(how) = difference(case, &answers.pop().ok_or("no answer")?, &right)?
        {
            return Ok(Outcome::Wrong(format!("with open dimensions: {how}")));
        }
        Ok(Outcome::Right)
    };
    attempt().unwrap_or_else(Outcome::Failed)
}

/// How an answer is not the right one.
fn difference(case: &Case, answer: &Tensors, right: &Tensors) -> Result<Option<String>, String> {
    for (name, right) in right.iter() {
        let given = answer.get(name).ok_or_else(|| format!("no output '{name}'"))?;
        let alike = (given.dtype(), given.shape()) == (right.dtype(), right.shape());
        let how = if case.any && alike { None } else { differs(given, right, case.steps, case.elementwise) };
        if let Some(how) = how {
            return Ok(Some(format!("'{name}' {how}")));
        }
    }
    Ok(None)
}
