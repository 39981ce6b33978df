//! Indices that count from the end, which tract's `GatherND` and `ScatterND` do not know.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::Facts;
use super::writer::Writer;
use crate::proto::integer_attribute;

/// The same node on indices to which the sizes are added where they are negative.
pub(super) fn from_the_front(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(data), Some(indices)) = (node.input.first(), node.input.get(1)) else { return false };
    let known = facts.of(indices);
    // How many axes an index names.
    let depth = known.dims.as_ref().and_then(|dims| dims.last().copied().flatten());
    let (Some(depth), false) = (depth, known.not_negative) else { return false };
    let first = integer_attribute(node, "batch_dims").unwrap_or(0);
    let sizes: Vec<String> = (first..first + depth)
        .map(|axis| {
            let size = match usize::try_from(axis).ok().and_then(|axis| facts.size(data, axis)) {
                Some(size) => writer.scalar(DataType::Int64, size as f64),
                None => {
                    let size = writer.size(data, axis);
                    writer.cast(&size, DataType::Int64)
                }
            };
            writer.unsqueeze(&size, &[0])
        })
        .collect();
    let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
    let sizes = writer.op("Concat", &sizes, vec![super::writer::integer("axis", 0)]);
    let zero = writer.scalar(DataType::Int64, 0.0);
    let negative = writer.op("Less", &[indices, &zero], vec![]);
    let shifted = writer.op("Add", &[indices, &sizes], vec![]);
    let mut node = node.clone();
    node.input[1] = writer.op("Where", &[&negative, &shifted, indices], vec![]);
    writer.nodes.push(node);
    true
}
