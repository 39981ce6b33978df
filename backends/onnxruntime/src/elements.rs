//! Guards operators whose kernels end the process, or never return, when they are given a tensor without elements: sizes may
//! become 0 inside a graph that was given none.
//!
//! In front of such an operand stand nodes that pass it on, with its own shape, and divide the least of its sizes by itself: by
//! 0 that is an error of the request, and no more. Where nothing can make a size 0 that was none, the look at a request's
//! own tensors is enough (`deadly_without_elements`).

use std::collections::HashSet;

use corymb_onnx::proto::attribute_proto::AttributeType;
use corymb_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};
use corymb_onnx::{is_standard, needs_elements, subgraphs_mut};

/// Since this operator set, arithmetic broadcasts.
const BROADCASTS_SINCE: i64 = 7;
/// What the names of the dividing nodes begin with; the name and the operator of the node that they guard follow.
const NAME: &str = "corymb.elements/";

/// And what comes behind them, with a number.
const END: &str = ")#";

/// Operators that make tensors with elements of tensors with elements.
#[rustfmt::skip]
const KEEPING: [&str; 76] = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "BitShift", "Cast", "CastLike",
    "Ceil", "Clip", "Concat", "Constant", "Cos", "Cosh", "DequantizeLinear", "Div", "Dropout", "DynamicQuantizeLinear", "Elu",
    "Equal", "Erf", "Exp", "Flatten", "Floor", "GRU", "Gather", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LSTM", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "MatMul", "MatMulInteger", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow",
    "QuantizeLinear", "RNN", "Reciprocal", "Relu", "Reshape", "Round", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Squeeze", "Sub",
    "Sum", "Tanh", "Transpose", "Unsqueeze", "Where",
];

/// Puts guards where a size may become 0 inside the model; says how many.
pub(crate) fn guard(model: &mut ModelProto) -> usize {
    let opset = model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version);
    if opset < BROADCASTS_SINCE {
        return 0;
    }
    let mut guarded = 0;
    if let Some(graph) = &mut model.graph {
        guard_graph(graph, &HashSet::new(), true, &mut guarded);
    }
    guarded
}

/// The node that an error of a guard is about, as `'name' (Operator)`; `message` is the library's.
pub(crate) fn blamed(message: &str) -> Option<&str> {
    let rest = message.split_once(NAME)?.1;
    Some(&rest[..=rest.find(END)?])
}

/// `outer` are values of the graphs around this one that hold elements. Of the whole graph the inputs do, since the
/// request was looked at; of a body nobody knows.
fn guard_graph(graph: &mut GraphProto, outer: &HashSet<String>, is_whole: bool, guarded: &mut usize) {
    let mut holding = outer.clone();
    let stored = graph.initializer.iter().filter(|tensor| tensor.dims.iter().all(|dim| *dim > 0));
    holding.extend(stored.map(|tensor| tensor.name.clone()));
    if is_whole {
        holding.extend(graph.input.iter().map(|input| input.name.clone()));
    }
    for mut node in std::mem::take(&mut graph.node) {
        for body in subgraphs_mut(&mut node) {
            guard_graph(body, &holding, false, guarded);
        }
        let places = needs_elements(&node);
        for place in places {
            let Some(operand) = node.input.get(place).filter(|name| !name.is_empty() && !holding.contains(*name))
            else {
                continue;
            };
            *guarded += 1;
            let passed = format!("{NAME}{guarded}/passed");
            graph.node.extend(guards(&node, operand, *guarded, &passed));
            node.input[place] = passed;
        }
        let keeps = is_standard(&node.domain) && KEEPING.contains(&node.op_type.as_str());
        if keeps && node.input.iter().all(|name| name.is_empty() || holding.contains(name)) {
            let stored_empty = node.attribute.iter().filter_map(|attribute| attribute.t.as_ref());
            if !stored_empty.into_iter().any(|tensor| tensor.dims.contains(&0)) {
                holding.extend(node.output.iter().cloned());
            }
        }
        graph.node.push(node);
    }
}

/// `operand` as `passed`, if it holds elements.
fn guards(node: &NodeProto, operand: &str, number: usize, passed: &str) -> Vec<NodeProto> {
    let own = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let own = own.map(String::as_str).unwrap_or_default();
    let part = |part: &str| format!("{NAME}{number}/{part}");
    let (shape, least, one, nothing, same) = (part("shape"), part("least"), part("one"), part("nothing"), part("same"));
    let divide = NodeProto {
        name: format!("{NAME}'{own}' ({}{END}{number}", node.op_type),
        ..new("Div", &[&least, &least], &one)
    };
    let scalar = AttributeProto {
        name: "keepdims".to_owned(),
        r#type: AttributeType::Int as i32,
        i: Some(0),
        ..AttributeProto::default()
    };
    vec![
        new("Shape", &[operand], &shape),
        NodeProto { attribute: vec![scalar], ..new("ReduceMin", &[&shape], &least) },
        divide,
        new("Sub", &[&one, &one], &nothing),
        new("Add", &[&shape, &nothing], &same),
        new("Reshape", &[operand, &same], passed),
    ]
}

fn new(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: operator.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

#[cfg(test)]
mod tests {
    use corymb_onnx::proto::{OperatorSetIdProto, ValueInfoProto};

    use super::*;

    fn model(nodes: Vec<NodeProto>) -> ModelProto {
        let input = ValueInfoProto { name: "x".to_owned(), ..ValueInfoProto::default() };
        let graph = GraphProto { input: vec![input], node: nodes, ..GraphProto::default() };
        let opset_import = vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }];
        ModelProto { opset_import, graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn only_what_may_lose_its_elements_is_guarded() {
        let mut kept = model(vec![new("Transpose", &["x"], "turned"), new("GRU", &["turned", "x", "x"], "y")]);
        assert_eq!(guard(&mut kept), 0);
        let mut counted = model(vec![new("NonZero", &["x"], "places"), new("GRU", &["places", "x", "x"], "y")]);
        assert_eq!(guard(&mut counted), 1);
        let nodes = counted.graph.expect("a graph").node;
        let operators: Vec<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["NonZero", "Shape", "ReduceMin", "Div", "Sub", "Add", "Reshape", "GRU"]);
        assert_eq!(nodes[7].input[0], nodes[6].output[0]);
        let said = format!("Non-zero status code returned while running Div node. Name:'{}' Status", nodes[3].name);
        assert_eq!(blamed(&said), Some("'y' (GRU)"));
    }
}
