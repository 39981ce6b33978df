//! `Softmax` among quantised values: tract makes a table of it, as if each element stood alone. It becomes the exponential
//! over its sum. `LogSoftmax` everywhere: tract takes the logarithm of a softmax, which is nothing where that is too small.

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::facts::Facts;
use super::reductions::finite;
use super::writer::{Writer, integer};
use crate::proto::integer_attribute;

/// The operator set in which `Softmax` came to mean one axis.
pub(crate) const SOFTMAX_OF_ONE_AXIS: i64 = 13;

/// Whether values of a graph are quantised and dequantised again.
pub(crate) fn is_quantised(graph: &GraphProto) -> bool {
    let has = |operator: &str| graph.node.iter().any(|node| node.op_type == operator && is_standard(&node.domain));
    has("QuantizeLinear") && has("DequantizeLinear")
}

pub(super) fn spelled(node: &NodeProto, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    if writer.opset < SOFTMAX_OF_ONE_AXIS {
        return false;
    }
    let axis = integer_attribute(node, "axis").unwrap_or(-1);
    let largest = writer.reduce("ReduceMax", input, &[axis], true);
    let shifted = writer.op("Sub", &[input, &largest], vec![]);
    let exponential = writer.op("Exp", &[&shifted], vec![]);
    let sum = writer.reduce("ReduceSum", &exponential, &[axis], true);
    writer.named("Div", &[&exponential, &sum], output, vec![]);
    true
}

/// The shifted input less the logarithm of the sum of its exponentials.
pub(super) fn logarithm(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    if writer.opset >= SOFTMAX_OF_ONE_AXIS {
        along(integer_attribute(node, "axis").unwrap_or(-1), input, facts.dtype(input), output, writer);
        return true;
    }
    // Before, all axes from one on were normalised together.
    let axis = integer_attribute(node, "axis").unwrap_or(1);
    if axis == -1 || facts.rank(input) == Some(axis + 1) {
        along(-1, input, facts.dtype(input), output, writer);
        return true;
    }
    let flat = writer.op("Flatten", &[input], vec![integer("axis", axis)]);
    let result = writer.fresh();
    along(-1, &flat, facts.dtype(input), &result, writer);
    let shape = writer.op("Shape", &[input], vec![]);
    writer.named("Reshape", &[&result, &shape], output, vec![]);
    true
}

/// The same along one axis.
fn along(axis: i64, input: &str, dtype: Option<DataType>, output: &str, writer: &mut Writer) {
    let mut largest = writer.reduce("ReduceMax", input, &[axis], true);
    // Beside infinity others are nothing: only in FP64 ONNX Runtime says that of them, and not that they are no numbers.
    if dtype == Some(DataType::Double) {
        largest = finite(&largest, DataType::Double, writer);
    }
    let shifted = writer.op("Sub", &[input, &largest], vec![]);
    let exponential = writer.op("Exp", &[&shifted], vec![]);
    let sum = writer.reduce("ReduceSum", &exponential, &[axis], true);
    let logarithm = writer.op("Log", &[&sum], vec![]);
    writer.named("Sub", &[&shifted, &logarithm], output, vec![]);
}
