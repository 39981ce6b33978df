//! Recurrent layers without an initial state: tract wants their batch fixed, and fails on some. They are given zeros.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::writer::Writer;
use crate::proto::{integer_attribute, text_attribute};

/// The largest state of a recurrent layer that zeros are made for.
const MAX_HIDDEN: i64 = 1 << 20;
/// The operand that holds the initial state.
const INITIAL: usize = 5;

pub(super) fn with_state(node: &NodeProto, writer: &mut Writer) -> bool {
    let states = if node.op_type == "LSTM" { 2 } else { 1 };
    let given = |index: usize| node.input.get(index).is_some_and(|name| !name.is_empty());
    let hidden = integer_attribute(node, "hidden_size").filter(|size| (1..=MAX_HIDDEN).contains(size));
    let batch_first = integer_attribute(node, "layout").unwrap_or(0) != 0;
    let missing: Vec<usize> = (INITIAL..INITIAL + states).filter(|index| !given(*index)).collect();
    let (Some(hidden), false, false) = (hidden, batch_first, missing.is_empty()) else { return false };
    let directions = if text_attribute(node, "direction") == Some("bidirectional") { 2 } else { 1 };
    // Zeros that tract does not know to be zeros: of constant ones its optimiser makes a state of one row. Nothing is
    // greater than infinity.
    let infinity = writer.filled(DataType::Float, &[1], f64::INFINITY);
    let zeros = writer.filled(DataType::Float, &[directions, 1, hidden], 0.0);
    let largest = writer.reduce("ReduceMax", &node.input[0], &[0, 2], true);
    let never = writer.op("Greater", &[&largest, &infinity], vec![]);
    let zero = writer.cast(&never, DataType::Float);
    let state = writer.op("Mul", &[&zero, &zeros], vec![]);
    let mut node = node.clone();
    if node.input.len() < INITIAL + states {
        node.input.resize(INITIAL + states, String::new());
    }
    for index in missing {
        node.input[index].clone_from(&state);
    }
    writer.nodes.push(node);
    true
}
