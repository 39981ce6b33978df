//! Operators about shapes: what tract takes another default for, and `Upsample`, which it does not have.

use corymb_onnx::is_standard;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::facts::Facts;
use super::writer::{Writer, integers};
use crate::proto::{integer_attribute, text_attribute};

/// The operator set in which the axes of `Squeeze` became an operand.
const SQUEEZE_AXES_AS_OPERAND: i64 = 13;

/// A `Constant` of numbers that are attributes becomes one of a tensor, which is what all others read.
pub(super) fn constant(node: &mut NodeProto) {
    if node.op_type != "Constant" || !is_standard(&node.domain) {
        return;
    }
    for attribute in &mut node.attribute {
        let tensor = match attribute.name.as_str() {
            "value_int" => TensorProto { int64_data: vec![attribute.i], ..TensorProto::default() },
            "value_float" => TensorProto { float_data: vec![attribute.f], ..TensorProto::default() },
            "value_ints" => TensorProto {
                dims: vec![attribute.ints.len() as i64],
                int64_data: std::mem::take(&mut attribute.ints),
                ..TensorProto::default()
            },
            "value_floats" => TensorProto {
                dims: vec![attribute.floats.len() as i64],
                float_data: std::mem::take(&mut attribute.floats),
                ..TensorProto::default()
            },
            _ => continue,
        };
        let dtype = if attribute.name.starts_with("value_int") { DataType::Int64 } else { DataType::Float };
        *attribute = AttributeProto {
            name: "value".to_owned(),
            r#type: AttributeType::Tensor as i32,
            t: Some(TensorProto { data_type: dtype as i32, ..tensor }),
            ..AttributeProto::default()
        };
    }
}

/// Says what the node leaves to a default that tract does not know.
pub(super) fn complete(node: &mut NodeProto, facts: &Facts, opset: i64) {
    let has = |node: &NodeProto, name: &str| node.attribute.iter().any(|attribute| attribute.name == name);
    match node.op_type.as_str() {
        // tract fills in FP64 where FP32 is meant.
        "ConstantOfShape" if !has(node, "value") => node.attribute.push(zero()),
        // tract wants the axes said.
        "Squeeze" if opset < SQUEEZE_AXES_AS_OPERAND && !has(node, "axes") => {
            let dims = node.input.first().and_then(|input| facts.of(input).dims);
            if let Some(dims) = dims.and_then(|dims| dims.into_iter().collect::<Option<Vec<i64>>>()) {
                let single = dims.iter().enumerate().filter(|(_, size)| **size == 1).map(|(axis, _)| axis as i64);
                node.attribute.push(integers("axes", &single.collect::<Vec<_>>()));
            }
        }
        // No axes are all axes; tract takes an empty list for none.
        operator
            if operator.starts_with("Reduce") && integer_attribute(node, "noop_with_empty_axes").unwrap_or(0) == 0 =>
        {
            node.attribute.retain(|attribute| attribute.name != "axes" || !attribute.ints.is_empty());
            let empty = |name: &String| facts.of(name).integers.is_some_and(|axes| axes.is_empty());
            if node.input.get(1).is_some_and(empty) {
                node.input.truncate(1);
            }
        }
        _ => {}
    }
}

fn zero() -> AttributeProto {
    let zero = TensorProto {
        data_type: DataType::Float as i32,
        dims: vec![1],
        raw_data: 0_f32.to_le_bytes().to_vec(),
        ..TensorProto::default()
    };
    let r#type = AttributeType::Tensor as i32;
    AttributeProto { name: "value".to_owned(), r#type, t: Some(zero), ..AttributeProto::default() }
}

/// `Upsample` to the nearest element by whole numbers: each element is repeated along each axis.
pub(super) fn repeated(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let nearest = text_attribute(node, "mode").is_none_or(|mode| mode == "nearest");
    let attribute = node.attribute.iter().find(|attribute| attribute.name == "scales");
    let scales = match (node.input.get(1), attribute) {
        (Some(operand), _) => facts.of(operand).singles,
        (None, Some(attribute)) => Some(attribute.floats.clone()),
        (None, None) => None,
    };
    let Some(scales) =
        scales.filter(|scales| nearest && scales.iter().all(|scale| scale.fract() == 0.0 && *scale >= 1.0))
    else {
        return false;
    };
    let scales: Vec<i64> = scales.iter().map(|&scale| scale as i64).collect();
    let between: Vec<i64> = (0..scales.len() as i64).map(|axis| 2 * axis + 1).collect();
    let times: Vec<i64> = scales.iter().flat_map(|&scale| [1, scale]).collect();
    let apart = writer.unsqueeze(input, &between);
    let times = writer.integers(&times);
    let repeated = writer.op("Expand", &[&apart, &times], vec![]);
    let (shape, scales) = (writer.op("Shape", &[input], vec![]), writer.integers(&scales));
    let shape = writer.op("Mul", &[&shape, &scales], vec![]);
    writer.named("Reshape", &[&repeated, &shape], output, vec![]);
    true
}
