//! Element types of a graph's values, as far as they follow from what the file says.

use std::collections::HashMap;

use corymb_onnx::proto::type_proto::Value as TypeValue;
use corymb_onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, ValueInfoProto, elem};
use corymb_onnx::{is_standard, subgraphs};

/// Element types by the names of values. A name has one meaning in a graph and all graphs inside it.
pub(crate) type Types = HashMap<String, i32>;

/// How deep functions may call functions.
const MAX_CALLS: usize = 16;

/// Functions that the file defines, by domain and name.
pub(crate) type Functions<'a> = HashMap<(&'a str, &'a str), &'a FunctionProto>;

/// The element type that a declaration gives.
pub(crate) fn declared(value: &ValueInfoProto) -> Option<i32> {
    match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::TensorType(tensor) => Some(tensor.elem_type).filter(|&known| known != 0),
        _ => None,
    }
}

/// Adds what follows from `graph` to `types`.
pub(crate) fn of_graph(graph: &GraphProto, functions: &Functions<'_>, types: &mut Types) {
    for value in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
        types.extend(declared(value).map(|known| (value.name.clone(), known)));
    }
    for tensor in &graph.initializer {
        types.insert(tensor.name.clone(), tensor.data_type);
    }
    of_nodes(&graph.node, functions, types, 0);
}

/// Adds what follows from `nodes`, in their order, to `types`.
pub(crate) fn of_nodes(nodes: &[NodeProto], functions: &Functions<'_>, types: &mut Types, depth: usize) {
    for node in nodes {
        for graph in subgraphs(node) {
            of_graph(graph, functions, types);
        }
        let made = match functions.get(&(node.domain.as_str(), node.op_type.as_str())) {
            Some(function) if depth < MAX_CALLS => of_call(node, function, functions, types, depth),
            Some(_) => Vec::new(),
            None => of_operator(node, types),
        };
        for (name, known) in node.output.iter().zip(made) {
            if let (false, Some(known)) = (name.is_empty(), known) {
                // What the file declares is kept: the engine compares both when it loads.
                types.entry(name.clone()).or_insert(known);
            }
        }
    }
}

/// The types inside a function, called with the types that `node` gives it.
pub(crate) fn inside(node: &NodeProto, function: &FunctionProto, types: &Types) -> Types {
    let given = function.input.iter().zip(&node.input);
    given.filter_map(|(name, outer)| Some((name.clone(), *types.get(outer)?))).collect()
}

fn of_call(
    node: &NodeProto,
    function: &FunctionProto,
    functions: &Functions<'_>,
    types: &Types,
    depth: usize,
) -> Vec<Option<i32>> {
    let mut inner = inside(node, function, types);
    of_nodes(&function.node, functions, &mut inner, depth + 1);
    function.output.iter().map(|name| inner.get(name).copied()).collect()
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn integer_attribute(node: &NodeProto, name: &str) -> Option<i32> {
    attribute(node, name)?.i.and_then(|value| i32::try_from(value).ok()).filter(|&value| value != 0)
}

/// The types of an operator's outputs, where they follow from its attributes and the types of its inputs.
fn of_operator(node: &NodeProto, types: &Types) -> Vec<Option<i32>> {
    let input = |index: usize| node.input.get(index).and_then(|name| types.get(name)).copied();
    if node.domain == "ai.onnx.ml" {
        return of_ml_operator(node, types);
    }
    if !is_standard(&node.domain) {
        return Vec::new();
    }
    match node.op_type.as_str() {
        "Cast" | "BitCast" => vec![integer_attribute(node, "to")],
        "CastLike" => vec![input(1)],
        "Constant" => vec![constant(node)],
        "ConstantOfShape" => {
            let value = attribute(node, "value").and_then(|attribute| attribute.t.as_ref());
            vec![Some(value.map_or(elem::FLOAT, |value| value.data_type))]
        }
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression" | "SequenceLength" => {
            vec![Some(elem::INT64)]
        }
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN"
        | "IsInf" | "RegexFullMatch" | "OptionalHasElement" => vec![Some(elem::BOOL)],
        "Where" => vec![input(1).or_else(|| input(2))],
        "OneHot" => vec![input(2)],
        "TopK" | "MaxPool" => vec![input(0), Some(elem::INT64)],
        "Unique" => vec![input(0), Some(elem::INT64), Some(elem::INT64), Some(elem::INT64)],
        "Dropout" => vec![input(0), Some(elem::BOOL)],
        "DequantizeLinear" => vec![input(1)],
        "QuantizeLinear" => {
            vec![input(2).or_else(|| integer_attribute(node, "output_dtype")).or(Some(elem::UINT8))]
        }
        "DynamicQuantizeLinear" => vec![Some(elem::UINT8), Some(elem::FLOAT), Some(elem::UINT8)],
        "QLinearConv" | "QLinearMatMul" => vec![input(7)],
        "MatMulInteger" | "ConvInteger" => vec![Some(elem::INT32)],
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => {
            vec![integer_attribute(node, "dtype").or_else(|| input(0))]
        }
        "RandomNormal" | "RandomUniform" | "BlackmanWindow" | "HammingWindow" | "HannWindow" => {
            vec![
                integer_attribute(node, "dtype")
                    .or_else(|| integer_attribute(node, "output_datatype"))
                    .or(Some(elem::FLOAT)),
            ]
        }
        "Multinomial" => vec![integer_attribute(node, "dtype").or(Some(elem::INT32))],
        "If" => of_branches(node, types),
        // The body gives the condition first, which is no output.
        "Loop" => of_body(node, types, 1),
        "Scan" => of_body(node, types, 0),
        "SequenceAt" | "ConcatFromSequence" | "SplitToSequence" | "SequenceConstruct" | "SequenceInsert"
        | "SequenceErase" | "SequenceEmpty" | "SequenceMap" | "Optional" | "OptionalGetElement" | "StringSplit"
        | "ImageDecoder" | "MelWeightMatrix" | "TfIdfVectorizer" | "Attention" | "DFT" | "STFT" => Vec::new(),
        // Every other operator answers in the type of its first input.
        _ => node.output.iter().map(|_| input(0)).collect(),
    }
}

fn of_ml_operator(node: &NodeProto, types: &Types) -> Vec<Option<i32>> {
    let input = || node.input.first().and_then(|name| types.get(name)).copied();
    match node.op_type.as_str() {
        "Scaler"
        | "Normalizer"
        | "LinearRegressor"
        | "SVMRegressor"
        | "TreeEnsembleRegressor"
        | "OneHotEncoder"
        | "FeatureVectorizer" => vec![Some(elem::FLOAT)],
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => {
            let has_texts = node.attribute.iter().any(|found| !found.strings.is_empty());
            vec![Some(if has_texts { elem::STRING } else { elem::INT64 }), Some(elem::FLOAT)]
        }
        "ArrayFeatureExtractor" | "Binarizer" | "Imputer" | "TreeEnsemble" => vec![input()],
        _ => Vec::new(),
    }
}

fn of_branches(node: &NodeProto, types: &Types) -> Vec<Option<i32>> {
    let branches: Vec<&GraphProto> = subgraphs(node).collect();
    let count = branches.first().map_or(0, |branch| branch.output.len());
    let of_output =
        |index: usize| branches.iter().find_map(|branch| types.get(&branch.output.get(index)?.name).copied());
    (0..count).map(of_output).collect()
}

fn of_body(node: &NodeProto, types: &Types, skipped: usize) -> Vec<Option<i32>> {
    let body = subgraphs(node).next();
    let outputs = body.map(|body| body.output.as_slice()).unwrap_or_default();
    outputs.iter().skip(skipped).map(|output| types.get(&output.name).copied()).collect()
}

fn constant(node: &NodeProto) -> Option<i32> {
    let value = node.attribute.first()?;
    Some(match value.name.as_str() {
        "value" => value.t.as_ref()?.data_type,
        "value_float" | "value_floats" => elem::FLOAT,
        "value_int" | "value_ints" => elem::INT64,
        "value_string" | "value_strings" => elem::STRING,
        _ => return None,
    })
}
