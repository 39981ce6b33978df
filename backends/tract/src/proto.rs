//! What tract's protobuf types of a model do not say directly: its operator set, a node's attributes and its subgraphs.

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// The version of the standard operator set; 0 where none is named.
pub(crate) fn standard_opset(model: &ModelProto) -> i64 {
    model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version)
}

/// The node's name; where it has none, that of the first value it makes, which is what tract calls it.
pub(crate) fn label(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

/// The value of an attribute that is an integer.
pub(crate) fn integer_attribute(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.i)
}

/// The value of an attribute that is a list of integers.
pub(crate) fn integers_attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.ints.as_slice())
}

/// The value of an attribute that is a floating-point number.
pub(crate) fn float_attribute(node: &NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.f)
}

/// The value of an attribute that is a text.
pub(crate) fn text_attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    node.attribute.iter().find(|attribute| attribute.name == name).and_then(|found| std::str::from_utf8(&found.s).ok())
}

/// Whether it says which axes it is about: before operator set 13 by an attribute, since then by an operand.
pub(crate) fn has_axes(node: &NodeProto) -> bool {
    let operand = node.input.get(1).is_some_and(|name| !name.is_empty());
    operand || node.attribute.iter().any(|attribute| attribute.name == "axes")
}

/// The graphs inside a node's attributes: branches and loop bodies.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|AttributeProto { g, graphs, .. }| g.iter().chain(graphs))
}

/// As [`subgraphs`], to be changed in place.
pub(crate) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|AttributeProto { g, graphs, .. }| g.iter_mut().chain(graphs))
}

/// The elements of a tensor of INT64 or INT32 that lies in the file itself.
pub(crate) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_location.is_some_and(|location| location != 0) {
        return None;
    }
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int64 if tensor.raw_data.is_empty() => Some(tensor.int64_data.clone()),
        DataType::Int64 => {
            Some(tensor.raw_data.as_chunks::<8>().0.iter().map(|element| i64::from_le_bytes(*element)).collect())
        }
        DataType::Int32 if tensor.raw_data.is_empty() => {
            Some(tensor.int32_data.iter().map(|&element| element.into()).collect())
        }
        DataType::Int32 => {
            Some(tensor.raw_data.as_chunks::<4>().0.iter().map(|element| i32::from_le_bytes(*element).into()).collect())
        }
        _ => None,
    }
}

/// A node without a name or attributes.
#[cfg(test)]
pub(crate) fn plain_node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}
