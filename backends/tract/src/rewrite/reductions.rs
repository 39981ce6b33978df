//! Reductions that tract fails on: those of integers that take roots or logarithms, and norms over all positions.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::Facts;
use super::writer::{Writer, integer};
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

/// Sums of squares, their root, and logarithms, of integers: the sum is one of integers, the rest is computed in FP64.
pub(super) fn of_integers(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let Some(dtype) = facts.dtype(input).filter(|dtype| INTEGERS.contains(dtype)) else { return false };
    let Some(axes) = axes(node, facts) else { return false };
    let keep = integer_attribute(node, "keepdims").unwrap_or(1) != 0;
    let back = |writer: &mut Writer, wide: &str| {
        writer.named("Cast", &[wide], output, vec![integer("to", dtype as i64)]);
    };
    match node.op_type.as_str() {
        "ReduceSumSquare" => {
            let squares = writer.op("Mul", &[input, input], vec![]);
            writer.reduce_to("ReduceSum", &squares, &axes, keep, output);
        }
        "ReduceL2" => {
            let squares = writer.op("Mul", &[input, input], vec![]);
            let sum = writer.reduce("ReduceSum", &squares, &axes, keep);
            let wide = writer.cast(&sum, DataType::Double);
            let root = writer.op("Sqrt", &[&wide], vec![]);
            back(writer, &root);
        }
        "ReduceLogSum" => {
            let sum = writer.reduce("ReduceSum", input, &axes, keep);
            let wide = writer.cast(&sum, DataType::Double);
            let logarithm = writer.op("Log", &[&wide], vec![]);
            back(writer, &logarithm);
        }
        "ReduceLogSumExp" => {
            let wide = writer.cast(input, DataType::Double);
            let result = writer.reduce("ReduceLogSumExp", &wide, &axes, keep);
            back(writer, &result);
        }
        _ => return false,
    }
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
