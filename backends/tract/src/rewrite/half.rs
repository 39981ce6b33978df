//! FP16: arithmetic is done in FP32, as ONNX Runtime does it on processors. tract's own overflows in sums of a few hundred elements,
//! and between the nodes of a norm that is spelled out.
//!
//! What such a node makes goes on to the next as FP32; what moves elements, leaves the graph or enters a body is FP16.

use std::collections::HashMap;

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::facts::Facts;
use super::writer::{MARK, integer, standing_for};
use crate::proto::{label, subgraphs_mut};

/// Operators that compute, and whose operands of fractions are all of one type.
#[rustfmt::skip]
const ARITHMETIC: [&str; 97] = [
    "Abs", "Acos", "Acosh", "Add", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
    "BatchNormalization", "Ceil", "Celu", "Clip", "Conv", "ConvTranspose", "Cos", "Cosh", "CumSum", "Det", "Div",
    "Einsum", "Elu", "Equal", "Erf", "Exp", "Floor", "GRU", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool",
    "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish",
    "Hardmax", "InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min",
    "Mish", "Mod", "Mul", "Neg", "PRelu", "Pow", "RMSNormalization", "RNN", "Reciprocal", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Resize", "RotaryEmbedding", "Round", "Selu", "Shrink", "Sigmoid", "Sin", "Sinh",
    "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where",
];

/// Widens the arithmetic of a graph and of the graphs within. `outer` is what the graphs around it say, and `depth` their number.
pub(super) fn widen(graph: &mut GraphProto, outer: Facts, depth: usize) {
    let mut facts = outer;
    facts.enter(graph);
    let mut wide = Wide { depth, ..Wide::default() };
    for mut node in std::mem::take(&mut graph.node) {
        for body in subgraphs_mut(&mut node) {
            widen(body, facts.clone(), depth + 1);
        }
        facts.learn(&node);
        wide.add(node, &facts);
    }
    graph.node = wide.nodes;
}

/// The nodes of a graph as they are written anew.
#[derive(Default)]
struct Wide {
    nodes: Vec<NodeProto>,
    /// Values in FP32, by the names of those in FP16.
    values: HashMap<String, String>,
    depth: usize,
}

impl Wide {
    fn add(&mut self, mut node: NodeProto, facts: &Facts) {
        let is_half = |name: &String| facts.dtype(name) == Some(DataType::Float16);
        let computes = is_standard(&node.domain) && ARITHMETIC.contains(&node.op_type.as_str());
        // Operands of one type stay so.
        let is_known = |name: &String| name.is_empty() || facts.dtype(name).is_some();
        if !computes || !node.input.iter().any(is_half) || !node.input.iter().all(is_known) {
            self.nodes.push(node);
            return;
        }
        let base = standing_for(&node);
        // One without a name goes by that of its first value, which changes.
        node.name = label(&node).to_owned();
        for name in node.input.iter_mut().filter(|name| is_half(name)) {
            *name = match self.values.get(name) {
                Some(known) => known.clone(),
                None => {
                    let known = self.name(name);
                    self.cast(&base, name, &known, DataType::Float);
                    self.values.insert(name.clone(), known.clone());
                    known
                }
            };
        }
        let mut narrowed = Vec::new();
        for name in node.output.iter_mut().filter(|name| is_half(name)) {
            let known = self.name(name);
            narrowed.push((known.clone(), std::mem::replace(name, known)));
        }
        self.nodes.push(node);
        for (known, name) in narrowed {
            self.cast(&base, &known, &name, DataType::Float16);
            self.values.insert(name, known);
        }
    }

    /// For a value in FP32. A body may hold one of the same value as the graph around it.
    fn name(&self, of: &str) -> String {
        format!("{of}{MARK}.wide.{}", self.depth)
    }

    fn cast(&mut self, base: &str, input: &str, output: &str, to: DataType) {
        self.nodes.push(NodeProto {
            name: format!("{base}.{}.wide.{}", self.nodes.len(), self.depth),
            op_type: "Cast".to_owned(),
            input: vec![input.to_owned()],
            output: vec![output.to_owned()],
            attribute: vec![integer("to", to as i64)],
            ..NodeProto::default()
        });
    }
}
