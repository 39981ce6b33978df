//! What tract is known to compute as ONNX Runtime and the specification do: the table that `tests/operators` makes.
//!
//! It lists forms of nodes with the versions of the operator of which every case was right, and those of which some case was
//! not. Nobody can try all combinations of operands and attributes. So a form in neither list is trusted where each two of
//! its fields were right together in some form, as in tests that cover all pairs: faults come from one condition, or from
//! two that meet. A fault that pairs do not explain bars the forms next to it, too.

mod operator;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use self::operator::Operator;
use crate::form::Form;

/// The lines of the table by operator, read where they are asked for.
pub(crate) struct Table {
    lines: HashMap<&'static str, Vec<&'static str>>,
    operators: Mutex<HashMap<&'static str, Arc<Operator>>>,
}

impl Table {
    /// The table that is compiled in.
    pub(crate) fn embedded() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("../verified.tsv")));
        &TABLE
    }

    pub(crate) fn read(text: &'static str) -> Self {
        let mut lines: HashMap<&str, Vec<&str>> = HashMap::new();
        for (operator, rest) in text.lines().filter_map(|line| line.split_once('\t')) {
            lines.entry(operator).or_default().push(rest);
        }
        Self { lines, operators: Mutex::default() }
    }

    /// What of a form is not verified, in words; none where the form is trusted.
    pub(crate) fn doubt(&self, form: &Form) -> Option<String> {
        let Some(operator) = self.operator(&form.operator) else {
            return Some(format!("{} is not verified on tract", form.operator));
        };
        let mut variants = form.variants().into_iter();
        variants.find_map(|fields| Some(words::said(form, &fields, &operator, operator.doubt(form.since, &fields)?)))
    }

    fn operator(&self, name: &str) -> Option<Arc<Operator>> {
        let (name, lines) = self.lines.get_key_value(name)?;
        let mut operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(operators.entry(name).or_insert_with(|| Arc::new(Operator::read(lines)))))
    }
}

#[cfg(test)]
mod tests;
