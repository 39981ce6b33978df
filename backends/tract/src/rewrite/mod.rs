//! Writes operators in terms of others where tract gets the operator itself wrong, cannot take it or does not know it.
//!
//! One file per family. Each rule returns false, having written nothing, where it does not apply; the node then stays as it
//! is, and `mistakes.rs` may refuse it.

mod arithmetic;
mod attention;
mod facts;
mod functions;
mod half;
mod indices;
mod losses;
mod recurrent;
mod reductions;
mod saturated;
mod shapes;
mod softmax;
mod writer;
mod zeros;

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use self::writer::Writer;
use crate::proto::{standard_opset, subgraphs_mut};

pub(crate) use self::facts::Facts;
pub(crate) use self::softmax::{SOFTMAX_OF_ONE_AXIS, is_quantised};
pub(crate) use self::writer::{is_added, origin};

/// Before this version of the format every initializer had to be listed among the inputs, and all are constants.
const DEFAULTS_SINCE_IR: i64 = 4;

/// Rewrites the model's graph and the branches and bodies within.
pub(crate) fn rewrite(model: &mut ModelProto) {
    functions::inline(model);
    let (opset, old) = (standard_opset(model), model.ir_version < DEFAULTS_SINCE_IR);
    let Some(graph) = &mut model.graph else { return };
    if old {
        let stored: std::collections::HashSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        graph.input.retain(|input| !stored.contains(input.name.as_str()));
    }
    if rewrite_graph(graph, Facts::default(), opset) {
        half::widen(graph, Facts::default(), 0);
    }
}

/// `outer` is what the graphs around this one say. Protobuf's decoder bounds how deep graphs nest. Answers whether there is FP16.
fn rewrite_graph(graph: &mut GraphProto, outer: Facts, opset: i64) -> bool {
    let mut facts = outer;
    facts.enter(graph);
    let quantised = is_quantised(graph);
    let (mut written, mut halves) = (Writer::new(opset), false);
    for mut node in std::mem::take(&mut graph.node) {
        for subgraph in subgraphs_mut(&mut node) {
            halves |= rewrite_graph(subgraph, facts.clone(), opset);
        }
        shapes::constant(&mut node);
        facts.learn(&node);
        if is_standard(&node.domain) {
            shapes::complete(&mut node, &facts, opset);
            written.begin(&node);
            if stands_for(&node, &facts, quantised, &mut written) {
                continue;
            }
        }
        written.nodes.push(node);
    }
    graph.node = written.nodes;
    graph.initializer.extend(written.constants);
    halves || facts.hold(DataType::Float16)
}

/// Writes what stands for `node`, if anything has to.
fn stands_for(node: &NodeProto, facts: &Facts, quantised: bool, writer: &mut Writer) -> bool {
    match node.op_type.as_str() {
        "RNN" | "GRU" | "LSTM" => recurrent::with_state(node, writer),
        "Softmax" if quantised => softmax::spelled(node, writer),
        "LogSoftmax" => softmax::logarithm(node, facts, writer),
        "QLinearMatMul" => arithmetic::quantised_product(node, facts, writer),
        "Attention" => attention::spelled(node, facts, writer),
        "Mod" => arithmetic::modulo(node, facts, writer),
        "Mul" => zeros::product(node, facts, writer),
        "Clip" => saturated::clip(node, facts, writer),
        "QuantizeLinear" => saturated::quantised(node, facts, writer),
        "DynamicQuantizeLinear" => saturated::scale_of_nothing(node, writer),
        "PRelu" => zeros::slope(node, facts, writer),
        "LayerNormalization" | "RMSNormalization" => zeros::scale(node, facts, writer),
        "BatchNormalization" => zeros::scale_of_batch(node, facts, writer),
        "Softplus" => arithmetic::softplus(node, writer),
        "Asinh" => arithmetic::in_double(node, facts, writer),
        "Sign" => arithmetic::sign_of_half(node, facts, writer),
        "HardSwish" => arithmetic::hard_swish(node, writer),
        "BitShift" => arithmetic::shift(node, facts, writer),
        "IsInf" => arithmetic::is_infinite(node, facts, writer),
        "Einsum" => arithmetic::sum_of_all(node, writer),
        "Trilu" => indices::diagonal(node, facts, writer),
        "OneHot" => indices::compared(node, facts, writer),
        "Pow" => arithmetic::power(node, facts, writer),
        "GatherND" | "ScatterND" => indices::from_the_front(node, facts, writer),
        "NegativeLogLikelihoodLoss" | "SoftmaxCrossEntropyLoss" => losses::spelled(node, facts, writer),
        "Slice" => indices::to_the_end(node, facts, writer),
        "Upsample" => shapes::repeated(node, facts, writer),
        operator if operator.starts_with("Reduce") => {
            reductions::of_integers(node, facts, writer)
                || reductions::in_wider(node, facts, writer)
                || reductions::of_truth(node, facts, writer)
                || reductions::of_infinities(node, facts, writer)
                || reductions::of_exponentials(node, facts, writer)
        }
        "GlobalLpPool" => reductions::global_norm(node, facts, writer),
        _ => false,
    }
}
