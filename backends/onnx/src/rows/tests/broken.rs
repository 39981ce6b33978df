//! That a wrong rule does not pass: the rule of each operator is broken on purpose, and the tables must notice.

use std::cell::Cell;

use super::super::node::Operands;
use super::super::value::{Outcome, Rows, Value, mixes};
use super::coverage::{cases, known, plain};
use super::elementwise::{SEVERAL, UNARY, of_one, of_several};
use super::language::{Case, wrong};
use super::selection::{REDUCTIONS, of_reduction};

/// A way in which a rule is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Where the rule refuses, rows pass as they come.
    NeverRefuses,
    AlwaysRefuses,
    /// The rows of the results are along the axis behind theirs.
    OtherAxis,
    /// The results are the same for all rows.
    Forgets,
}

const FAULTS: [Fault; 4] = [Fault::NeverRefuses, Fault::AlwaysRefuses, Fault::OtherAxis, Fault::Forgets];
/// More results than any operator has.
const RESULTS: usize = 8;

thread_local! {
    static BROKEN: Cell<Option<(&'static str, &'static str, Fault)>> = const { Cell::new(None) };
    /// Whether the fault changed anything yet.
    static CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// What the rule of an operator found; something else while that rule is broken.
pub(in super::super) fn spoilt(
    domain: &str,
    operator: &str,
    operands: Operands<'_>,
    found: Outcome<Vec<Value>>,
) -> Outcome<Vec<Value>> {
    let Some((_, _, fault)) = BROKEN.get().filter(|broken| (broken.0, broken.1) == (domain, operator)) else {
        return found;
    };
    let before = found.as_ref().ok().cloned();
    let spoilt = match (fault, found) {
        (Fault::NeverRefuses, Err(refusal)) => {
            // Where no operand has rows, a refusal costs nothing.
            let with_rows = operands.all().find(|value| !value.is_same());
            with_rows.map(|value| vec![value.clone(); RESULTS]).ok_or(refusal)
        }
        (Fault::AlwaysRefuses, Ok(_)) => mixes("it is broken"),
        (Fault::OtherAxis | Fault::Forgets, Ok(mut values)) => {
            values.iter_mut().for_each(|value| spoil(value, fault));
            Ok(values)
        }
        (_, found) => found,
    };
    if spoilt.as_ref().ok() != before.as_ref() {
        CHANGED.set(true);
    }
    spoilt
}

fn spoil(value: &mut Value, fault: Fault) {
    let rank = value.shape.as_ref().map_or(0, |shape| shape.len());
    match &mut value.rows {
        Rows::Along(place) if fault == Fault::OtherAxis && rank > 1 => place.axis = (place.axis + 1) % rank,
        rows @ Rows::Along(_) if fault == Fault::Forgets => *rows = Rows::Same,
        _ => {}
    }
}

fn cases_of(name: &'static str) -> Vec<Case> {
    let mut found: Vec<Case> = cases().filter(|case| plain(case) == name).copied().collect();
    for (listed, make) in [(UNARY, of_one as fn(_) -> _), (SEVERAL, of_several), (REDUCTIONS, of_reduction)] {
        if listed.contains(&name) {
            found.extend(make(name));
        }
    }
    found
}

#[test]
fn each_rule_that_is_broken_fails_a_case() {
    let (mut tried, mut passed) = (0, Vec::new());
    for name in known() {
        let name: &'static str = name.leak();
        let cases = cases_of(name);
        let (domain, operator) = match name.split_once('.') {
            Some(("ml", operator)) => ("ai.onnx.ml", operator),
            Some((_, operator)) => ("com.microsoft", operator),
            None => ("", name),
        };
        for fault in FAULTS {
            BROKEN.set(Some((domain, operator, fault)));
            CHANGED.set(false);
            let failed = cases.iter().any(|case| wrong(case).is_err());
            tried += usize::from(CHANGED.get());
            if CHANGED.get() && !failed {
                passed.push(format!("{name}: {fault:?}"));
            }
        }
    }
    BROKEN.set(None);
    assert!(passed.is_empty(), "{} of {tried} faults pass:\n{}", passed.len(), passed.join("\n"));
    assert!(tried > 700, "{tried}");
}
