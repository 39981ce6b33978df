//! Rewrites a graph, without changing what it computes, into one that tract loads faster and more surely.

use std::collections::{HashMap, HashSet};

use corymb_onnx::is_standard;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::tract_core::internal::Tensor;

use crate::proto::{subgraphs, subgraphs_mut};

/// The names that open dimensions get, numbered.
pub(crate) const SYMBOL_PREFIX: &str = "corymb_dim_";

/// What was taken out of a graph.
#[derive(Debug, Default)]
pub(crate) struct Simplified {
    /// The declared names of the symbols that the inputs' dimensions now have, by number; none for a dimension without
    /// a name.
    pub(crate) symbols: Vec<Option<String>>,
    /// Values that nodes use and nothing in the graph makes any more.
    pub(crate) constants: Vec<(String, Tensor)>,
}

/// Simplifies `model`. `given` are the inputs with a default that the caller gives a value for: they become inputs.
pub(crate) fn simplify(model: &mut ModelProto, given: &[&str]) -> Simplified {
    let Some(graph) = &mut model.graph else { return Simplified::default() };
    graph.initializer.retain(|tensor| !given.contains(&tensor.name.as_str()));
    let symbols = name_dimensions(graph);
    for node in &mut graph.node {
        forget_dimensions(node);
    }
    Simplified { symbols, constants: fold_casts(graph) }
}

/// Gives every open dimension of an input a plain symbol: tract refuses those without a name, refuses spaces in a name,
/// and its parser of expressions recurses as deep as a file asks it to.
fn name_dimensions(graph: &mut GraphProto) -> Vec<Option<String>> {
    let mut symbols: Vec<Option<String>> = Vec::new();
    for input in &mut graph.input {
        let Some(TypeValue::TensorType(tensor)) = input.r#type.as_mut().and_then(|kind| kind.value.as_mut()) else {
            continue;
        };
        for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
            let name = match dim.value.take() {
                Some(DimValue::DimValue(size)) if size >= 0 => {
                    dim.value = Some(DimValue::DimValue(size));
                    continue;
                }
                Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => Some(name),
                _ => None,
            };
            let known = name.as_ref().and_then(|_| symbols.iter().position(|symbol| *symbol == name));
            let index = known.unwrap_or_else(|| {
                symbols.push(name);
                symbols.len() - 1
            });
            dim.value = Some(DimValue::DimParam(format!("{SYMBOL_PREFIX}{index}")));
        }
    }
    graph.value_info.clear();
    symbols
}

/// Inside branches and bodies tract infers dimensions by itself; their declared names may be anything.
fn forget_dimensions(node: &mut NodeProto) {
    for graph in subgraphs_mut(node) {
        for value in &mut graph.input {
            if let Some(TypeValue::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
                for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
                    if matches!(dim.value, Some(DimValue::DimParam(_))) {
                        dim.value = None;
                    }
                }
            }
        }
        graph.value_info.clear();
        graph.node.iter_mut().for_each(forget_dimensions);
    }
}

/// Does at once what `Cast` nodes from stored FP16 weights to FP32 say: exact, and it spares tract a hundred nodes that
/// it would carry through every pass. The weights leave the graph as tensors, so that they are copied once only.
fn fold_casts(graph: &mut GraphProto) -> Vec<(String, Tensor)> {
    // A branch or a body may use a weight that no node of this graph names.
    if graph.node.iter().any(|node| subgraphs(node).next().is_some()) {
        return Vec::new();
    }
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for name in graph.node.iter().flat_map(|node| &node.input) {
        *uses.entry(name).or_default() += 1;
    }
    let interface: HashSet<&str> = graph.input.iter().chain(&graph.output).map(|value| value.name.as_str()).collect();
    let halves: HashMap<&str, usize> = graph
        .initializer
        .iter()
        .enumerate()
        .filter(|(_, tensor)| tensor.data_type == DataType::Float16 as i32 && !tensor.raw_data.is_empty())
        .filter(|(_, tensor)| uses.get(tensor.name.as_str()) == Some(&1) && !interface.contains(tensor.name.as_str()))
        .map(|(index, tensor)| (tensor.name.as_str(), index))
        .collect();
    let casts: Vec<(usize, usize)> = graph
        .node
        .iter()
        .enumerate()
        .filter(|(_, node)| node.op_type == "Cast" && is_standard(&node.domain))
        .filter_map(|(place, node)| {
            let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return None };
            let to_fp32 = |attribute: &AttributeProto| attribute.name == "to" && attribute.i == DataType::Float as i64;
            let foldable = node.attribute.iter().any(to_fp32) && !interface.contains(output.as_str());
            foldable.then_some((place, *halves.get(input.as_str())?))
        })
        .collect();

    let mut constants = Vec::with_capacity(casts.len());
    let mut folded = vec![false; graph.node.len()];
    let mut scratch = Vec::new();
    for (place, weight) in casts {
        let (node, weight) = (&mut graph.node[place], &mut graph.initializer[weight]);
        if let Some(tensor) = widened(weight, &mut scratch) {
            constants.push((std::mem::take(&mut node.output[0]), tensor));
            // Given back at once: the file's weights and ours need not be in memory together.
            *weight = TensorProto::default();
            folded[place] = true;
        }
    }
    graph.initializer.retain(|tensor| *tensor != TensorProto::default());
    let mut folded = folded.iter();
    graph.node.retain(|_| folded.next() != Some(&true));
    constants
}

/// FP16 of the file as an FP32 tensor; none where the sizes do not agree, which tract will say in its own words.
fn widened(weight: &TensorProto, scratch: &mut Vec<f32>) -> Option<Tensor> {
    let shape: Vec<usize> = weight.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<_>>()?;
    widen(&weight.raw_data, scratch)?;
    let elements = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
    if elements == scratch.len() { Tensor::from_shape(&shape, scratch).ok() } else { None }
}

/// Little-endian FP16 as FP32 in `singles`, which is emptied first; none when `halves` ends within an element.
fn widen(halves: &[u8], singles: &mut Vec<f32>) -> Option<()> {
    /// Elements converted at once: what fits the first cache.
    const CHUNK: usize = 2048;
    let (elements, rest) = halves.as_chunks::<2>();
    singles.resize(elements.len(), 0.0);
    let mut narrow = [f16::ZERO; CHUNK];
    for (elements, singles) in elements.chunks(CHUNK).zip(singles.chunks_mut(CHUNK)) {
        let narrow = &mut narrow[..elements.len()];
        for (half, bytes) in narrow.iter_mut().zip(elements) {
            *half = f16::from_le_bytes(*bytes);
        }
        narrow.convert_to_f32_slice(singles);
    }
    rest.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_keeps_every_value() {
        let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut singles = Vec::new();
        assert_eq!(widen(&halves, &mut singles), Some(()));
        assert_eq!(singles.len(), 1 << 16);
        for (bits, found) in (0..=u16::MAX).zip(singles) {
            let expected = f16::from_bits(bits).to_f32();
            assert!(expected.to_bits() == found.to_bits() || (expected.is_nan() && found.is_nan()), "{bits:#06x}");
        }
        assert_eq!(widen(&[0, 0, 0], &mut Vec::new()), None);
    }
}
