//! Small inputs that decide shapes, such as axes, sizes and the k of a selection: tract wants them constant, so each set of
//! their values gets a plan of its own.

use std::collections::{HashMap, HashSet};

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{GraphProto, NodeProto, ValueInfoProto};

/// The most elements that such an input may have.
pub(crate) const MOST_ELEMENTS: usize = 64;

/// Element types of such inputs.
const NUMBERS: [DataType; 7] = [
    DataType::Int64,
    DataType::Int32,
    DataType::Int16,
    DataType::Int8,
    DataType::Uint16,
    DataType::Uint8,
    DataType::Float,
];

/// The inputs of a model's graph that a plan takes as constants.
pub(crate) fn steering(graph: &GraphProto) -> HashSet<&str> {
    let small: HashSet<&str> =
        graph.input.iter().filter(|input| is_small(input)).map(|input| input.name.as_str()).collect();
    if small.is_empty() {
        return small;
    }
    // A choice by fractions would be another plan for each of them; branches may differ by a rate or a mode.
    let is_whole = |input: &&ValueInfoProto| is_small(input) && !is_fraction(input);
    let whole: HashSet<&str> = graph.input.iter().filter(is_whole).map(|input| input.name.as_str()).collect();
    let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let mut found = HashSet::new();
    for node in &graph.node {
        for operand in deciding(node).iter().filter_map(|index| node.input.get(*index)) {
            let sources = sources(operand, &makers, &inputs);
            // What follows from data, too, is no constant.
            let known = if node.op_type == "If" { &whole } else { &small };
            if sources.iter().all(|name| known.contains(name)) {
                found.extend(sources);
            }
        }
    }
    found
}

/// The inputs that a value follows from, other than by their shapes.
fn sources<'a>(name: &'a str, makers: &HashMap<&'a str, &'a NodeProto>, inputs: &HashSet<&'a str>) -> HashSet<&'a str> {
    let (mut seen, mut found, mut open) = (HashSet::new(), HashSet::new(), vec![name]);
    while let Some(name) = open.pop() {
        if !seen.insert(name) {
            continue;
        }
        if inputs.contains(name) {
            found.insert(name);
        }
        let maker = makers.get(name).filter(|maker| !matches!(maker.op_type.as_str(), "Shape" | "Size"));
        open.extend(maker.iter().flat_map(|maker| &maker.input).map(String::as_str));
    }
    found
}

/// The operands that tract needs to know when it makes a plan.
fn deciding(node: &NodeProto) -> &'static [usize] {
    if !is_standard(&node.domain) {
        return &[];
    }
    match node.op_type.as_str() {
        "ConstantOfShape" | "HannWindow" | "HammingWindow" | "BlackmanWindow" => &[0],
        "CumSum" | "Expand" | "Reshape" | "Split" | "Squeeze" | "Tile" | "TopK" | "Unsqueeze" => &[1],
        "Slice" => &[1, 2, 3, 4],
        "If" => &[0],
        "Pad" | "STFT" => &[1, 2, 3],
        "Resize" => &[2, 3],
        "Range" => &[0, 1, 2],
        // A scale that a request brings to QuantizeLinear stays refused: tract multiplies by its inverse, which rounds otherwise.
        // So does the depth of OneHot: tract panics on indices beyond it.
        "DFT" | "DequantizeLinear" => &[1, 2],
        operator if operator.starts_with("Reduce") => &[1],
        _ => &[],
    }
}

fn tensor_type(input: &ValueInfoProto) -> Option<&TensorType> {
    let TypeValue::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

fn is_fraction(input: &ValueInfoProto) -> bool {
    tensor_type(input).is_some_and(|tensor| tensor.elem_type == DataType::Float as i32)
}

/// Whether it is a number or a short list of numbers.
fn is_small(input: &ValueInfoProto) -> bool {
    let Some(tensor) = tensor_type(input) else { return false };
    let Some(shape) = &tensor.shape else { return false };
    let sizes = shape.dim.iter().map(|dim| match dim.value {
        Some(DimValue::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    });
    let number = NUMBERS.iter().any(|dtype| *dtype as i32 == tensor.elem_type);
    number && shape.dim.len() <= 1 && sizes.flatten().all(|size| size <= MOST_ELEMENTS)
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::tensor_shape_proto::Dimension;
    use tract_onnx::pb::type_proto::Tensor;
    use tract_onnx::pb::{TensorShapeProto, TypeProto};

    use super::*;
    use crate::proto::plain_node as node;

    fn input(name: &str, dims: &[i64]) -> ValueInfoProto {
        let dim = dims
            .iter()
            .map(|&size| Dimension { value: Some(DimValue::DimValue(size)), ..Dimension::default() })
            .collect();
        let tensor = Tensor { elem_type: DataType::Int64 as i32, shape: Some(TensorShapeProto { dim }) };
        let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
    }

    #[test]
    fn what_follows_from_data_is_no_constant() {
        let graph = GraphProto {
            input: vec![input("x", &[3, 4]), input("axes", &[1]), input("k", &[1]), input("n", &[1]), input("y", &[1])],
            node: vec![
                node("ReduceSum", &["x", "axes"], "sum"),
                node("Mul", &["k", "k"], "twice"),
                node("TopK", &["x", "twice"], "top"),
                node("NonZero", &["x"], "places"),
                node("Add", &["places", "n"], "mixed"),
                node("Tile", &["x", "mixed"], "tiled"),
                node("Add", &["x", "y"], "plain"),
            ],
            ..GraphProto::default()
        };
        let mut found: Vec<&str> = steering(&graph).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, ["axes", "k"]);
    }
}
