//! Sizes that come from what a request holds, rather than from its shapes: a few bytes may ask for any amount of memory,
//! and a failed allocation ends the process.

use std::collections::HashSet;

use corymb_onnx::is_standard;
use tract_onnx::pb::{GraphProto, NodeProto};

use crate::steering::steering;

const REASON: &str = "its size comes from a value of the request, which tract cannot bound";
const COUNTED: &str = "the size that it asks for comes from values of the request, and tract does not learn it";

/// Names of values that depend on the elements of an input, not on its shape alone.
#[derive(Debug, Default)]
pub(crate) struct FromValues<'a> {
    names: HashSet<&'a str>,
    /// Those of which even the shape does.
    counted: HashSet<&'a str>,
}

impl<'a> FromValues<'a> {
    /// For a graph whose inputs are a request's, or for a subgraph within `outer`, all of whose inputs may be anything.
    pub(crate) fn of(graph: &'a GraphProto, outer: Option<&FromValues<'a>>) -> Self {
        let mut names: HashSet<&str> = outer.map(|outer| outer.names.clone()).unwrap_or_default();
        let mut counted: HashSet<&str> = outer.map(|outer| outer.counted.clone()).unwrap_or_default();
        // A plan knows the values of those that decide shapes.
        let known = if outer.is_none() { steering(graph) } else { HashSet::new() };
        names.extend(graph.input.iter().map(|input| input.name.as_str()).filter(|name| !known.contains(name)));
        // Nodes need not be in order: go on until nothing is new.
        loop {
            let before = (names.len(), counted.len());
            for node in &graph.node {
                let holds_subgraph = node.attribute.iter().any(|attribute| attribute.g.is_some());
                if holds_subgraph
                    || (!asks_for_shape(node) && node.input.iter().any(|name| names.contains(name.as_str())))
                {
                    names.extend(node.output.iter().map(String::as_str));
                }
                let from = |names: &HashSet<&str>| node.input.iter().any(|name| names.contains(name.as_str()));
                if (counts(node) && from(&names)) || (!asks_for_shape(node) && from(&counted)) {
                    counted.extend(node.output.iter().map(String::as_str));
                }
            }
            if (names.len(), counted.len()) == before {
                return Self { names, counted };
            }
        }
    }

    /// Whether the value of this name depends on a request's elements.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Why the node cannot be trusted with a request; none when its size follows from shapes and constants.
    pub(crate) fn report(&self, node: &NodeProto) -> Option<&'static str> {
        if !is_standard(&node.domain) {
            return None;
        }
        let operands: &[usize] = match node.op_type.as_str() {
            "ConstantOfShape" => &[0],
            "Range" => &[0, 1, 2],
            "Expand" | "Tile" | "Pad" | "OneHot" | "Reshape" | "Upsample" | "TopK" | "CenterCropPad" | "AffineGrid" => {
                &[1]
            }
            "Resize" => &[2, 3],
            "HannWindow" | "HammingWindow" | "BlackmanWindow" => &[0],
            "Shape" | "Size" => {
                let counted = node.input.first().is_some_and(|name| self.counted.contains(name.as_str()));
                return counted.then_some(COUNTED);
            }
            _ => return None,
        };
        let from_values =
            |operand: &usize| node.input.get(*operand).is_some_and(|name| self.names.contains(name.as_str()));
        operands.iter().any(from_values).then_some(REASON)
    }
}

/// Whether it gives as many elements as its operand's values say.
fn counts(node: &NodeProto) -> bool {
    is_standard(&node.domain)
        && matches!(node.op_type.as_str(), "NonZero" | "Compress" | "Unique" | "NonMaxSuppression")
}

fn asks_for_shape(node: &NodeProto) -> bool {
    is_standard(&node.domain) && matches!(node.op_type.as_str(), "Shape" | "Size")
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::ValueInfoProto;

    use super::*;
    use crate::proto::plain_node as node;

    #[test]
    fn shapes_may_size_what_values_may_not() {
        let graph = GraphProto {
            input: vec![ValueInfoProto { name: "x".to_owned(), ..ValueInfoProto::default() }],
            node: vec![
                node("Range", &["zero", "twice", "one"], "by_value"),
                node("Add", &["x", "x"], "twice"),
                node("Shape", &["twice"], "shape"),
                node("Gather", &["shape", "zero"], "length"),
                node("Range", &["zero", "length", "one"], "by_shape"),
                node("Expand", &["x", "shape"], "by_shape_too"),
                node("Reshape", &["x", "x"], "by_value_too"),
                node("NonZero", &["x"], "places"),
                node("Transpose", &["places"], "turned"),
                node("Shape", &["turned"], "how_many"),
                node("NonZero", &["shape"], "places_of_sizes"),
                node("Shape", &["places_of_sizes"], "a_size"),
            ],
            ..GraphProto::default()
        };
        let values = FromValues::of(&graph, None);
        let reported: Vec<&str> = graph
            .node
            .iter()
            .filter(|node| values.report(node).is_some())
            .map(|node| node.output[0].as_str())
            .collect();
        assert_eq!(reported, ["by_value", "by_value_too", "how_many"]);
    }
}
