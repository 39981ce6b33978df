//! Whether the shapes of a request bound what its run costs.

use std::collections::HashSet;

use crate::file::{is_standard, subgraphs};
use crate::proto::{GraphProto, ModelProto, NodeProto};

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
            let reads_shape = is_standard(&node.domain) && matches!(node.op_type.as_str(), "Shape" | "Size");
            let has_body = subgraphs(node).next().is_some();
            if has_body || (!reads_shape && node.input.iter().any(|name| self.0.contains(name.as_str()))) {
                self.0.extend(node.output.iter().map(String::as_str));
            }
        }
        true
    }

    fn bounds(&self, node: &'a NodeProto) -> bool {
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
        subgraphs(node).all(|body| self.clone().bound_graph(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeProto, ValueInfoProto};

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
