//! FP16: tract sums in FP16, where a few hundred elements overflow, and multiplies a `Gemm` by an FP32 constant.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::facts::Facts;
use super::writer::{Writer, integer, integers};
use crate::proto::integer_attribute;

/// Operators that add many elements up, and one that tract approximates.
const WIDENED: [&str; 16] = [
    "CumSum",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Sigmoid",
];

/// The same operator between two casts.
pub(super) fn widened(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let is_half = |name: &String| facts.dtype(name) == Some(DataType::Float16);
    let ([output], true) = (node.output.as_slice(), node.input.first().is_some_and(is_half)) else { return false };
    if !WIDENED.contains(&node.op_type.as_str()) {
        return false;
    }
    let mut wide = node.clone();
    for name in &mut wide.input {
        if is_half(name) {
            *name = writer.cast(name, DataType::Float);
        }
    }
    let result = writer.fresh();
    wide.output[0].clone_from(&result);
    writer.nodes.push(wide);
    writer.named("Cast", &[&result], output, vec![integer("to", DataType::Float16 as i64)]);
    true
}

/// A `Gemm` that scales nothing as a product and a sum.
pub(super) fn gemm(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let is_half = |name: &String| facts.dtype(name) == Some(DataType::Float16);
    let scales = |attribute: &AttributeProto| matches!(attribute.name.as_str(), "alpha" | "beta") && attribute.f != 1.0;
    let ([first, second, rest @ ..], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    if !node.input.iter().any(is_half) || node.attribute.iter().any(scales) {
        return false;
    }
    let mut operands = [first.clone(), second.clone()];
    for (operand, attribute) in operands.iter_mut().zip(["transA", "transB"]) {
        if integer_attribute(node, attribute).unwrap_or(0) != 0 {
            *operand = writer.op("Transpose", &[operand], vec![integers("perm", &[1, 0])]);
        }
    }
    let operands = operands.each_ref().map(String::as_str);
    match rest.first().filter(|bias| !bias.is_empty()) {
        Some(bias) => {
            let product = writer.op("MatMul", &operands, vec![]);
            writer.named("Add", &[&product, bias], output, vec![]);
        }
        None => writer.named("MatMul", &operands, output, vec![]),
    }
    true
}
