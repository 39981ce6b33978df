//! Windows of pools: tract answers one element where none fits into its operand.

use std::collections::HashMap;

use corymb_onnx::is_standard;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::tract_hir::infer::{Factoid as _, InferenceFact};

use crate::proto::{integer_attribute, integers_attribute, label, text_attribute};

/// Dimensions of a tensor before those that a window moves along: rows and channels.
const BEFORE: usize = 2;

/// The window of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    axes: Vec<Axis>,
    /// Whether a window that begins inside and ends outside counts.
    partial: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    /// From its first element to its last.
    extent: i64,
    padding: i64,
    stride: i64,
}

impl Window {
    /// Those of a graph's pools by the names that tract gives to the nodes.
    pub(crate) fn all(graph: &GraphProto) -> HashMap<String, Self> {
        graph.node.iter().filter_map(|node| Some((label(node).to_owned(), Self::of(node)?))).collect()
    }

    /// None where the node has none, or pads as much as it needs.
    fn of(node: &NodeProto) -> Option<Self> {
        let is_pool =
            is_standard(&node.domain) && matches!(node.op_type.as_str(), "MaxPool" | "AveragePool" | "LpPool");
        if !is_pool || text_attribute(node, "auto_pad").is_some_and(|pads| pads.starts_with("SAME")) {
            return None;
        }
        let kernel = integers_attribute(node, "kernel_shape")?;
        let or = |name: &str, place: usize, default: i64| {
            integers_attribute(node, name).and_then(|numbers| numbers.get(place).copied()).unwrap_or(default)
        };
        let axis = |(place, size): (usize, &i64)| Axis {
            extent: or("dilations", place, 1).saturating_mul(size - 1).saturating_add(1),
            padding: or("pads", place, 0).saturating_add(or("pads", place + kernel.len(), 0)),
            stride: or("strides", place, 1).max(1),
        };
        let partial = integer_attribute(node, "ceil_mode").unwrap_or(0) != 0;
        Some(Self { axes: kernel.iter().enumerate().map(axis).collect(), partial })
    }

    /// The first dimension of `operand` that no window fits into, as far as its sizes are known.
    pub(crate) fn too_wide(&self, operand: &InferenceFact) -> Option<usize> {
        let fits = |place: &usize| {
            let Axis { extent, padding, stride } = self.axes[*place];
            let size = operand.shape.dim(BEFORE + place).and_then(|dim| dim.concretize()?.to_i64().ok());
            let room = size.map_or(0, |size| size.saturating_add(padding).saturating_sub(extent));
            room >= 0 || (self.partial && -room < stride)
        };
        (0..self.axes.len()).find(|place| !fits(place)).map(|place| BEFORE + place)
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::tract_core::internal::Datum as _;

    use super::*;
    use crate::proto::plain_node;

    #[test]
    fn what_does_not_fit_is_told_by_its_dimension() {
        let attribute = |name: &str, ints: &[i64]| AttributeProto {
            name: name.to_owned(),
            ints: ints.to_vec(),
            i: ints[0],
            ..AttributeProto::default()
        };
        let too_wide = |attributes: &[AttributeProto], shape: &[usize]| {
            let mut node = plain_node("MaxPool", &["x"], "y");
            node.attribute = attributes.to_vec();
            let window = Window::of(&node).expect("a window");
            window.too_wide(&InferenceFact::dt_shape(f32::datum_type(), shape))
        };
        let kernel = attribute("kernel_shape", &[1, 3]);
        assert_eq!(too_wide(std::slice::from_ref(&kernel), &[1, 1, 1, 3]), None);
        assert_eq!(too_wide(std::slice::from_ref(&kernel), &[1, 1, 1, 2]), Some(3));
        assert_eq!(too_wide(&[kernel.clone(), attribute("pads", &[0, 0, 0, 1])], &[1, 1, 1, 2]), None);
        assert_eq!(too_wide(&[kernel.clone(), attribute("dilations", &[1, 2])], &[1, 1, 1, 4]), Some(3));
        let partial = [kernel, attribute("ceil_mode", &[1]), attribute("strides", &[1, 2])];
        assert_eq!(too_wide(&partial, &[1, 1, 1, 2]), None);
        assert_eq!(too_wide(&partial, &[1, 1, 1, 1]), Some(3));
    }
}
