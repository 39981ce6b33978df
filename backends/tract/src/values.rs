//! Sizes that come from what a request holds, rather than from its shapes: a few bytes may ask for any amount of memory,
//! and a failed allocation ends the process.

use std::collections::{HashMap, HashSet};

use corymb_onnx::is_standard;
use tract_onnx::pb::{GraphProto, NodeProto};

use crate::mistakes::constants;
use crate::proto::{integer_attribute, integers, integers_attribute};
use crate::steering::steering;

const REASON: &str = "its size comes from a value of the request, which tract cannot bound";
const COUNTED: &str = "the size that it asks for comes from values of the request, and tract does not learn it";
const UNSEEN: &str =
    "takes as many elements as a request's values say, and tract does not see whether those fit its weights";
const CUT: &str = "it takes so many of what a request's values make more or fewer of, and tract takes no more than there are for a mistake";

/// Names of values that depend on the elements of an input, not on its shape alone.
#[derive(Debug, Default)]
pub(crate) struct FromValues<'a> {
    names: HashSet<&'a str>,
    /// Those of which even the shape does.
    counted: HashSet<&'a str>,
    /// Those that are a part of one of these, of so many places, wherever it ends.
    cut: HashSet<&'a str>,
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
                let cut = cut(graph, &counted);
                return Self { names, counted, cut };
            }
        }
    }

    /// Whether the node takes a part of what is counted when the request is there.
    fn cuts(&self, node: &NodeProto) -> bool {
        node.output.first().is_some_and(|output| self.cut.contains(output.as_str()))
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
        if self.cuts(node) {
            return Some(CUT);
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
            "RNN" | "GRU" | "LSTM" => {
                let counted = node.input.first().is_some_and(|name| self.counted.contains(name.as_str()));
                return counted.then_some(UNSEEN);
            }
            _ => return None,
        };
        let from_values =
            |operand: &usize| node.input.get(*operand).is_some_and(|name| self.names.contains(name.as_str()));
        operands.iter().any(from_values).then_some(REASON)
    }
}

/// The outputs of slices along the dimension that says how many there are, but to its end. What becomes of that dimension is
/// followed through operators that leave it where it is.
fn cut<'a>(graph: &'a GraphProto, counted: &HashSet<&str>) -> HashSet<&'a str> {
    let stored = constants(graph);
    // Before operator set 10 they were attributes.
    let constant = |node: &NodeProto, place: usize, name: &str| match node.input.get(place) {
        Some(operand) if !operand.is_empty() => integers(stored.get(operand.as_str())?),
        _ => integers_attribute(node, name).map(<[i64]>::to_vec),
    };
    // The dimension, and how many there are; 0 where that is not known.
    let mut axes: HashMap<&str, (i64, i64)> = HashMap::new();
    let mut cut = HashSet::new();
    for node in &graph.node {
        let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { continue };
        let first = axes.get(input.as_str()).copied();
        let axis = match (node.op_type.as_str(), first) {
            ("NonMaxSuppression", _) => Some((0, 2)),
            ("NonZero", _) => Some((1, 2)),
            ("Cast" | "Identity" | "Neg" | "Abs", axis) => axis,
            ("Transpose", Some((axis, rank))) => {
                let order = node.attribute.iter().find(|attribute| attribute.name == "perm");
                let place = order.and_then(|order| order.ints.iter().position(|from| *from == axis));
                // Without an order of two dimensions one takes the place of the other.
                let place = place.map(|place| place as i64).or_else(|| order.is_none().then_some(1 - axis));
                place.map(|place| (place, rank))
            }
            ("Gather", Some((axis, _))) if integer_attribute(node, "axis").unwrap_or(0) > axis => Some((axis, 0)),
            ("Slice", Some((axis, rank))) => {
                let along = constant(node, 3, "axes");
                let place = match &along {
                    Some(along) => {
                        let is_it = |other: &i64| *other == axis || (rank > 0 && *other == axis - rank);
                        along.iter().position(is_it)
                    }
                    None if node.input.get(3).is_none_or(String::is_empty) => usize::try_from(axis).ok(),
                    None => None,
                };
                let ends = constant(node, 2, "ends");
                let end = place.and_then(|place| ends.as_ref()?.get(place).copied());
                if end.is_some_and(|end| end.unsigned_abs() < u64::from(u32::MAX >> 1)) {
                    cut.insert(output.as_str());
                }
                Some((axis, rank))
            }
            _ => None,
        };
        if let Some(axis) = axis.filter(|_| counted.contains(output.as_str())) {
            axes.insert(output, axis);
        }
    }
    cut
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
    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::{AttributeProto, TensorProto, ValueInfoProto};

    use super::*;
    use crate::proto::plain_node as node;

    #[test]
    fn a_part_of_what_is_counted_is_refused() {
        let numbers = |name: &str, numbers: &[i64]| TensorProto {
            name: name.to_owned(),
            data_type: DataType::Int64 as i32,
            int64_data: numbers.to_vec(),
            ..TensorProto::default()
        };
        let integers = |name: &str, ints: &[i64]| AttributeProto {
            name: name.to_owned(),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        };
        // As exporters write it.
        let stored = AttributeProto { t: Some(numbers("", &[5])), ..AttributeProto::default() };
        let graph = GraphProto {
            input: vec![ValueInfoProto { name: "x".to_owned(), ..ValueInfoProto::default() }],
            initializer: vec![
                numbers("zero", &[0]),
                numbers("one", &[1]),
                numbers("all", &[i64::MAX]),
                numbers("last", &[-1]),
                TensorProto {
                    data_type: DataType::Int32 as i32,
                    int64_data: Vec::new(),
                    int32_data: vec![5],
                    ..numbers("short", &[])
                },
            ],
            node: vec![
                NodeProto { attribute: vec![stored], ..node("Constant", &[], "five") },
                node("NonZero", &["x"], "places"),
                node("Slice", &["places", "zero", "five", "one"], "few"),
                node("Slice", &["places", "zero", "five", "last"], "few_from_the_end"),
                node("Slice", &["places", "zero", "one", "zero"], "rows"),
                node("Slice", &["places", "one", "all", "one"], "rest"),
                node("Slice", &["places", "zero", "short", "one"], "few_by_short"),
                NodeProto {
                    attribute: vec![integers("axes", &[1]), integers("starts", &[0]), integers("ends", &[5])],
                    ..node("Slice", &["places"], "few_by_attributes")
                },
                node("Transpose", &["places"], "turned"),
                node("Slice", &["turned", "zero", "five"], "few_turned"),
                node("Slice", &["turned", "zero", "one", "one"], "columns"),
                node("NonMaxSuppression", &["x", "x"], "kept"),
                node("Slice", &["kept", "zero", "five", "zero"], "best"),
                node("Slice", &["x", "zero", "five", "zero"], "of_a_request"),
            ],
            ..GraphProto::default()
        };
        let values = FromValues::of(&graph, None);
        let reported = graph.node.iter().filter(|node| values.report(node).is_some());
        assert_eq!(
            reported.map(|node| node.output[0].as_str()).collect::<Vec<_>>(),
            ["few", "few_from_the_end", "few_by_short", "few_by_attributes", "few_turned", "best"]
        );
    }

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
