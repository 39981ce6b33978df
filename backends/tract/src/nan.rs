//! What is not a number: tract's kernels for some operators lose it, where the engine that answers are compared with passes it on.

use corymb_core::{DType, Tensor};
use corymb_onnx::is_standard;
use half::f16;
use tract_onnx::pb::GraphProto;

use crate::proto::{label, subgraphs};

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
    here.map(|node| format!("'{}' ({})", label(node), node.op_type))
        .or_else(|| graph.node.iter().flat_map(subgraphs).find_map(losing))
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
