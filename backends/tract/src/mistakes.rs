//! Single operators that tract 0.23.9 runs wrongly, or takes and then fails on, and element types that it does not read.
//! Found by comparing it with ONNX Runtime on the models of `tests/fixtures/zoo`.

use std::collections::HashMap;

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use crate::proto::{integer_attribute, integers};
use crate::rewrite::{SOFTMAX_OF_ONE_AXIS, is_quantised};

/// The largest constant that the file may ask for by its shape alone: it would be allocated while loading.
const MAX_FILLED_BYTES: u64 = 1 << 30;
/// The widest element of such a constant.
const WIDEST_ELEMENT: u64 = 8;

/// What the rules need to know of a graph.
pub(crate) struct Surroundings<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    /// Who makes each value.
    makers: HashMap<&'a str, &'a NodeProto>,
    quantised: bool,
    opset: i64,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn of(graph: &'a GraphProto, opset: i64) -> Self {
        let constants = constants(graph);
        let makers = graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)));
        Self { constants, makers: makers.collect(), quantised: is_quantised(graph), opset }
    }

    fn constant(&self, node: &NodeProto, operand: usize) -> Option<&'a TensorProto> {
        self.constants.get(node.input.get(operand)?.as_str()).copied()
    }
}

/// What a graph stores, as initializers or as nodes, by name.
pub(crate) fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    let mut constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        constants.extend(node.output.first().map(String::as_str).zip(value));
    }
    constants
}

/// Why tract must not run this node; none where nothing is known against it.
pub(crate) fn known(node: &NodeProto, around: &Surroundings<'_>) -> Option<String> {
    if !is_standard(&node.domain) {
        return None;
    }
    let reason = match node.op_type.as_str() {
        "Softmax" if around.quantised && around.opset < SOFTMAX_OF_ONE_AXIS => {
            Some("between DequantizeLinear and QuantizeLinear tract gets it wrong, before operator set 13")
        }
        "LogSoftmax" if around.quantised => Some("between DequantizeLinear and QuantizeLinear tract gets it wrong"),
        "ReduceSum" | "ReduceMean" | "ReduceL1" | "ReduceLogSum" | "Einsum" if is_wide_sum(node, around) => {
            Some("adds up stored integers that 32 bits do not hold, before it runs, in 32 bits")
        }
        "ReduceSum" | "ReduceMean" => of_extreme_products(node, around),
        "Cast" | "RandomNormal" | "RandomUniform" | "EyeLike" => return dtype_attribute(node),
        _ => None,
    };
    reason.map(str::to_owned).or_else(|| filled(node, around))
}

/// A sum of stored integers, of which tract makes a constant, and that `sums.rs` comes too late for.
fn is_wide_sum(node: &NodeProto, around: &Surroundings<'_>) -> bool {
    let stored = around.constant(node, 0).filter(|stored| stored.data_type == DataType::Int64 as i32);
    let Some(stored) = stored else { return false };
    let sum = integers(stored)
        .unwrap_or_default()
        .into_iter()
        .fold(0_u64, |sum, number| sum.saturating_add(number.unsigned_abs()));
    i32::try_from(sum).is_err()
}

/// A sum of products with a constant, of which tract makes the product of the sum: other numbers where either overflows.
fn of_extreme_products(node: &NodeProto, around: &Surroundings<'_>) -> Option<&'static str> {
    let product = around.makers.get(node.input.first()?.as_str())?;
    let is_extreme = |operand: usize, large: fn(f64) -> bool| {
        around.constant(product, operand).is_some_and(|tensor| fractions(tensor).any(large))
    };
    const LARGE: f64 = 1e15;
    let found = match product.op_type.as_str() {
        "Mul" => (0..2).any(|operand| is_extreme(operand, |number| !number.is_finite() || number.abs() > LARGE)),
        "Div" => is_extreme(1, |number| !number.is_finite() || number.abs() < 1.0 / LARGE),
        _ => false,
    };
    found.then_some(
        "adds up products with a constant that they may overflow by, of which tract makes the product of the sum",
    )
}

fn fractions(tensor: &TensorProto) -> Box<dyn Iterator<Item = f64> + '_> {
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let raw = raw.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            Box::new(raw.chain(tensor.float_data.iter().copied().map(f64::from)))
        }
        Ok(DataType::Double) => {
            let raw = raw.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            Box::new(raw.chain(tensor.double_data.iter().copied()))
        }
        Ok(DataType::Float16) => {
            let raw = raw.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f64());
            Box::new(raw)
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// An element type that tract does not read, asked for by an attribute.
fn dtype_attribute(node: &NodeProto) -> Option<String> {
    let asked = integer_attribute(node, "to").or_else(|| integer_attribute(node, "dtype"))?;
    unread(i32::try_from(asked).ok()?).map(|what| format!("makes what tract does not read: {what}"))
}

/// Why tract does not read elements of this type, by its number in the format; none where it does.
pub(crate) fn unread(data_type: i32) -> Option<&'static str> {
    match DataType::try_from(data_type) {
        Ok(DataType::String) => Some("holds text, and tract has no operators on text"),
        Ok(DataType::Bfloat16) => Some("is bfloat16, which tract does not read"),
        Ok(DataType::Int4 | DataType::Uint4) => Some("has elements of 4 bits, which tract does not read"),
        Ok(
            DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz
            | DataType::Float4e2m1,
        ) => Some("has floating-point elements of 8 bits or less, which tract does not read"),
        Ok(DataType::Complex64 | DataType::Complex128) => Some("holds complex numbers, which tract does not read"),
        Ok(DataType::Undefined) | Err(_) => Some("has an unknown element type"),
        Ok(_) => None,
    }
}

/// A constant that a few bytes of shape blow up.
fn filled(node: &NodeProto, around: &Surroundings<'_>) -> Option<String> {
    let dims: Vec<i64> = match node.op_type.as_str() {
        "ConstantOfShape" => integers(around.constant(node, 0)?)?,
        "Expand" => integers(around.constant(node, 1)?)?,
        "Range" => {
            let ends = [0, 1, 2].map(|operand| integers(around.constant(node, operand)?)?.first().copied());
            let [Some(start), Some(end), Some(step)] = ends else { return None };
            vec![end.checked_sub(start)?.checked_div(step)?]
        }
        _ => return None,
    };
    let bytes = dims
        .iter()
        .try_fold(WIDEST_ELEMENT, |bytes, &dim| bytes.checked_mul(dim.max(1).unsigned_abs()))
        .filter(|&bytes| bytes <= MAX_FILLED_BYTES);
    bytes.is_none().then(|| format!("asks for a tensor of shape {dims:?}; at most {MAX_FILLED_BYTES} bytes are filled"))
}
