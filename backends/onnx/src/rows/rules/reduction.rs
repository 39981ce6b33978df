//! Operators that bring the elements of one or several axes together.

use super::super::broadcast::Part;
use super::super::node::{Node, Operands};
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Outcome, Place, Shape, Value, axis_of, mixes, unknown};
use super::{Rule, axes, listed, uniform};

/// Since this operator set a softmax is along one axis; before, along all behind and with it.
const SOFTMAX_OF_ONE_AXIS: i64 = 13;

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => reduce,
        "ArgMax" | "ArgMin" => arg,
        "TopK" => top_k,
        "Softmax" | "LogSoftmax" | "Hardmax" => softmax,
        "CumSum" | "CumProd" => cumulative,
        "LpNormalization" => along_last,
        // The last is one that ONNX Runtime adds, and keeps in the domain of ONNX.
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => layer_normalization,
        "MeanVarianceNormalization" => mean_variance,
        "DynamicQuantizeLinear" => dynamic_quantize,
        "Det" => det,
        "DFT" => dft,
        _ => return None,
    })
}

fn reduce(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    if let Some(result) = of_numbers(node, value, symbols) {
        return Ok(vec![result]);
    }
    let part = Part::of(value)?;
    let given = match operands.get(1) {
        Some(axes) if axes.shape.as_ref().is_some_and(|shape| shape.iter().any(|size| size.is(0))) => None,
        _ => axes(node, operands, 1)?.filter(|axes| !axes.is_empty()),
    };
    let reduced = match given {
        Some(axes) => listed(&axes, part.shape.len())?,
        None if node.is_set("noop_with_empty_axes") => Vec::new(),
        None => (0..part.shape.len()).collect(),
    };
    reduced_over(part, &reduced, node.integer_or("keepdims", 1) != 0)
}

fn reduced_over(part: Part<'_>, reduced: &[usize], keeps: bool) -> Outcome<Vec<Value>> {
    if part.place.is_some_and(|place| reduced.contains(&place.axis)) {
        return mixes("reduces the axis of the rows");
    }
    let left = |axis: &usize| keeps || !reduced.contains(axis);
    let size = |axis: usize| if reduced.contains(&axis) { Polynomial::constant(1) } else { part.shape[axis].clone() };
    let shape: Shape = (0..part.shape.len()).filter(left).map(size).collect();
    let place = part.place.map(|place| place.moved((0..place.axis).filter(left).count()));
    Ok(vec![Value::of(shape, place)?])
}

/// The product or the sum of sizes.
fn of_numbers(node: &Node<'_>, value: &Value, symbols: &Symbols) -> Option<Value> {
    let numbers = value.numbers.as_ref()?;
    let one_axis = value.shape.as_ref().is_some_and(|shape| shape.len() == 1);
    let result = match node.operator() {
        "ReduceProd" => Polynomial::product(&numbers.elements)?,
        "ReduceSum" => numbers.elements.iter().try_fold(Polynomial::default(), |sum, element| sum.plus(element))?,
        _ => return None,
    };
    if !one_axis || !symbols.is_whole(&result) || node.is_set("noop_with_empty_axes") {
        return None;
    }
    let keeps = node.integer_or("keepdims", 1) != 0;
    let shape = if keeps { vec![Polynomial::constant(1)] } else { Vec::new() };
    Some(Value::numbers(shape, vec![result], numbers.whole))
}

fn arg(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let axis = axis_of(node.integer_or("axis", 0), part.shape.len())?;
    reduced_over(part, &[axis], node.integer_or("keepdims", 1) != 0)
}

fn top_k(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let axis = axis_of(node.integer_or("axis", -1), part.shape.len())?;
    if part.place.is_some_and(|place| place.axis == axis) {
        return mixes("sorts the rows");
    }
    uniform(operands, 1, "number of elements")?;
    let known =
        operands.get(1).and_then(|count| count.elements()?.first().cloned()).filter(|count| symbols.is_size(count));
    let count =
        known.or_else(|| node.integer("k").map(Polynomial::constant)).unwrap_or_else(|| symbols.fresh(Kind::Size));
    let mut shape = part.shape.to_vec();
    shape[axis] = count;
    let value = Value::of(shape, part.place.cloned())?;
    Ok(vec![value.clone(), value])
}

fn softmax(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let one_axis = node.opset >= SOFTMAX_OF_ONE_AXIS;
    let axis = axis_of(node.integer_or("axis", if one_axis { -1 } else { 1 }), part.shape.len().max(1))?;
    if node.operator() == "Hardmax" && !one_axis && part.place.is_some() {
        return unknown("which of several that are no number is the largest depends on where they lie in memory");
    }
    let meets = |place: &&Place| if one_axis { place.axis == axis } else { place.axis >= axis };
    kept(part, part.place.filter(meets).is_some(), "normalises over the axis of the rows")
}

/// The operand's shape and rows, unless it brings rows together.
fn kept(part: Part<'_>, meets: bool, how: &str) -> Outcome<Vec<Value>> {
    if meets { mixes(how) } else { Ok(vec![Value::of(part.shape.to_vec(), part.place.cloned())?]) }
}

fn cumulative(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    uniform(operands, 1, "axis")?;
    let axis = operands.required(1)?.constants();
    let Some([axis]) = axis.as_deref() else {
        return if part.place.is_some() { unknown("its axis is not known") } else { kept(part, false, "") };
    };
    let axis = axis_of(*axis, part.shape.len())?;
    kept(part, part.place.is_some_and(|place| place.axis == axis), "adds up the rows")
}

fn along_last(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let axis = axis_of(node.integer_or("axis", -1), part.shape.len())?;
    kept(part, part.place.is_some_and(|place| place.axis == axis), "normalises over the axis of the rows")
}

/// Normalises over all axes from one on; its results behind the first have one element for each of them.
pub(super) fn layer_normalization(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let axis = axis_of(node.integer_or("axis", -1), part.shape.len())?;
    for (index, what) in [(1, "scale"), (2, "bias")] {
        uniform(operands, index, what)?;
        if let Some(parameter) = operands.get(index)
            && parameter.rank()? > part.shape.len() - axis
        {
            return unknown(format!("its {what} is not that of one row"));
        }
    }
    let mut values =
        kept(part, part.place.is_some_and(|place| place.axis >= axis), "normalises over the axis of the rows")?;
    let single = |own: usize| if own >= axis { Polynomial::constant(1) } else { part.shape[own].clone() };
    let statistics = Value::of((0..part.shape.len()).map(single).collect(), part.place.cloned())?;
    values.extend(std::iter::repeat_n(statistics, node.results().saturating_sub(1)));
    Ok(values)
}

fn mean_variance(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let axes = listed(node.integers("axes").unwrap_or(&[0, 2, 3]), part.shape.len())?;
    kept(part, part.place.is_some_and(|place| axes.contains(&place.axis)), "normalises over the axis of the rows")
}

fn dynamic_quantize(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    if part.place.is_some() {
        return mixes("one scale, that of the largest element of all rows, is used for each");
    }
    let single = Value::same(Vec::new())?;
    Ok(vec![Value::same(part.shape.to_vec())?, single.clone(), single])
}

fn det(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let first = axis_of(-2, part.shape.len())?;
    reduced_over(part, &[first, first + 1], false)
}

fn dft(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    /// Since this operator set the axis is an operand, and by default another one.
    const AXIS_AS_OPERAND: i64 = 20;
    let part = Part::of(operands.required(0)?)?;
    uniform(operands, 1, "length")?;
    uniform(operands, 2, "axis")?;
    let axis = match operands.get(2) {
        Some(axis) => match axis.constants().as_deref() {
            Some([axis]) => *axis,
            _ => return unknown("its axis is not known"),
        },
        None if node.opset >= AXIS_AS_OPERAND => -2,
        None => node.integer_or("axis", 1),
    };
    let axis = axis_of(axis, part.shape.len())?;
    let last = part.shape.len() - 1;
    if part.place.is_some_and(|place| place.axis == axis || place.axis == last) {
        return mixes("transforms along the rows");
    }
    let mut shape = part.shape.to_vec();
    if operands.get(1).is_some() || node.is_set("onesided") {
        shape[axis] = symbols.fresh(Kind::Size);
    }
    shape[last] = symbols.fresh(Kind::Size);
    Ok(vec![Value::of(shape, part.place.cloned())?])
}
