//! Operators whose elements depend on the elements at the same place alone.

use super::super::broadcast::broadcast;
use super::super::node::{Node, Operands};
use super::super::numbers;
use super::super::polynomial::Symbols;
use super::super::value::{Outcome, Rows, Value, axis_of, mixes, unknown};
use super::{Rule, uniform};
use crate::file::is_standard;

/// Since this operator set operands are broadcast as numpy does; before, an attribute says how.
const NUMPY_SINCE: i64 = 7;

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Abs" | "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "BitwiseNot" | "Cast" | "Ceil" | "Celu"
        | "Cos" | "Cosh" | "Elu" | "Erf" | "Exp" | "Floor" | "Gelu" | "HardSigmoid" | "HardSwish" | "Identity"
        | "IsInf" | "IsNaN" | "LeakyRelu" | "Log" | "Mish" | "Neg" | "Not" | "Reciprocal" | "RegexFullMatch"
        | "Relu" | "Round" | "Selu" | "Shrink" | "Sigmoid" | "Sign" | "Sin" | "Sinh" | "Softplus" | "Softsign"
        | "Sqrt" | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" | "BitCast" => unary,
        "Add" | "And" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Clip" | "Div" | "Equal"
        | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max" | "Mean" | "Min" | "Mod" | "Mul" | "Or"
        | "Pow" | "StringConcat" | "Sub" | "Sum" | "Where" | "Xor" => several,
        "PRelu" => leaky,
        "CastLike" => first,
        "Dropout" => dropout,
        "Constant" => constant,
        "QuantizeLinear" | "DequantizeLinear" => quantize,
        _ => return None,
    })
}

pub(super) fn unary(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    several(node, Operands(operands.0.get(..1).unwrap_or_default()), symbols)
}

pub(super) fn several(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    if let Some(value) = numbers::compute(node, operands, symbols) {
        return Ok(vec![value]);
    }
    let values: Vec<&Value> = operands.all().collect();
    let by_attribute = node.opset < NUMPY_SINCE && is_standard(&node.proto.domain) && values.len() > 1;
    if by_attribute && node.is_set("broadcast") {
        return old_broadcast(node, &values, symbols);
    }
    broadcast(&values, symbols).map(|value| vec![value])
}

/// A slope for all, for each channel (in old operator sets, where it is a list), or as numpy repeats it.
fn leaky(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let slope = operands.required(1)?;
    if node.opset >= NUMPY_SINCE || slope.is_single() {
        return several(node, operands, symbols);
    }
    let value = operands.required(0)?;
    uniform(operands, 1, "slope")?;
    if value.place().is_some_and(|place| place.axis == 1) {
        return unknown("it has several slopes along the rows");
    }
    broadcast(&[value], symbols).map(|value| vec![value])
}

/// The second operand is laid beside the axes of the first that begin at an attribute.
fn old_broadcast(node: &Node<'_>, values: &[&Value], symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let [one, two] = values else { return unknown("is broadcast in a way that is not known") };
    if !two.is_same() {
        return unknown("an operand with rows is broadcast in the way of old operator sets");
    }
    let (rank, mut shape) = (one.rank()?, two.shape()?.to_vec());
    if let Some(axis) = node.integer("axis") {
        let behind = rank.checked_sub(axis_of(axis, rank)? + shape.len());
        let Some(behind) = behind else { return unknown("its operands do not fit") };
        shape.extend(std::iter::repeat_n(super::super::polynomial::Polynomial::constant(1), behind));
    }
    let two = Value::same(shape)?;
    broadcast(&[one, &two], symbols).map(|value| vec![value])
}

/// The first operand; the second only names a type.
fn first(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    match numbers::compute(node, operands, symbols) {
        Some(value) => Ok(vec![value]),
        None => broadcast(&[operands.required(0)?], symbols).map(|value| vec![value]),
    }
}

/// When it drops nothing it is the identity.
fn dropout(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let trains = match operands.get(2) {
        Some(mode) => mode.constants().is_none_or(|mode| mode != [0]),
        // Before operator set 7 an attribute said that it was a test.
        None => node.opset < NUMPY_SINCE && !node.is_set("is_test"),
    };
    if trains {
        return mixes("draws random numbers");
    }
    let value = broadcast(&[operands.required(0)?], symbols)?;
    Ok(vec![value; node.results()])
}

fn constant(node: &Node<'_>, _: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    use super::super::node::{real, stored};
    use super::super::polynomial::Polynomial;
    let reals = |values: &[f32], symbols: &mut Symbols| {
        values.iter().map(|value| real(f64::from(*value), symbols)).collect::<Option<Vec<_>>>()
    };
    let list = |elements: Vec<Polynomial>, whole: bool| {
        let shape = vec![Polynomial::constant(i64::try_from(elements.len()).unwrap_or(i64::MAX))];
        Value::numbers(shape, elements, whole)
    };
    Ok(vec![if let Some(tensor) = node.tensor("value") {
        stored(tensor, symbols)
    } else if let Some(value) = node.integer("value_int") {
        Value::numbers(Vec::new(), vec![Polynomial::constant(value)], true)
    } else if let Some(values) = node.integers("value_ints") {
        list(values.iter().copied().map(Polynomial::constant).collect(), true)
    } else if let Some(values) = node.floats("value_floats").and_then(|values| reals(values, symbols)) {
        list(values, false)
    } else if let Some(value) = node.float("value_float").and_then(|value| reals(&[value], symbols)) {
        Value::numbers(Vec::new(), value, false)
    } else {
        Value::opaque()
    }])
}

/// One scale for all, or one for each place along an axis that is not that of the rows.
fn quantize(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    for (index, what) in [(1, "scale"), (2, "zero point")] {
        uniform(operands, index, what)?;
        let Some(parameter) = operands.get(index) else { continue };
        let (Some(place), false) = (value.place(), parameter.is_single()) else { continue };
        let axis = axis_of(node.integer_or("axis", 1), value.rank()?)?;
        let blocked = node.integer_or("block_size", 0) != 0 || parameter.rank()? > 1;
        if axis == place.axis || blocked {
            return unknown(format!("its {what} is not the same along the axis of the rows"));
        }
    }
    if value.rows == Rows::Count {
        return mixes("computes with the number of rows");
    }
    broadcast(&[value], symbols).map(|value| vec![value])
}
