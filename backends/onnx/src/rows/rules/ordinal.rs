//! The numbers of the rows, which exporters use to pick an element of each row: `x[arange(rows), index]`.

use super::super::node::{Node, Operands};
use super::super::polynomial::{Polynomial, Symbols};
use super::super::value::{Ordinal, Outcome, Place, Rows, Value, mixes};
use super::Rule;
use crate::file::is_standard;
use crate::proto::elem;

/// The results of a node of which an operand depends on the numbers of the rows. Its rule finds the shapes and the rows; what
/// it makes depends on the numbers, too, unless they only name each row its own elements.
pub(in super::super) fn of_numbered(
    rule: Rule,
    node: &Node<'_>,
    operands: Operands<'_>,
    symbols: &mut Symbols,
) -> Outcome<Vec<Value>> {
    let operator = if is_standard(&node.proto.domain) { node.operator() } else { "" };
    let own = match operator {
        "GatherND" => gathered(node, operands),
        "ScatterND" => scattered(operands),
        _ => None,
    };
    if let Some(value) = own {
        return Ok(vec![value?]);
    }
    let plain: Vec<Option<Value>> = operands.0.iter().map(|value| value.as_ref().map(without)).collect();
    let results = rule(node, Operands(&plain), symbols)?;
    if matches!(operator, "Shape" | "Size") {
        return Ok(results);
    }
    let ordinal = kept(operator, node, operands);
    let marked = |value: Value| match value.rows {
        Rows::Along(place) => Ok(Value { rows: Rows::Numbered(place, ordinal), ..value }),
        _ => mixes("numbers the rows"),
    };
    results.into_iter().map(marked).collect()
}

fn without(value: &Value) -> Value {
    match &value.rows {
        Rows::Numbered(place, _) => Value { rows: Rows::Along(place.clone()), ..value.clone() },
        _ => value.clone(),
    }
}

fn ordinal_of(value: &Value) -> Option<Ordinal> {
    match value.rows {
        Rows::Numbered(_, ordinal) => Some(ordinal),
        _ => None,
    }
}

/// What stays known behind an operator that moves elements.
fn kept(operator: &str, node: &Node<'_>, operands: Operands<'_>) -> Ordinal {
    let first = operands.get(0);
    let known = first.and_then(ordinal_of).unwrap_or(Ordinal::Any);
    let alone = operands.all().skip(1).all(|value| !value.is_numbered());
    match (operator, known) {
        ("Identity", _) => known,
        ("Cast", _) if matches!(node.integer("to").map(i32::try_from), Some(Ok(elem::INT32 | elem::INT64))) => known,
        ("Unsqueeze" | "Squeeze" | "Reshape" | "Expand", Ordinal::Exact) => Ordinal::Exact,
        ("Concat", Ordinal::Exact) if alone => {
            let rank = first.and_then(|value| value.shape.as_ref()).map_or(0, Vec::len);
            let axis = node.integer_or("axis", 1);
            let is_last = i64::try_from(rank).is_ok_and(|rank| axis == -1 || axis + 1 == rank);
            let single = first.and_then(|value| value.shape.as_ref()?.last()).is_some_and(|size| size.is(1));
            if is_last && single { Ordinal::First } else { Ordinal::Any }
        }
        _ => Ordinal::Any,
    }
}

/// Whether a value has one element of its first axis for each row, and does not depend on their numbers.
fn has_rows_first(value: &Value) -> bool {
    value.place() == Some(&Place::at(0)) && value.shape.as_ref().is_some_and(|shape| shape[0] == Polynomial::rows())
}

/// From each row the elements that its own tuples name.
fn gathered(node: &Node<'_>, operands: Operands<'_>) -> Option<Outcome<Value>> {
    let (data, indices) = (operands.get(0)?, operands.get(1)?);
    let Rows::Numbered(place, Ordinal::First) = &indices.rows else { return None };
    let (tuple, outside) = indices.shape.as_ref()?.split_last()?;
    let rest = data.shape.as_ref()?.get(usize::try_from(tuple.as_constant()?).ok()?..)?;
    if node.is_set("batch_dims") || !has_rows_first(data) {
        return None;
    }
    Some(Value::along([outside, rest].concat(), place.clone()))
}

/// Into each row what its own tuples say where to write.
fn scattered(operands: Operands<'_>) -> Option<Outcome<Value>> {
    let [data, indices, updates] = [0, 1, 2].map(|index| operands.get(index));
    let (data, indices, updates) = (data?, indices?, updates?);
    let Rows::Numbered(place, Ordinal::First) = &indices.rows else { return None };
    let fits = has_rows_first(data)
        && updates.place() == Some(place)
        && updates.shape.as_ref()?.get(place.axis) == indices.shape.as_ref()?.get(place.axis);
    fits.then(|| Value::along(data.shape.clone().unwrap_or_default(), Place::at(0)))
}
