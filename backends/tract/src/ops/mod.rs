//! tract's reader of ONNX, with operators of our own in place of those that tract itself reads wrongly or too narrowly.

mod boxes;
mod branches;
mod cast;
mod exact;
mod place;
mod squeeze;

use std::sync::LazyLock;

use tract_onnx::model::{Onnx, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::TractResult;
use tract_onnx::tract_hir::infer::InferenceOp;

use crate::explain::refuse;

/// An operator, and the values of the graph around it that its branches take.
type Read = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// As tract has it.
static PLAIN: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);

/// What reads ONNX.
pub(crate) fn reader() -> Onnx {
    let mut onnx = PLAIN.clone();
    onnx.op_register.insert("ArgMax", place::largest);
    onnx.op_register.insert("ArgMin", place::smallest);
    onnx.op_register.insert("Cast", cast::cast);
    onnx.op_register.insert("Div", exact::quotient);
    onnx.op_register.insert("If", branches::branches);
    onnx.op_register.insert("Mul", exact::product);
    onnx.op_register.insert("NonMaxSuppression", boxes::non_max_suppression);
    onnx.op_register.insert("Pow", exact::power);
    onnx.op_register.insert("Sqrt", exact::root);
    onnx.op_register.insert("Squeeze", squeeze::squeeze);
    onnx
}

/// As tract reads it.
fn plain(operator: &str, context: &ParsingContext, node: &NodeProto) -> Read {
    match PLAIN.op_register.0.get(operator) {
        Some(plain) => plain(context, node),
        None => refuse(format!("tract reads no {operator}")),
    }
}
