//! Whether the shapes of a request bound what its run costs, and whether an engine counts what its values make large.

use std::collections::HashSet;

use crate::file::{is_standard, label, subgraphs};
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, tensor_proto, type_proto};

/// Whether a run with inputs of no larger shapes costs no more, whatever the values: nothing runs a number of times that a value
/// decides, and no size follows from one. What is not known says no.
#[must_use]
pub fn shapes_bound_cost(model: &ModelProto) -> bool {
    // The nodes of a function are not told apart by the values that its callers give.
    let functions = model.functions.iter().all(|function| {
        let values = function.input.iter().map(String::as_str).collect();
        Values(values).bound(&function.node)
    });
    functions && model.graph.as_ref().is_none_or(|graph| Values::default().bound_graph(graph))
}

/// Operators whose lists ONNX Runtime keeps beside the memory of tensors: of sequences, and of places.
const LISTS: [&str; 6] =
    ["ConcatFromSequence", "NonZero", "SequenceConstruct", "SequenceInsert", "SplitToSequence", "Unique"];

/// The node, as `'name' (Operator)`, that makes something as large as the values of a request say, where that may be a list or a
/// text: these lie in memory that ONNX Runtime takes beside what it counts.
#[must_use]
pub fn uncounted_memory(model: &ModelProto) -> Option<String> {
    let graph = model.graph.as_ref()?;
    let functions = || model.functions.iter().flat_map(|function| &function.node);
    if !holds_text(graph) && !graph.node.iter().chain(functions()).any(makes_list) {
        return None;
    }
    let mut culprit = None;
    for function in &model.functions {
        Values(function.input.iter().map(String::as_str).collect()).sized(&function.node, &mut culprit);
    }
    Values::default().sized_graph(graph, &mut culprit);
    culprit
}

fn makes_list(node: &NodeProto) -> bool {
    // What each turn of a loop adds is joined when it has ended. The first two operands are the number of turns and a condition.
    let adds = node.op_type == "Loop" && node.output.len() + 2 > node.input.len();
    let is_known = is_standard(&node.domain) || node.domain == "com.microsoft";
    (is_known && (adds || LISTS.contains(&node.op_type.as_str())))
        || subgraphs(node).flat_map(|body| &body.node).any(makes_list)
}

/// Whether a graph is given texts, has some stored, or makes some of numbers.
fn holds_text(graph: &GraphProto) -> bool {
    const TEXT: i32 = tensor_proto::DataType::String as i32;
    let is_given = graph.input.iter().any(|input| {
        let of = input.r#type.as_ref().and_then(|of| of.value.as_ref());
        matches!(of, Some(type_proto::Value::TensorType(tensor)) if tensor.elem_type == TEXT)
    });
    let makes = |node: &NodeProto| {
        let mut attributes = node.attribute.iter();
        attributes.any(|attribute| {
            (node.op_type == "Cast" && attribute.name == "to" && attribute.i == Some(TEXT.into()))
                || attribute.name.ends_with("_strings")
                || attribute.t.as_ref().is_some_and(|tensor| tensor.data_type == TEXT)
        }) || subgraphs(node).any(holds_text)
    };
    is_given || graph.initializer.iter().any(|tensor| tensor.data_type == TEXT) || graph.node.iter().any(makes)
}

/// Whether a number becomes a long text.
fn has_long_text(node: &NodeProto) -> bool {
    const LONG: usize = 256;
    let texts = |attribute: &AttributeProto| {
        let stored = attribute.t.iter().flat_map(|tensor| &tensor.string_data);
        attribute.strings.iter().chain(stored).any(|text| text.len() > LONG)
    };
    let is_answer = |name: &str| name.starts_with("values_") || name == "classes_strings";
    node.attribute.iter().filter(|attribute| is_answer(&attribute.name)).any(texts)
}

/// Names of values that depend on the elements of an input, not on its shape alone.
#[derive(Clone, Default)]
struct Values<'a>(HashSet<&'a str>);

impl<'a> Values<'a> {
    fn bound_graph(mut self, graph: &'a GraphProto) -> bool {
        // A stored tensor that is an input, too, may be replaced by a request.
        self.0.extend(graph.input.iter().map(|input| input.name.as_str()));
        self.bound(&graph.node)
    }

    /// Whether all nodes are bounded. Nodes are in order, as the format demands.
    fn bound(mut self, nodes: &'a [NodeProto]) -> bool {
        for node in nodes {
            if !self.bounds(node) {
                return false;
            }
            self.learn(node);
        }
        true
    }

    fn sized_graph(mut self, graph: &'a GraphProto, culprit: &mut Option<String>) {
        self.0.extend(graph.input.iter().map(|input| input.name.as_str()));
        self.sized(&graph.node, culprit);
    }

    /// The first node that makes something as large as values say.
    fn sized(mut self, nodes: &'a [NodeProto], culprit: &mut Option<String>) {
        for node in nodes {
            let from_values = |index: usize| node.input.get(index).is_some_and(|name| self.0.contains(name.as_str()));
            let sizes = match node.op_type.as_str() {
                // One whose turns are numbered by a constant or a size ends with that.
                "Loop" if is_standard(&node.domain) => from_values(0),
                "Pad" | "Range" | "Tokenizer" if node.domain == "com.microsoft" => true,
                // Of itself and itself it is twice as long, and of that again.
                "StringConcat" => true,
                "LabelEncoder" => has_long_text(node),
                // What others' operators do is not known.
                _ => is_standard(&node.domain) && !self.bounds_itself(node),
            };
            if sizes && culprit.is_none() {
                *culprit = Some(label(node));
            }
            subgraphs(node).for_each(|body| self.clone().sized_graph(body, culprit));
            self.learn(node);
        }
    }

    /// What depends on values behind a node.
    fn learn(&mut self, node: &'a NodeProto) {
        let reads_shape = is_standard(&node.domain) && matches!(node.op_type.as_str(), "Shape" | "Size");
        let has_body = subgraphs(node).next().is_some();
        if has_body || (!reads_shape && node.input.iter().any(|name| self.0.contains(name.as_str()))) {
            self.0.extend(node.output.iter().map(String::as_str));
        }
    }

    fn bounds(&self, node: &'a NodeProto) -> bool {
        self.bounds_itself(node) && subgraphs(node).all(|body| self.clone().bound_graph(body))
    }

    /// Whether a node is bounded, but for its bodies.
    fn bounds_itself(&self, node: &'a NodeProto) -> bool {
        let operator = node.op_type.as_str();
        let from_values = |index: usize| node.input.get(index).is_some_and(|name| self.0.contains(name.as_str()));
        match node.domain.as_str() {
            "" | "ai.onnx" => match operator {
                "Loop" => return false,
                "ConstantOfShape" | "HannWindow" | "HammingWindow" | "BlackmanWindow" if from_values(0) => {
                    return false;
                }
                "Range" if (0..3).any(from_values) => return false,
                "Expand" | "Tile" | "OneHot" | "Upsample" | "CenterCropPad" | "AffineGrid" if from_values(1) => {
                    return false;
                }
                "Pad" if from_values(1) => return false,
                "Resize" if from_values(1) || from_values(2) || from_values(3) => return false,
                "Col2Im" | "MaxUnpool" | "DFT" | "STFT" if (1..4).any(from_values) => return false,
                _ => {}
            },
            "ai.onnx.ml" => {}
            // Whole searches are one operator there: they are as long as a value says.
            "com.microsoft" => {
                if ["Search", "Sampling", "Decoder", "Tokenizer", "Range", "Expand", "Pad", "Crop"]
                    .iter()
                    .any(|part| operator.contains(part))
                {
                    return false;
                }
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ValueInfoProto;

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: operator.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn graph(node: Vec<NodeProto>) -> GraphProto {
        let input = vec![ValueInfoProto { name: "x".to_owned(), ..ValueInfoProto::default() }];
        GraphProto { input, node, ..GraphProto::default() }
    }

    fn bounded(nodes: Vec<NodeProto>) -> bool {
        shapes_bound_cost(&ModelProto { graph: Some(graph(nodes)), ..ModelProto::default() })
    }

    #[test]
    fn what_a_value_repeats_or_sizes_is_not_bounded() {
        assert!(bounded(vec![node("Relu", &["x"], "y"), node("MatMul", &["y", "w"], "z")]));
        assert!(bounded(vec![node("Shape", &["x"], "s"), node("Expand", &["one", "s"], "y")]));
        assert!(bounded(vec![node("Expand", &["x", "stored"], "y")]));
        assert!(!bounded(vec![node("Expand", &["one", "x"], "y")]));
        assert!(!bounded(vec![node("Cast", &["x"], "n"), node("Range", &["zero", "n", "one"], "y")]));
        assert!(!bounded(vec![node("Loop", &["stored"], "y")]));
        assert!(!bounded(vec![NodeProto { domain: "org.example".to_owned(), ..node("Mine", &["x"], "y") }]));
        let search = NodeProto { domain: "com.microsoft".to_owned(), ..node("BeamSearch", &["x"], "y") };
        assert!(!bounded(vec![search]));
    }

    #[test]
    fn lists_and_texts_as_long_as_values_say_are_named() {
        let uncounted = |nodes: Vec<NodeProto>| {
            uncounted_memory(&ModelProto { graph: Some(graph(nodes)), ..ModelProto::default() })
        };
        let expand = node("Expand", &["one", "x"], "large");
        assert_eq!(uncounted(vec![expand.clone()]), None, "tensors are counted");
        let nonzero = node("NonZero", &["large"], "y");
        assert_eq!(uncounted(vec![expand.clone(), nonzero.clone()]).as_deref(), Some("'large' (Expand)"));
        assert_eq!(uncounted(vec![node("Relu", &["x"], "large"), nonzero]), None, "the shapes of a request bound it");
        let text = AttributeProto { name: "to".to_owned(), i: Some(8), ..AttributeProto::default() };
        let cast = NodeProto { attribute: vec![text], ..node("Cast", &["large"], "y") };
        assert_eq!(uncounted(vec![expand, cast]).as_deref(), Some("'large' (Expand)"));
        let turns = |count: &str| {
            let mut many = node("Loop", &[count, "", "state"], "y");
            many.output.push("all".to_owned());
            vec![node("Shape", &["x"], "size"), many]
        };
        assert_eq!(uncounted(turns("x")).as_deref(), Some("'y' (Loop)"));
        assert_eq!(uncounted(turns("size")), None);
        assert_eq!(uncounted(turns("stored")), None);
        assert_eq!(uncounted(vec![node("Loop", &["x", "", "state"], "y")]), None, "its state is one tensor");
        // Texts that become longer than what they are made of.
        let encoder = |text: &str| {
            let texts = vec![text.as_bytes().to_vec().into()];
            let values =
                AttributeProto { name: "values_strings".to_owned(), strings: texts, ..AttributeProto::default() };
            let node = node("LabelEncoder", &["x"], "y");
            NodeProto { domain: "ai.onnx.ml".to_owned(), attribute: vec![values], ..node }
        };
        assert_eq!(uncounted(vec![encoder("a label")]), None);
        let long = encoder(&"long ".repeat(100));
        assert_eq!(uncounted(vec![long]).as_deref(), Some("'y' (LabelEncoder)"));
        let joined = node("StringConcat", &["label", "label"], "twice");
        assert_eq!(uncounted(vec![encoder("a label"), joined]).as_deref(), Some("'twice' (StringConcat)"));
    }

    #[test]
    fn bodies_are_looked_into() {
        let body = |node: NodeProto| AttributeProto {
            name: "then_branch".to_owned(),
            g: Some(GraphProto { node: vec![node], ..GraphProto::default() }),
            ..AttributeProto::default()
        };
        let branch = |inner: NodeProto| NodeProto { attribute: vec![body(inner)], ..node("If", &["c"], "y") };
        assert!(bounded(vec![branch(node("Relu", &["x"], "z"))]));
        assert!(!bounded(vec![branch(node("Tile", &["one", "x"], "z"))]));
        assert!(!bounded(vec![branch(node("Loop", &["one"], "z"))]));
    }
}
