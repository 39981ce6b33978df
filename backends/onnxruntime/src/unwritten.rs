//! Kernels that make a tensor and leave some of it unwritten where an operand has no elements: `Concat` counts along an axis what
//! holds nothing, products of integers add up none. What is answered would be what others have left in that memory.
//!
//! So the memory of a run is zeroed: of one that is given a tensor without elements, and of each run of a model in which the numbers
//! of a request may make such a tensor.

use std::collections::HashSet;

use corymb_onnx::proto::{GraphProto, ModelProto, NodeProto};
use corymb_onnx::subgraphs;

/// Found by comparing what they answer with what a memory of zeros gives.
const UNWRITTEN: [&str; 9] = [
    "Concat",
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearConcat",
    "QLinearConv",
    "QLinearMatMul",
];

/// Whether numbers of a request may empty a tensor of a model with such kernels.
pub(crate) fn may_be(model: &ModelProto) -> bool {
    let functions = model.functions.iter().flat_map(|function| &function.node);
    let nodes = model.graph.iter().flat_map(|graph| &graph.node).chain(functions.clone());
    if !nodes.clone().any(leaves_some) {
        return false;
    }
    // Of what is given to a function nothing is known.
    functions.clone().any(|node| is_emptying(node, &|_| true))
        || model.graph.as_ref().is_some_and(|graph| empties(graph, &HashSet::new()))
}

fn leaves_some(node: &NodeProto) -> bool {
    UNWRITTEN.contains(&node.op_type.as_str()) || subgraphs(node).any(|body| body.node.iter().any(leaves_some))
}

/// Whether a node of the graph may make a tensor without elements by the numbers of a request. `outer` are the values of the graphs
/// around it that hold such numbers.
fn empties<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>) -> bool {
    let stored: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut given = outer.clone();
    given.extend(graph.input.iter().map(|input| input.name.as_str()).filter(|name| !stored.contains(name)));
    graph.node.iter().any(|node| {
        let found =
            is_emptying(node, &|name| given.contains(name)) || subgraphs(node).any(|body| empties(body, &given));
        // Sizes are not numbers of the request.
        let tells_sizes = matches!(node.op_type.as_str(), "Shape" | "Size");
        let depends = subgraphs(node).next().is_some() || node.input.iter().any(|name| given.contains(name.as_str()));
        if depends && !tells_sizes {
            given.extend(node.output.iter().map(String::as_str));
        }
        found
    })
}

/// Whether it makes as many elements as the numbers of an operand say, and these are `given`.
fn is_emptying(node: &NodeProto, given: &dyn Fn(&str) -> bool) -> bool {
    let places: &[usize] = match node.op_type.as_str() {
        "NonZero" | "Unique" | "ConstantOfShape" | "Loop" | "StringSplit" => &[0],
        "Compress" | "Tile" | "Expand" | "Pad" | "TopK" | "CenterCropPad" | "Reshape" | "Split" | "Upsample" => &[1],
        "NonMaxSuppression" => &[0, 1, 2, 3, 4],
        "Range" => &[0, 1, 2],
        "Resize" => &[2, 3],
        "Slice" => &[1, 2, 3, 4],
        _ => &[],
    };
    places.iter().filter_map(|place| node.input.get(*place)).any(|name| !name.is_empty() && given(name))
}

#[cfg(test)]
mod tests {
    use corymb_onnx::proto::{TensorProto, ValueInfoProto};

    use super::*;

    fn model(nodes: &[(&str, &[&str], &str)]) -> ModelProto {
        let value = |name: &str| ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() };
        let node = |(operator, inputs, output): &(&str, &[&str], &str)| NodeProto {
            op_type: (*operator).to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![(*output).to_owned()],
            ..NodeProto::default()
        };
        let graph = GraphProto {
            input: vec![value("x"), value("z")],
            initializer: vec![TensorProto { name: "w".to_owned(), ..TensorProto::default() }],
            node: nodes.iter().map(node).collect(),
            ..GraphProto::default()
        };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn only_numbers_of_a_request_empty_what_holds_elements() {
        let joined: (&str, &[&str], &str) = ("Concat", &["a", "x"], "y");
        for (nodes, expected) in [
            (vec![("NonZero", &["x"][..], "a"), joined], true),
            (vec![("NonZero", &["x"], "a"), ("Relu", &["a"], "y")], false),
            (vec![("Slice", &["x", "w", "w"], "a"), joined], false),
            (vec![("Slice", &["x", "w", "z"], "a"), joined], true),
            (vec![("Shape", &["x"], "s"), ("Slice", &["x", "w", "s"], "a"), joined], false),
            (vec![("ReduceMax", &["x"], "s"), ("Expand", &["w", "s"], "a"), joined], true),
            (vec![("NonZero", &["x"], "a"), ("MatMulInteger", &["a", "w"], "y")], true),
        ] {
            assert_eq!(may_be(&model(&nodes)), expected, "{nodes:?}");
        }
    }
}
