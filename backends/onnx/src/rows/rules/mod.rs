//! What each operator does to rows. A rule gives the shapes and the rows of a node's results, or says why there are none.

mod classical;
mod contraction;
mod contributed;
mod elementwise;
mod indexing;
mod layout;
mod network;
mod ordinal;
mod reduction;
mod window;

use super::node::{Node, Operands};
use super::polynomial::Symbols;
use super::value::{Outcome, Rows, Value, axis_of, mixes, unknown};

pub(super) use ordinal::of_numbered;

/// Finds the results of a node from its operands.
pub(super) type Rule = fn(&Node<'_>, Operands<'_>, &mut Symbols) -> Outcome<Vec<Value>>;

/// The domain of the operators of classical machine learning.
const CLASSICAL: &str = "ai.onnx.ml";
/// The domains of the operators that ONNX Runtime adds.
const CONTRIBUTED: [&str; 2] = ["com.microsoft", "com.microsoft.nchwc"];

/// The rule of an operator; none where there is none.
pub(super) fn rule(domain: &str, operator: &str) -> Option<Rule> {
    match domain {
        "" => elementwise::rule(operator)
            .or_else(|| layout::rule(operator))
            .or_else(|| indexing::rule(operator))
            .or_else(|| reduction::rule(operator))
            .or_else(|| contraction::rule(operator))
            .or_else(|| window::rule(operator))
            .or_else(|| network::rule(operator)),
        CLASSICAL => classical::rule(operator),
        domain if CONTRIBUTED.contains(&domain) => contributed::rule(operator),
        _ => None,
    }
}

/// Whether an operator of this domain makes the same whenever its operands are the same. One whose rule does not hold for
/// a node, and which draws random numbers in some of its forms, does not.
pub(super) fn repeats(domain: &str, operator: &str) -> bool {
    const MAY_DRAW: [&str; 5] = ["Dropout", "BiasDropout", "BitmaskDropout", "BitmaskBiasDropout", "Sampling"];
    let known = matches!(domain, "" | CLASSICAL) || CONTRIBUTED.contains(&domain);
    known && !draws(operator) && !MAY_DRAW.contains(&operator)
}

/// Whether an operator draws random numbers.
pub(crate) fn draws(operator: &str) -> bool {
    operator.starts_with("Random") || matches!(operator, "Bernoulli" | "Multinomial")
}

/// The axes that a node names: by its operand `index`, or by its attribute; none where it names none.
fn axes(node: &Node<'_>, operands: Operands<'_>, index: usize) -> Outcome<Option<Vec<i64>>> {
    match (operands.get(index), node.integers("axes")) {
        (Some(given), _) => match given.constants() {
            Some(axes) => Ok(Some(axes)),
            None if given.rows == Rows::Same => unknown("its axes are not known"),
            None => mixes("its axes come from the rows"),
        },
        (None, Some(axes)) => Ok(Some(axes.to_vec())),
        (None, None) => Ok(None),
    }
}

fn listed(axes: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    axes.iter().map(|axis| axis_of(*axis, rank)).collect()
}

/// That an operand, if given, does not depend on the rows.
fn uniform(operands: Operands<'_>, index: usize, what: &str) -> Outcome<()> {
    match operands.get(index) {
        Some(value) if !value.is_same() => mixes(format!("its {what} comes from the rows")),
        _ => Ok(()),
    }
}
