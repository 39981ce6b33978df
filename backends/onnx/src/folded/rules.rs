//! What each operator makes of values that no request changes, how large that is, and how many steps it takes.

use super::node::{Node, Steps};
use super::stored::Attributes;
use super::value::{Fed, Fixed, Value};

/// Operators of sequences, and of what may be none.
const UNKEPT: [&str; 9] = [
    "ConcatFromSequence",
    "Optional",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceMap",
    "SplitToSequence",
];

/// How many dimensions the results of a node have at most, in which requests take part.
pub(super) fn rank(operator: &str, attributes: &Attributes<'_>, operands: &[Option<Value>]) -> u64 {
    let of = |value: &Value| match value {
        Value::Fed(fed) => fed.rank,
        Value::Fixed(fixed) => fixed.dims.as_ref().map_or(8, |dims| dims.len() as u64),
    };
    // How many numbers an operand holds; one that requests give holds what the run may have.
    let numbers = |index: usize| match operands.get(index) {
        Some(Some(Value::Fixed(fixed))) => fixed.elements.unwrap_or(u64::MAX),
        _ => 0,
    };
    let most = operands.iter().flatten().map(of).max().unwrap_or(0);
    let all = operands.iter().flatten().map(of).fold(0, u64::saturating_add);
    match operator {
        "Reshape" | "ConstantOfShape" => numbers(usize::from(operator == "Reshape")).max(8),
        "Expand" | "Tile" => most.max(numbers(1)),
        "Unsqueeze" => {
            most.saturating_add(numbers(1).max(attributes.integers("axes").map_or(0, |axes| axes.len() as u64)))
        }
        "Gather" | "GatherND" => all,
        "OneHot" => most.saturating_add(1),
        _ => most,
    }
}

/// The results of a node, and what they take; none where requests take part in them.
pub(super) fn apply(
    domain: &str,
    operator: &str,
    attributes: &Attributes<'_>,
    operands: &[Option<Value>],
) -> Option<(Vec<Fixed>, Steps)> {
    let results = attributes.0.output.len();
    // No engine keeps a sequence that it has computed, or what may be none.
    if crate::rows::draws(operator) || UNKEPT.contains(&operator) {
        return None;
    }
    if domain.is_empty() && matches!(operator, "Shape" | "Size") {
        let sizes = sizes(operator, attributes, operands.first()?.as_ref()?);
        return Some((vec![sizes; results], Some(1)));
    }
    let fixed: Option<Vec<Option<&Fixed>>> = operands
        .iter()
        .map(|operand| match operand {
            None => Some(None),
            Some(Value::Fixed(fixed)) => Some(Some(fixed)),
            Some(Value::Fed(_)) => None,
        })
        .collect();
    let node = Node { operator, attributes, operands: &fixed? };
    if !domain.is_empty() {
        return Some((vec![Fixed::unknown(); results], None));
    }
    if let Some(numbers) = node.numbers() {
        return Some((vec![numbers; results], Some(1)));
    }
    // A size that requests give.
    if node.operands.iter().flatten().any(|operand| operand.is_open()) {
        return None;
    }
    let (result, effort) = node.result();
    Some((vec![result; results], effort))
}

fn sizes(operator: &str, attributes: &Attributes<'_>, of: &Value) -> Fixed {
    let dims: Option<Vec<Option<i64>>> = match of {
        Value::Fed(Fed { dims, .. }) => {
            dims.as_ref().map(|dims| dims.iter().map(|dim| i64::try_from((*dim)?).ok()).collect())
        }
        Value::Fixed(fixed) => {
            fixed.dims.as_ref().map(|dims| dims.iter().map(|dim| i64::try_from(*dim).ok()).collect())
        }
    };
    let few = || Fixed::at_most(Some(8));
    let Some(dims) = dims else { return few() };
    if operator == "Size" {
        let all = dims.iter().copied().try_fold(1_i64, |product, dim| product.checked_mul(dim?));
        return Fixed::of(Vec::new()).with(Some(vec![all]));
    }
    let bound = |name: &str, default: usize| {
        let given = attributes.integer_or(name, i64::try_from(default).ok()?)?;
        let from_end = if given < 0 { given.checked_add(i64::try_from(dims.len()).ok()?)? } else { given };
        Some(usize::try_from(from_end.max(0)).ok()?.min(dims.len()))
    };
    match (bound("start", 0), bound("end", dims.len())) {
        (Some(start), Some(end)) => Fixed::row(dims.get(start..end).unwrap_or_default().to_vec()),
        _ => few(),
    }
}
