//! Inputs that are places in a table: the words of a text, of which a model knows so many.

use std::collections::HashMap;

use corymb_core::Signature;

use crate::file::is_standard;
use crate::proto::{ModelProto, NodeProto, TensorProto};

/// The inputs whose elements are used as places in stored tables, with the length of the shortest of these.
///
/// Samples that are made up for a model take their numbers below it: others would be refused.
#[must_use]
pub fn tables(model: &ModelProto, signature: &Signature) -> Vec<(String, usize)> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let stored: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    // By the value's name, the input that it comes from unchanged.
    let mut origin: HashMap<&str, usize> =
        signature.inputs.iter().enumerate().map(|(index, spec)| (spec.name.as_str(), index)).collect();
    let mut lengths: Vec<Option<usize>> = vec![None; signature.inputs.len()];
    for node in &graph.node {
        for (operand, table, axis) in places(node) {
            let of = |index: usize| node.input.get(index).map(String::as_str);
            let (Some(&input), Some(table)) =
                (of(operand).and_then(|name| origin.get(name)), of(table).and_then(|name| stored.get(name)))
            else {
                continue;
            };
            let length = usize::try_from(axis).ok().and_then(|axis| usize::try_from(*table.dims.get(axis)?).ok());
            lengths[input] = match (lengths[input], length) {
                (Some(known), Some(length)) => Some(known.min(length)),
                (known, length) => known.or(length),
            };
        }
        if is_standard(&node.domain)
            && matches!(
                node.op_type.as_str(),
                "Cast" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" | "Flatten"
            )
            && let (Some(from), Some(to)) = (node.input.first(), node.output.first())
            && let Some(&input) = origin.get(from.as_str())
        {
            origin.insert(to, input);
        }
    }
    let named = signature.inputs.iter().zip(lengths);
    named.filter_map(|(spec, length)| Some((spec.name.clone(), length?))).collect()
}

/// Of each operand that holds places: its index, that of the table, and the axis of the table.
fn places(node: &NodeProto) -> Vec<(usize, usize, i64)> {
    match node.op_type.as_str() {
        "Gather" if is_standard(&node.domain) => {
            let axis =
                node.attribute.iter().find(|attribute| attribute.name == "axis").and_then(|attribute| attribute.i);
            vec![(1, 0, axis.unwrap_or(0))]
        }
        // Words, and the kinds of them.
        "EmbedLayerNormalization" => vec![(0, 2, 0), (1, 4, 0)],
        _ => Vec::new(),
    }
}
