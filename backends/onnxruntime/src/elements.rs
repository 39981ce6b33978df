//! Guards operators whose kernels end the process, or never return, when they are given a tensor without elements: sizes may
//! become 0 inside a graph that was given none.
//!
//! In front of such an operand stand nodes that pass it on, with its own shape, and divide the least of its sizes by itself: by
//! 0 that is an error of the request, and no more. Where nothing can make a size 0 that was none, the look at a request's
//! own tensors is enough. The operators come from a search, `tests/operators/kill.py`.

use std::collections::HashSet;

use corymb_onnx::proto::attribute_proto::AttributeType;
use corymb_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};
use corymb_onnx::{is_standard, subgraphs, subgraphs_mut};

/// Since this operator set, arithmetic broadcasts.
const BROADCASTS_SINCE: i64 = 7;
/// What the names of the dividing nodes begin with; the name and the operator of the node that they guard follow.
const NAME: &str = "corymb.elements/";

/// And what comes behind them, with a number.
const END: &str = ")#";

/// Operators whose kernels end the process, or never return, when a size is 0.
#[rustfmt::skip]
const DEADLY: [&str; 17] = [
    "Conv", "ConvTranspose", "DynamicQuantizeLSTM", "Einsum", "FusedConv", "GRU", "InstanceNormalization", "Inverse", "LSTM",
    "MultiHeadAttention", "QAttention", "RNN", "RotaryEmbedding", "STFT", "Scan", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// The places of the operands that a node must not be given without elements.
fn needs_elements(node: &NodeProto) -> Vec<usize> {
    let has = |name: &str| node.attribute.iter().any(|attribute| attribute.name == name);
    match node.op_type.as_str() {
        // A kernel without a size fits infinitely often.
        "Conv" | "FusedConv" => vec![1],
        "ConvTranspose" => vec![0, 1],
        // A number has an element always, and no sizes.
        "Einsum" => {
            let equation = node.attribute.iter().find(|attribute| attribute.name == "equation");
            let text = equation.and_then(|found| std::str::from_utf8(found.s.as_ref()?).ok()).unwrap_or_default();
            let terms = text.split("->").next().unwrap_or_default().split(',');
            terms.enumerate().filter(|(_, term)| !term.trim().is_empty()).map(|(place, _)| place).collect()
        }
        "STFT" => vec![2],
        "MultiHeadAttention" | "RotaryEmbedding" => (0..node.input.len().min(3)).collect(),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => vec![0, 1],
        // Only what is turned divides by sizes.
        "Scan" if has("scan_input_axes") || has("scan_output_axes") => (0..node.input.len()).collect(),
        "Scan" => Vec::new(),
        operator if DEADLY.contains(&operator) => vec![0],
        _ => Vec::new(),
    }
}

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

/// The places of the operands of which a number may end the process: a frame of no length.
fn needs_other_numbers(node: &NodeProto) -> Option<usize> {
    (node.op_type == "STFT").then_some(3)
}

/// What came of looking for operands that need elements.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many operands are guarded.
    pub(crate) guarded: usize,
    /// The first node, as `'name' (Operator)`, that must not be given a request's tensors without elements.
    pub(crate) deadly: Option<String>,
    /// The first node that cannot be guarded: of an old operator set, inside a function, or for what its operand holds.
    pub(crate) left: Option<String>,
}

/// Puts guards where a size may become 0 inside the model.
pub(crate) fn guard(model: &mut ModelProto) -> Outcome {
    let opset = model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version);
    let mut guard = Guard { can: opset >= BROADCASTS_SINCE, outcome: Outcome::default() };
    if let Some(graph) = &mut model.graph {
        guard.graph(graph, &Known::default(), true);
    }
    let mut outcome = guard.outcome;
    if let Some(inside) = in_functions(model) {
        outcome.deadly.get_or_insert_with(|| inside.clone());
        outcome.left.get_or_insert(inside);
    }
    outcome
}

/// The first node inside the model's functions that must not be given tensors without elements.
pub(crate) fn in_functions(model: &ModelProto) -> Option<String> {
    fn first<'a>(nodes: impl IntoIterator<Item = &'a NodeProto>) -> Option<String> {
        nodes.into_iter().find_map(|node| {
            if !needs_elements(node).is_empty() {
                return Some(called(node));
            }
            subgraphs(node).find_map(|body| first(&body.node))
        })
    }
    first(model.functions.iter().flat_map(|function| &function.node))
}

/// The node, as `'name' (Operator)`.
fn called(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    format!("'{}' ({})", name.map(String::as_str).unwrap_or_default(), node.op_type)
}

/// The node that an error of a guard is about, as `'name' (Operator)`; `message` is the library's.
pub(crate) fn blamed(message: &str) -> Option<&str> {
    let rest = message.split_once(NAME)?.1;
    Some(&rest[..=rest.find(END)?])
}

/// Values that hold elements.
#[derive(Clone, Default)]
struct Known {
    /// Where the request's own tensors do.
    holding: HashSet<String>,
    /// Always.
    fixed: HashSet<String>,
}

impl Known {
    fn note(&mut self, node: &NodeProto) {
        let given = node.attribute.iter();
        let mut stored_empty = given.filter(|attribute| match AttributeType::try_from(attribute.r#type) {
            Ok(AttributeType::Tensor) => attribute.t.as_ref().is_some_and(|tensor| tensor.dims.contains(&0)),
            Ok(AttributeType::Ints) => attribute.ints.is_empty(),
            Ok(AttributeType::Floats) => attribute.floats.is_empty(),
            Ok(AttributeType::Strings) => attribute.strings.is_empty(),
            _ => false,
        });
        let keeps = is_standard(&node.domain) && KEEPING.contains(&node.op_type.as_str());
        if !keeps || (node.op_type == "Constant" && stored_empty.next().is_some()) {
            return;
        }
        for set in [&mut self.holding, &mut self.fixed] {
            if node.input.iter().all(|name| name.is_empty() || set.contains(name)) {
                set.extend(node.output.iter().cloned());
            }
        }
    }
}

struct Guard {
    /// Whether the operator set has what guards are made of.
    can: bool,
    outcome: Outcome,
}

impl Guard {
    /// `outer` is known of values of the graphs around this one. Of the whole graph the inputs hold elements, since the
    /// request was looked at; of a body nobody knows.
    fn graph(&mut self, graph: &mut GraphProto, outer: &Known, is_whole: bool) {
        let mut known = outer.clone();
        for tensor in graph.initializer.iter().filter(|tensor| tensor.dims.iter().all(|dim| *dim > 0)) {
            known.holding.insert(tensor.name.clone());
            // One that is an input, too, is a default that a request may replace.
            if !graph.input.iter().any(|input| input.name == tensor.name) {
                known.fixed.insert(tensor.name.clone());
            }
        }
        if is_whole {
            known.holding.extend(graph.input.iter().map(|input| input.name.clone()));
        }
        for mut node in std::mem::take(&mut graph.node) {
            for body in subgraphs_mut(&mut node) {
                self.graph(body, &known, false);
            }
            self.operands(graph, &mut node, &known);
            known.note(&node);
            graph.node.push(node);
        }
    }

    /// Guards what the node must not be given without elements.
    fn operands(&mut self, graph: &mut GraphProto, node: &mut NodeProto, known: &Known) {
        let Outcome { guarded, deadly, left } = &mut self.outcome;
        let unknown = |name: &String| !name.is_empty() && !known.fixed.contains(name);
        if needs_other_numbers(node).and_then(|place| node.input.get(place)).is_some_and(unknown) {
            left.get_or_insert_with(|| called(node));
        }
        for place in needs_elements(node) {
            let given = node.input.get(place).filter(|name| unknown(name));
            let Some(operand) = given else { continue };
            deadly.get_or_insert_with(|| called(node));
            if known.holding.contains(operand) {
                continue;
            }
            if !self.can {
                left.get_or_insert_with(|| called(node));
                continue;
            }
            *guarded += 1;
            let passed = format!("{NAME}{guarded}/passed");
            graph.node.extend(guards(node, operand, *guarded, &passed));
            node.input[place] = passed;
        }
    }
}

/// `operand` as `passed`, if it holds elements.
fn guards(node: &NodeProto, operand: &str, number: usize, passed: &str) -> Vec<NodeProto> {
    let part = |part: &str| format!("{NAME}{number}/{part}");
    let (shape, least, one, nothing, same) = (part("shape"), part("least"), part("one"), part("nothing"), part("same"));
    let divide = NodeProto { name: format!("{NAME}{}#{number}", called(node)), ..new("Div", &[&least, &least], &one) };
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
    use corymb_onnx::proto::{FunctionProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

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
        let outcome = guard(&mut kept);
        assert_eq!((outcome.guarded, outcome.deadly.as_deref(), outcome.left), (0, Some("'y' (GRU)"), None));
        let mut counted = model(vec![new("NonZero", &["x"], "places"), new("GRU", &["places", "x", "x"], "y")]);
        assert_eq!(guard(&mut counted).guarded, 1);
        let nodes = counted.graph.expect("a graph").node;
        let operators: Vec<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["NonZero", "Shape", "ReduceMin", "Div", "Sub", "Add", "Reshape", "GRU"]);
        assert_eq!(nodes[7].input[0], nodes[6].output[0]);
        let said = format!("Non-zero status code returned while running Div node. Name:'{}' Status", nodes[3].name);
        assert_eq!(blamed(&said), Some("'y' (GRU)"));
    }

    /// With weights that are stored under `w`.
    fn with_weights(nodes: Vec<NodeProto>, dims: &[i64]) -> ModelProto {
        let mut model = model(nodes);
        let weights = TensorProto { name: "w".to_owned(), dims: dims.to_vec(), ..TensorProto::default() };
        model.graph.as_mut().expect("a graph").initializer.push(weights);
        model
    }

    #[test]
    fn what_is_always_there_needs_nothing_of_a_request() {
        let convolution = || new("Conv", &["x", "kernel"], "y");
        let scaled = || vec![new("DequantizeLinear", &["w", "w"], "kernel"), convolution()];
        let outcome = guard(&mut with_weights(scaled(), &[1, 1, 3, 3]));
        assert_eq!((outcome.guarded, outcome.deadly, outcome.left), (0, None, None));
        let outcome = guard(&mut with_weights(scaled(), &[1, 1, 0, 0]));
        assert_eq!((outcome.guarded, outcome.deadly.as_deref()), (1, Some("'y' (Conv)")));
        let given = vec![new("Identity", &["x"], "kernel"), convolution()];
        let outcome = guard(&mut model(given));
        assert_eq!((outcome.guarded, outcome.deadly.as_deref(), outcome.left), (0, Some("'y' (Conv)"), None));
        // A default is what a request may replace.
        let mut replaced = with_weights(vec![new("Conv", &["x", "w"], "y")], &[1, 1, 3, 3]);
        let input = ValueInfoProto { name: "w".to_owned(), ..ValueInfoProto::default() };
        replaced.graph.as_mut().expect("a graph").input.push(input);
        assert_eq!(guard(&mut replaced).deadly.as_deref(), Some("'y' (Conv)"));
    }

    #[test]
    fn what_cannot_be_guarded_is_left() {
        let counted = || vec![new("NonZero", &["x"], "places"), new("GRU", &["places", "x", "x"], "y")];
        let mut old = model(counted());
        old.opset_import[0].version = BROADCASTS_SINCE - 1;
        assert_eq!(guard(&mut old).left.as_deref(), Some("'y' (GRU)"));
        let mut inside = model(vec![new("Own", &["x"], "y")]);
        inside.functions.push(FunctionProto { node: counted(), ..FunctionProto::default() });
        assert_eq!(guard(&mut inside).left.as_deref(), Some("'y' (GRU)"));
        let frames = |length: &str| vec![new("STFT", &["x", "w", "w", length], "y")];
        assert_eq!(guard(&mut with_weights(frames("w"), &[1])).left, None);
        assert_eq!(guard(&mut with_weights(frames("x"), &[1])).left.as_deref(), Some("'y' (STFT)"));
    }
}
