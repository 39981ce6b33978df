//! Reductions that tract fails on: those of integers that take logarithms, those of truth values, and norms over all positions.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::facts::Facts;
use super::writer::{SUM_AXES_AS_OPERAND, Writer, integer};
use crate::proto::integer_attribute;

const INTEGERS: [DataType; 8] = [
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Uint8,
    DataType::Uint16,
    DataType::Uint32,
    DataType::Uint64,
];

/// The logarithm of a sum of integers: the sum is one of integers, its logarithm is computed in FP64.
///
/// Sums of squares and of powers are not: where they overflow, ONNX Runtime answers and tract fails.
pub(super) fn of_integers(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    if node.op_type != "ReduceLogSum" {
        return false;
    }
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let Some(dtype) = facts.dtype(input).filter(|dtype| INTEGERS.contains(dtype)) else { return false };
    let Some(axes) = axes(node, facts) else { return false };
    let keep = integer_attribute(node, "keepdims").unwrap_or(1) != 0;
    // A sum of smaller ones goes beyond their type.
    let is_small = !matches!(dtype, DataType::Int64 | DataType::Uint64);
    let input = if is_small { writer.cast(input, DataType::Int64) } else { input.clone() };
    let sum = writer.reduce("ReduceSum", &input, &axes, keep);
    let wide = writer.cast(&sum, DataType::Double);
    let logarithm = writer.op("Log", &[&wide], vec![]);
    writer.named("Cast", &[&logarithm], output, vec![integer("to", dtype as i64)]);
    true
}

/// Reductions of 32-bit integers that go beyond these on their way: computed in FP64, and cut off.
pub(super) fn in_wider(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let is_one = matches!(node.op_type.as_str(), "ReduceMean" | "ReduceL2");
    if !is_one || facts.dtype(input) != Some(DataType::Int32) {
        return false;
    }
    let wide = writer.cast(input, DataType::Double);
    let mut operands = vec![wide.as_str()];
    operands.extend(node.input[1..].iter().map(String::as_str));
    let found = writer.op(&node.op_type, &operands, node.attribute.clone());
    writer.named("Cast", &[&found], output, vec![integer("to", DataType::Int32 as i64)]);
    true
}

/// The axes that it reduces, empty for all; none where they are not constant, or where none means that nothing is reduced.
fn axes(node: &NodeProto, facts: &Facts) -> Option<Vec<i64>> {
    let axes = match node.input.get(1).filter(|name| !name.is_empty()) {
        Some(operand) => facts.of(operand).integers?,
        None => {
            node.attribute.iter().find(|found| found.name == "axes").map(|found| found.ints.clone()).unwrap_or_default()
        }
    };
    let nothing = axes.is_empty() && integer_attribute(node, "noop_with_empty_axes").unwrap_or(0) != 0;
    (!nothing).then_some(axes)
}

/// The largest of nothing but minus infinity, and the smallest of infinity: tract answers the last number before it.
pub(super) fn of_infinities(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let (infinity, beyond) = match node.op_type.as_str() {
        "ReduceMax" => (f64::NEG_INFINITY, "Greater"),
        "ReduceMin" => (f64::INFINITY, "Less"),
        _ => return false,
    };
    let floating = [DataType::Float, DataType::Double, DataType::Float16];
    let Some(dtype) = facts.dtype(input).filter(|dtype| floating.contains(dtype)) else { return false };
    let infinity = writer.scalar(dtype, infinity);
    let other = writer.op(beyond, &[input, &infinity], vec![]);
    let other = writer.cast(&other, DataType::Int32);
    let mut operands = vec![other.as_str()];
    operands.extend(node.input[1..].iter().map(String::as_str));
    let most = writer.op("ReduceMax", &operands, node.attribute.clone());
    // Of no elements at all tract answers the smallest number.
    let zero = writer.scalar(DataType::Int32, 0.0);
    let any = writer.op("Greater", &[&most, &zero], vec![]);
    operands[0] = input;
    let found = writer.op(&node.op_type, &operands, node.attribute.clone());
    writer.named("Where", &[&any, &found, &infinity], output, vec![]);
    true
}

/// The logarithm of a sum of exponentials, of which tract lets the largest overflow: of what is left of them when the largest
/// exponent is taken away, which is added to it again.
pub(super) fn of_exponentials(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let floating = [DataType::Float, DataType::Double, DataType::Float16];
    let Some(dtype) = facts.dtype(input).filter(|dtype| floating.contains(dtype)) else { return false };
    if node.op_type != "ReduceLogSumExp" {
        return false;
    }
    let is_half = dtype == DataType::Float16;
    let wide = if is_half { DataType::Float } else { dtype };
    let input = if is_half { writer.cast(input, wide) } else { input.clone() };
    let mut keeping = node.attribute.clone();
    keeping.retain(|attribute| attribute.name != "keepdims");
    let axes: Vec<&str> = node.input[1..].iter().map(String::as_str).collect();
    let mut reduce = |operator: &str, of: &str, attributes: &[AttributeProto]| {
        writer.op(operator, &[&[of], axes.as_slice()].concat(), attributes.to_vec())
    };
    let (largest, kept) = (reduce("ReduceMax", &input, &node.attribute), reduce("ReduceMax", &input, &keeping));
    // An infinite one is not taken away: of itself it would leave nothing that is a number.
    let (largest, kept) = (finite(&largest, wide, writer), finite(&kept, wide, writer));
    let shifted = writer.op("Sub", &[&input, &kept], vec![]);
    let exponentials = writer.op("Exp", &[&shifted], vec![]);
    let mut attributes = node.attribute.clone();
    let mut operands = vec![exponentials.as_str()];
    operands.extend(axes);
    // Until then the axes of a sum were an attribute, as those of this reduction were, and after it an operand.
    let stored = attributes.iter().position(|attribute| attribute.name == "axes");
    let stored = stored.filter(|_| writer.opset >= SUM_AXES_AS_OPERAND);
    let axes = stored.map(|place| writer.integers(&attributes.remove(place).ints));
    operands.extend(axes.as_deref());
    let sum = writer.op("ReduceSum", &operands, attributes);
    let logarithm = writer.op("Log", &[&sum], vec![]);
    if is_half {
        let result = writer.op("Add", &[&logarithm, &largest], vec![]);
        writer.named("Cast", &[&result], output, vec![integer("to", dtype as i64)]);
    } else {
        writer.named("Add", &[&logarithm, &largest], output, vec![]);
    }
    true
}

/// 0 in place of infinity.
pub(super) fn finite(name: &str, dtype: DataType, writer: &mut Writer) -> String {
    let (infinity, zero) = (writer.scalar(dtype, f64::INFINITY), writer.scalar(dtype, 0.0));
    let size = writer.op("Abs", &[name], vec![]);
    let infinite = writer.op("Equal", &[&size, &infinity], vec![]);
    writer.op("Where", &[&infinite, &zero, name], vec![])
}

/// Whether all or any are true, which tract does not reduce.
pub(super) fn of_truth(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    if facts.dtype(input) != Some(DataType::Bool) {
        return false;
    }
    let mut operands = node.input.clone();
    operands[0] = writer.cast(input, DataType::Uint8);
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let found = writer.op(&node.op_type, &operands, node.attribute.clone());
    writer.named("Cast", &[&found], output, vec![integer("to", DataType::Bool as i64)]);
    true
}

/// `GlobalLpPool` of another power than 2, which tract computes wrongly.
pub(super) fn global_norm(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let (Some(rank), Some(dtype)) = (facts.rank(input), facts.dtype(input)) else { return false };
    let power = integer_attribute(node, "p").unwrap_or(2);
    if power == 2 || power < 1 || rank < 3 || !matches!(dtype, DataType::Float | DataType::Double) {
        return false;
    }
    let (exponent, root) = (writer.scalar(dtype, power as f64), writer.scalar(dtype, 1.0 / power as f64));
    let size = writer.op("Abs", &[input], vec![]);
    let powers = writer.op("Pow", &[&size, &exponent], vec![]);
    let axes: Vec<i64> = (2..rank).collect();
    let sum = writer.reduce("ReduceSum", &powers, &axes, true);
    writer.named("Pow", &[&sum, &root], output, vec![]);
    true
}
