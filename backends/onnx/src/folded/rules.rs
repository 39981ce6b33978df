//! What each operator makes of values that no request changes, how large that is, and how many steps it takes.

use super::node::{Effort, Node};
use super::stored::Attributes;
use super::value::{Fixed, Value};

/// The results of a node, and what they take; none where requests take part in them.
pub(super) fn apply(
    domain: &str,
    operator: &str,
    attributes: &Attributes<'_>,
    operands: &[Option<Value>],
) -> Option<(Vec<Fixed>, Effort)> {
    // No engine keeps a sequence that it has computed.
    if crate::rows::draws(operator) || operator.contains("Sequence") || operator.starts_with("Optional") {
        return None;
    }
    let results = attributes.0.output.len();
    if domain.is_empty() && matches!(operator, "Shape" | "Size") {
        let sizes = sizes(operator, attributes, operands.first()?.as_ref()?);
        return Some((vec![sizes; results], Effort::Known(1)));
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
        return Some((vec![Fixed::unknown(); results], Effort::Unknown));
    }
    if let Some(numbers) = node.numbers() {
        return Some((vec![numbers; results], Effort::Known(1)));
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
        Value::Fed(dims) => dims.as_ref().map(|dims| dims.iter().map(|dim| i64::try_from((*dim)?).ok()).collect()),
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
