//! What is not a number: tract's kernels for some operators lose it, where the engine that answers are compared with passes it on.

use corymb_core::{DType, Tensor};
use corymb_onnx::is_standard;
use half::f16;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::tract_core::internal::{Datum, DatumType, Tensor as TractTensor};

use crate::proto::{label, subgraphs};
use crate::rewrite::origin;

/// Operators that answer a number to what is none.
const LOSING: [&str; 17] = [
    "ArgMax",
    "ArgMin",
    "Clip",
    "GRU",
    "HardSigmoid",
    "LSTM",
    "Max",
    "Min",
    "RNN",
    "ReduceMax",
    "ReduceMin",
    "Relu",
    "Sigmoid",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
    "TopK",
];

/// The first node that loses it, as `'name' (Operator)`; none where all pass it on.
pub(crate) fn losing(graph: &GraphProto) -> Option<String> {
    let here = graph.node.iter().find(|node| is_standard(&node.domain) && LOSING.contains(&node.op_type.as_str()));
    // A node that stands for one of the file is said to be that.
    let said = |node: &NodeProto| match origin(&node.name) {
        Some((name, _, operator)) => format!("'{name}' ({operator})"),
        None => format!("'{}' ({})", label(node), node.op_type),
    };
    here.map(said).or_else(|| graph.node.iter().flat_map(subgraphs).find_map(losing))
}

/// Elements that are looked at together.
const BLOCK: usize = 1024;

/// What the names of tract's operators hold that make it of numbers: the root of -1, 0 by 0, the softmax of nothing.
const MAKING: [&str; 14] =
    ["Acos", "Asin", "Acosh", "Atanh", "Cos", "Div", "Ln", "Pow", "Rem", "Rsqrt", "Sin", "Softmax", "Sqrt", "Tan"];

/// Whether an operator of tract's may make it of what it is given. Sums and products may, too, of infinities: these are not
/// looked for, since most of what a model computes is of them.
pub(crate) fn may_arise(operator: &str) -> bool {
    MAKING.iter().any(|name| operator.contains(name)) && !operator.contains("Tanh") && !operator.contains("Sinh")
}

/// Whether a tensor of tract's holds it.
pub(crate) fn is_in(tensor: &TractTensor) -> bool {
    fn any<T: Datum>(tensor: &TractTensor, is_nan: impl Fn(&T) -> bool) -> bool {
        // Whole blocks are looked through without a jump at each element.
        let in_block = |block: &[T]| block.iter().fold(false, |found, element| found | is_nan(element));
        tensor.to_plain_array_view::<T>().is_ok_and(|view| match view.as_slice() {
            Some(elements) => elements.chunks(BLOCK).any(in_block),
            None => view.iter().any(&is_nan),
        })
    }
    match tensor.datum_type() {
        DatumType::F32 => any::<f32>(tensor, |element| element.is_nan()),
        DatumType::F64 => any::<f64>(tensor, |element| element.is_nan()),
        DatumType::F16 => any::<f16>(tensor, |element| element.is_nan()),
        _ => false,
    }
}

/// Whether an element is not a number.
pub(crate) fn holds_nan(tensor: &Tensor) -> bool {
    match tensor.dtype() {
        DType::Fp32 => tensor.as_slice::<f32>().is_some_and(|elements| elements.iter().any(|element| element.is_nan())),
        DType::Fp64 => tensor.as_slice::<f64>().is_some_and(|elements| elements.iter().any(|element| element.is_nan())),
        DType::Fp16 => tensor.as_slice::<f16>().is_some_and(|elements| elements.iter().any(|element| element.is_nan())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::plain_node;

    #[test]
    fn what_loses_it_is_named_and_what_holds_it_is_told() {
        let graph = |operator| GraphProto { node: vec![plain_node(operator, &["x"], "y")], ..GraphProto::default() };
        assert_eq!(losing(&graph("Softmax")), None);
        assert_eq!(losing(&graph("Relu")).as_deref(), Some("'y' (Relu)"));
        let tensor = |elements: &[f32]| Tensor::from_slice([elements.len()], elements).expect("a tensor");
        assert!(holds_nan(&tensor(&[1.0, f32::NAN])));
        assert!(!holds_nan(&tensor(&[1.0, f32::INFINITY])));
        let half = Tensor::from_slice([1], &[f16::NAN]).expect("a tensor");
        assert!(holds_nan(&half));
    }
}
