//! Guards operators whose kernels end the process, or never return, when they are given a tensor without elements, or of another
//! number of dimensions than they take for granted: a graph may make either of tensors that have neither.
//!
//! In front of such an operand stand nodes that pass it on, with its own shape, and divide the least of its sizes by itself, bring
//! its shape to the length that is expected, or look at the last size that is: where that cannot be done it is an error of the
//! request, and no more. Where nothing can make a size 0 that was none, the look at a request's own tensors is enough. The
//! operators come from a search, `tests/operators/kill.py`; those that it was not about are taken for dangerous.

use std::collections::HashSet;

use corymb_onnx::proto::attribute_proto::AttributeType;
use corymb_onnx::proto::tensor_proto::DataType;
use corymb_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use corymb_onnx::{is_standard, subgraphs, subgraphs_mut};

use crate::ranks::Ranks;
use crate::searched;

/// Since this operator set, arithmetic broadcasts.
const BROADCASTS_SINCE: i64 = 7;
/// What the names of the dividing nodes begin with; the name and the operator of the node that they guard follow.
const NAME: &str = "corymb.elements/";

/// And what comes behind them, with a number, and then what is looked at.
const END: &str = ")#";
const OF_ELEMENTS: &str = "elements";
const OF_RANK: &str = "rank";

/// Operators whose kernels end the process, or never return, when an operand is not as they take for granted.
#[rustfmt::skip]
const DEADLY: [&str; 35] = [
    "Attention", "Conv", "ConvTranspose", "ConcatFromSequence", "DFT", "DecoderMaskedMultiHeadAttention", "Dropout",
    "DynamicQuantizeLSTM", "Einsum", "FeatureVectorizer", "FusedConv", "GRU", "InstanceNormalization", "Inverse", "LSTM",
    "MaxRoiPool", "MultiHeadAttention", "Multinomial", "NonMaxSuppression", "QAttention", "QLinearConcat", "QLinearWhere", "RNN",
    "Resize", "ReverseSequence", "RoiAlign", "RotaryEmbedding", "STFT", "Scan", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "Unique", "WordConvEmbedding",
];

/// What a kernel takes for granted of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// That it holds elements.
    Elements,
    /// That it has so many dimensions.
    Rank(usize),
    /// That it has so many or more.
    RankFrom(usize),
    /// What no node of the graph can look at.
    More,
}

/// The places of the operands of which something is taken for granted.
fn needs(node: &NodeProto) -> Vec<(usize, Need)> {
    use Need::{Elements, More, Rank, RankFrom};
    let has = |name: &str| node.attribute.iter().any(|attribute| attribute.name == name);
    let elements = |places: &[usize]| places.iter().map(|place| (*place, Elements)).collect();
    let all = 0..node.input.len();
    match node.op_type.as_str() {
        // A kernel without a size fits infinitely often.
        "Conv" | "FusedConv" => elements(&[1]),
        "ConvTranspose" | "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => elements(&[0, 1]),
        // A number has an element always, and no sizes.
        "Einsum" => {
            let equation = node.attribute.iter().find(|attribute| attribute.name == "equation");
            let text = equation.and_then(|found| std::str::from_utf8(found.s.as_ref()?).ok()).unwrap_or_default();
            let terms = text.split("->").next().unwrap_or_default().split(',');
            let terms = terms.enumerate().filter(|(_, term)| !term.trim().is_empty());
            terms.map(|(place, _)| (place, Elements)).collect()
        }
        "DFT" => vec![(0, RankFrom(2)), (1, Elements), (2, Elements)],
        "STFT" => vec![(0, RankFrom(2)), (2, Elements)],
        "MultiHeadAttention" | "RotaryEmbedding" => all.take(3).map(|place| (place, Elements)).collect(),
        "Attention" if is_standard(&node.domain) => vec![(4, Rank(4)), (5, Rank(4))],
        // Of Resize the constants say how many dimensions it takes, see `Ranks::of_constants`.
        "Attention" | "Resize" => Vec::new(),
        "NonMaxSuppression" => elements(&[2, 3, 4]),
        "Dropout" => elements(&[1, 2]),
        "RoiAlign" => vec![(0, Elements), (0, Rank(4)), (1, Rank(2)), (2, Rank(1))],
        "MaxRoiPool" => vec![(0, Rank(4)), (1, Rank(2))],
        "Multinomial" => vec![(0, Rank(2))],
        "ReverseSequence" => vec![(0, RankFrom(2))],
        "QLinearConcat" => all.filter(|place| *place < 2 || place % 3 != 2).map(|place| (place, Elements)).collect(),
        "QLinearWhere" => elements(&[2, 3, 5, 6, 7, 8]),
        "FeatureVectorizer" => all.map(|place| (place, Elements)).collect(),
        "ConcatFromSequence" | "Inverse" | "DecoderMaskedMultiHeadAttention" | "WordConvEmbedding" => vec![(0, More)],
        // Parts along an axis are compared, which have no elements where another size is 0.
        "Unique" if has("axis") => elements(&[0]),
        "Unique" => Vec::new(),
        // Only what is turned divides by sizes.
        "Scan" if has("scan_input_axes") || has("scan_output_axes") => all.map(|place| (place, Elements)).collect(),
        "Scan" => Vec::new(),
        operator if DEADLY.contains(&operator) => elements(&[0]),
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

/// The functions of a model, by their domains and names.
type Functions = HashSet<(String, String)>;

fn functions(model: &ModelProto) -> Functions {
    model.functions.iter().map(|function| (function.domain.clone(), function.name.clone())).collect()
}

/// Whether something is taken for granted that nobody has looked into.
fn is_unknown(node: &NodeProto, functions: &Functions) -> bool {
    searched::is_unknown(&node.domain, &node.op_type, &DEADLY)
        && !functions.contains(&(node.domain.clone(), node.op_type.clone()))
}

/// What came of looking for operands that need elements.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many operands are guarded.
    pub(crate) guarded: usize,
    /// The first node, as `'name' (Operator)`, that must not be given a request's tensors without elements.
    pub(crate) deadly: Option<String>,
    /// The first node that takes something else for granted of what it is given.
    pub(crate) tried: Option<String>,
    /// The first node that cannot be guarded: of an old operator set, inside a function, or for what its operand holds.
    pub(crate) left: Option<String>,
}

/// Puts guards where a size may become 0 inside the model.
pub(crate) fn guard(model: &mut ModelProto) -> Outcome {
    let opset = model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version);
    let can = opset >= BROADCASTS_SINCE;
    let mut guard = Guard { can, functions: functions(model), outcome: Outcome::default() };
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
    fn first<'a>(nodes: impl IntoIterator<Item = &'a NodeProto>, known: &Functions) -> Option<String> {
        nodes.into_iter().find_map(|node| {
            if !needs(node).is_empty() || is_unknown(node, known) {
                return Some(called(node));
            }
            subgraphs(node).find_map(|body| first(&body.node, known))
        })
    }
    first(model.functions.iter().flat_map(|function| &function.node), &functions(model))
}

/// The node, as `'name' (Operator)`.
fn called(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    format!("'{}' ({})", name.map(String::as_str).unwrap_or_default(), node.op_type)
}

/// The node that an error of a guard is about, as `'name' (Operator)`, and what it takes for granted; `message` is the library's.
pub(crate) fn blamed(message: &str) -> Option<(&str, &'static str)> {
    let rest = message.split_once(NAME)?.1;
    let end = rest.find(END)?;
    let of_rank = rest[end + END.len()..].trim_start_matches(|digit: char| digit.is_ascii_digit());
    let needed = if of_rank.starts_with(OF_RANK) { "number of dimensions" } else { "elements" };
    Some((&rest[..=end], needed))
}

/// Values that hold elements.
#[derive(Clone, Default)]
struct Known {
    /// Where the request's own tensors do.
    holding: HashSet<String>,
    /// Always.
    fixed: HashSet<String>,
    ranks: Ranks,
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
    functions: Functions,
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
        known.ranks.enter(graph, is_whole);
        if is_whole {
            known.holding.extend(graph.input.iter().map(|input| input.name.clone()));
        }
        for mut node in std::mem::take(&mut graph.node) {
            for body in subgraphs_mut(&mut node) {
                self.graph(body, &known, false);
            }
            self.operands(graph, &mut node, &known);
            known.note(&node);
            known.ranks.note(&node);
            graph.node.push(node);
        }
    }

    /// Guards what the node takes for granted.
    fn operands(&mut self, graph: &mut GraphProto, node: &mut NodeProto, known: &Known) {
        let Outcome { guarded, deadly, tried, left } = &mut self.outcome;
        let unknown = |name: &String| !name.is_empty() && !known.fixed.contains(name);
        if is_unknown(node, &self.functions) {
            left.get_or_insert_with(|| called(node));
        }
        if let Some(number) = needs_other_numbers(node).and_then(|place| node.input.get(place)) {
            // It is not looked into here: the trial tells.
            let place = if unknown(number) { &mut *left } else { &mut *tried };
            place.get_or_insert_with(|| called(node));
        }
        let mut needs = needs(node);
        needs.extend(known.ranks.of_constants(node).map(|rank| (0, Need::Rank(rank))));
        for place in 0..node.input.len() {
            let operand = node.input[place].clone();
            let open = |need: &Need| match need {
                Need::Elements => unknown(&operand),
                Need::Rank(rank) => known.ranks.of(&operand) != Some(*rank),
                Need::RankFrom(least) => known.ranks.of(&operand).is_none_or(|rank| rank < *least),
                Need::More => true,
            };
            let here = needs.iter().filter(|(at, need)| *at == place && !operand.is_empty() && open(need));
            let mut here: Vec<Need> = here.map(|(_, need)| *need).collect();
            if here.is_empty() {
                continue;
            }
            let first = if here.contains(&Need::Elements) { &mut *deadly } else { &mut *tried };
            first.get_or_insert_with(|| called(node));
            here.retain(|need| *need != Need::Elements || !known.holding.contains(&operand));
            if here.is_empty() {
                continue;
            }
            if !self.can || here.contains(&Need::More) {
                left.get_or_insert_with(|| called(node));
                continue;
            }
            *guarded += 1;
            let passed = format!("{NAME}{guarded}/passed");
            graph.node.extend(guards(node, &operand, &here, *guarded, &passed));
            node.input[place] = passed;
        }
    }
}

/// `operand` as `passed`, if it is as it has to be.
fn guards(node: &NodeProto, operand: &str, needs: &[Need], number: usize, passed: &str) -> Vec<NodeProto> {
    let part = |part: &str| format!("{NAME}{number}/{part}");
    let blamed = |of: &str| format!("{NAME}{}#{number}{of}", called(node));
    let mut shape = part("shape");
    let mut nodes = vec![new("Shape", &[operand], &shape)];
    for need in needs {
        let before = shape;
        match need {
            Need::Elements => {
                let (least, one, nothing) = (part("least"), part("one"), part("nothing"));
                shape = part("same");
                let scalar = AttributeProto { i: Some(0), ..attribute("keepdims", AttributeType::Int) };
                nodes.push(NodeProto { attribute: vec![scalar], ..new("ReduceMin", &[&before], &least) });
                nodes.push(NodeProto { name: blamed(OF_ELEMENTS), ..new("Div", &[&least, &least], &one) });
                nodes.push(new("Sub", &[&one, &one], &nothing));
                nodes.push(new("Add", &[&before, &nothing], &shape));
            }
            Need::Rank(rank) => {
                let length = part("length");
                shape = part("of_that_length");
                nodes.push(constant(&length, &[1], *rank));
                nodes.push(NodeProto { name: blamed(OF_RANK), ..new("Reshape", &[&before, &length], &shape) });
            }
            Need::RankFrom(least) => {
                let (last, size, none) = (part("last"), part("size"), part("none"));
                shape = part("long_enough");
                nodes.push(constant(&last, &[], least.saturating_sub(1)));
                nodes.push(NodeProto { name: blamed(OF_RANK), ..new("Gather", &[&before, &last], &size) });
                nodes.push(new("Sub", &[&size, &size], &none));
                nodes.push(new("Add", &[&before, &none], &shape));
            }
            Need::More => shape = before,
        }
    }
    nodes.push(new("Reshape", &[operand, &shape], passed));
    nodes
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

/// A node that makes one integer.
fn constant(output: &str, dims: &[i64], number: usize) -> NodeProto {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let tensor = TensorProto {
        dims: dims.to_vec(),
        data_type: DataType::Int64 as i32,
        int64_data: vec![number],
        ..TensorProto::default()
    };
    let value = AttributeProto { t: Some(tensor), ..attribute("value", AttributeType::Tensor) };
    NodeProto { attribute: vec![value], ..new("Constant", &[], output) }
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
    use corymb_onnx::proto::{FunctionProto, OperatorSetIdProto, ValueInfoProto};

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
        assert_eq!(blamed(&said), Some(("'y' (GRU)", "elements")));
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
        inside.functions.push(FunctionProto { name: "Own".to_owned(), node: counted(), ..FunctionProto::default() });
        assert_eq!(guard(&mut inside).left.as_deref(), Some("'y' (GRU)"));
        let frames = |length: &str| vec![new("STFT", &["x", "w", "w", length], "y")];
        assert_eq!(guard(&mut with_weights(frames("w"), &[1])).left, None);
        assert_eq!(guard(&mut with_weights(frames("x"), &[1])).left.as_deref(), Some("'y' (STFT)"));
    }

    #[test]
    fn what_is_of_another_rank_is_refused_by_a_node_of_its_own() {
        let align = || new("RoiAlign", &["w", "boxes", "places"], "y");
        let turned = || vec![new("Squeeze", &["x"], "boxes"), new("Cast", &["x"], "places"), align()];
        let mut model = with_weights(turned(), &[1, 1, 4, 4]);
        let outcome = guard(&mut model);
        assert_eq!((outcome.guarded, outcome.deadly, outcome.left), (2, None, None));
        assert_eq!(outcome.tried.as_deref(), Some("'y' (RoiAlign)"));
        let nodes = model.graph.expect("a graph").node;
        let operators: Vec<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
        let looked = ["Shape", "Constant", "Reshape", "Reshape"];
        assert_eq!(operators, [&["Squeeze", "Cast"][..], &looked, &looked, &["RoiAlign"]].concat());
        let said = format!("while running Reshape node. Name:'{}' Status", nodes[4].name);
        assert_eq!(blamed(&said), Some(("'y' (RoiAlign)", "number of dimensions")));
        let mut turned = with_weights(vec![new("ReverseSequence", &["w", "w"], "y")], &[3, 2]);
        assert_eq!((guard(&mut turned).tried, turned.graph.expect("a graph").node.len()), (None, 1));
        let mut unknown = with_weights(vec![new("ReverseSequence", &["x", "w"], "y")], &[3]);
        assert_eq!(guard(&mut unknown).guarded, 1);
    }

    #[test]
    fn what_nobody_looked_into_is_left() {
        let search = NodeProto { domain: "com.microsoft".to_owned(), ..new("BeamSearch", &["x"], "y") };
        assert_eq!(guard(&mut model(vec![search])).left.as_deref(), Some("'y' (BeamSearch)"));
        let own = NodeProto { domain: "somebody".to_owned(), ..new("BeamSearch", &["x"], "y") };
        assert_eq!(guard(&mut model(vec![own, new("Relu", &["x"], "z")])).left, None);
    }
}
