//! Whether the rows of a request are independent, proved from the graph.
//!
//! Requests may share a run, and rows of one request may run apart, only where each row's answer depends on that row alone,
//! whatever its values are. No sample proves that: a graph can mix rows for some values and not for others. So the axis of
//! the rows is followed from the inputs through every node (`walk.rs`), by one rule for each operator (`rules/`), with
//! sizes as polynomials in the number of rows (`polynomial.rs`). What has no rule is unknown, and is not shared.

mod broadcast;
mod node;
mod numbers;
mod polynomial;
mod rules;
mod value;
mod walk;

use corymb_core::{BatchAxes, Culprit, Dim, Independence, RowAnalysis, Signature, TensorSpec};

use self::polynomial::{Kind, Polynomial, Symbols};
pub(crate) use self::rules::draws;
use self::value::{Place, Rows, Shape, Value};
use self::walk::Walk;
use crate::proto::{GraphProto, ModelProto};

/// Follows the rows through `model`, whose inputs and outputs are those of `signature`.
///
/// The rows of an input are those of its axis 0, or of another axis that has the same symbol, or of axis 1 where a model
/// takes its steps first. An input without an open axis has no rows: it is the same for all.
#[must_use]
pub fn analyse_rows(model: &ModelProto, signature: &Signature) -> RowAnalysis {
    let axes = by_shape(signature);
    let mut first = None;
    for candidate in candidates(signature) {
        match follow(model, signature, &candidate) {
            Ok(outputs) => {
                let axes = Some(named(signature, &candidate, &outputs));
                return RowAnalysis { independence: Independence::Proved, axes };
            }
            Err(refused) => first = first.or(Some(refused)),
        }
    }
    let independence = first.unwrap_or_else(|| {
        Independence::Unknown(Culprit::of_model(
            "no input has an open first dimension: the model takes a fixed number of rows",
        ))
    });
    RowAnalysis { independence, axes }
}

/// Where the rows would be by the shapes alone: axis 0 of every input that has it open, and of every output. None where an
/// output has none.
pub(crate) fn by_shape(signature: &Signature) -> Option<BatchAxes> {
    let open = |spec: &TensorSpec| spec.shape.first().is_some_and(|dim| dim.fixed().is_none());
    let inputs: Vec<Option<usize>> =
        signature.inputs.iter().map(|spec| (!spec.optional && open(spec)).then_some(0)).collect();
    let possible = inputs.iter().any(Option::is_some) && signature.outputs.iter().all(open);
    possible.then(|| named(signature, &inputs, &vec![Some(0); signature.outputs.len()]))
}

fn named(signature: &Signature, inputs: &[Option<usize>], outputs: &[Option<usize>]) -> BatchAxes {
    let of = |specs: &[TensorSpec], axes: &[Option<usize>]| {
        specs.iter().zip(axes).map(|(spec, axis)| (spec.name.clone(), *axis)).collect()
    };
    BatchAxes { inputs: of(&signature.inputs, inputs), outputs: of(&signature.outputs, outputs) }
}

/// The axis of the rows in each input, none for those without rows: what is worth trying, the likeliest first.
fn candidates(signature: &Signature) -> Vec<Vec<Option<usize>>> {
    let open = |spec: &TensorSpec, axis: usize| {
        !spec.optional && spec.shape.get(axis).is_some_and(|dim| dim.fixed().is_none())
    };
    let mut found: Vec<Vec<Option<usize>>> = Vec::new();
    for axis in [0, 1] {
        let Some(leader) = signature.inputs.iter().find(|spec| open(spec, axis)) else { continue };
        let symbol = match &leader.shape[axis] {
            symbol @ Dim::Symbol(_) => Some(symbol),
            _ => None,
        };
        let named = |spec: &TensorSpec| {
            let symbol = symbol.filter(|_| !spec.optional)?;
            spec.shape.iter().position(|dim| dim == symbol)
        };
        let by_axis = signature.inputs.iter().map(|spec| if open(spec, axis) { Some(axis) } else { named(spec) });
        let by_name = signature
            .inputs
            .iter()
            .map(|spec| if open(spec, axis) && symbol.is_none() { Some(axis) } else { named(spec) });
        for candidate in [by_axis.collect::<Vec<_>>(), by_name.collect()] {
            if candidate.iter().any(Option::is_some) && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    found
}

/// The axis of the rows in each output, none for those that no row changes.
fn follow(
    model: &ModelProto,
    signature: &Signature,
    candidate: &[Option<usize>],
) -> Result<Vec<Option<usize>>, Independence> {
    let Some(graph) = &model.graph else {
        return Err(Independence::Unknown(Culprit::of_model("the file holds no graph")));
    };
    let mut symbols = Symbols::new();
    let mut inputs = Vec::new();
    for (spec, axis) in signature.inputs.iter().zip(candidate) {
        let value = input(spec, *axis, signature, candidate, &mut symbols)
            .map_err(|reason| Independence::Unknown(Culprit::of_model(reason)))?;
        inputs.push((spec.name.as_str(), value));
    }
    let mut walk = Walk::new(model, symbols);
    let values = walk.model(graph, inputs);
    signature
        .outputs
        .iter()
        .map(|spec| {
            let index = graph.output.iter().position(|output| output.name == spec.name);
            let value = index.and_then(|index| values.get(index));
            output(&spec.name, value, graph, &walk)
        })
        .collect()
}

fn input(
    spec: &TensorSpec,
    rows: Option<usize>,
    signature: &Signature,
    candidate: &[Option<usize>],
    symbols: &mut Symbols,
) -> Result<Value, String> {
    let leaders = signature.inputs.iter().zip(candidate).filter_map(|(spec, axis)| spec.shape.get((*axis)?));
    let counts_rows = |dim: &Dim| matches!(dim, Dim::Symbol(_)) && leaders.clone().any(|leader| leader == dim);
    let mut shape = Shape::with_capacity(spec.shape.len());
    for (axis, dim) in spec.shape.iter().enumerate() {
        shape.push(match dim {
            _ if rows == Some(axis) => Polynomial::rows(),
            dim if counts_rows(dim) => return Err(format!("input '{}' has the number of rows on two axes", spec.name)),
            Dim::Fixed(size) => Polynomial::constant(i64::try_from(*size).unwrap_or(i64::MAX)),
            Dim::Symbol(name) => symbols.named(format!("dimension {name}"), Kind::Size),
            Dim::Unknown => symbols.fresh(Kind::Size),
        });
    }
    let value = match rows {
        Some(axis) => Value::along(shape, Place::at(axis)),
        None => Value::same(shape),
    };
    value.map_err(|_| format!("input '{}' has rows that cannot be told apart", spec.name))
}

fn output(
    name: &str,
    value: Option<&Value>,
    graph: &GraphProto,
    walk: &Walk<'_>,
) -> Result<Option<usize>, Independence> {
    let whole = |reason: &str| {
        let reason = format!("output '{name}' {reason}");
        let maker = graph.node.iter().find(|node| node.output.iter().any(|output| output == name));
        maker.map_or_else(
            || Culprit::of_model(&reason),
            |node| Culprit {
                operator: node.op_type.clone(),
                node: if node.name.is_empty() { name.to_owned() } else { node.name.clone() },
                reason: reason.clone(),
            },
        )
    };
    match value.map(|value| (&value.rows, value)) {
        None => Err(Independence::Unknown(whole("is made by no node"))),
        Some((Rows::Same, _)) => Ok(None),
        Some((Rows::Count, _)) => Err(Independence::Mixes(whole("says how many rows there are"))),
        Some((Rows::Numbered(..), _)) => Err(Independence::Mixes(whole("numbers the rows"))),
        Some((Rows::Along(place), _)) if place.outer.is(1) => Ok(Some(place.axis)),
        Some((Rows::Along(_), _)) => Err(Independence::Unknown(whole("has its rows in several places"))),
        Some((Rows::Lost(reason), _)) => match walk.reasons.get(*reason) {
            Some(reason) if reason.mixes => Err(Independence::Mixes(reason.culprit.clone())),
            Some(reason) => Err(Independence::Unknown(reason.culprit.clone())),
            None => Err(Independence::Unknown(whole("is not known"))),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
