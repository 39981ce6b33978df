//! Single operators on numbers: `Mod`, `Pow` of integers, `Softplus`, `Asinh`, `HardSwish`, `BitShift`, `IsInf` and the `Einsum` that adds everything up.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::{Fact, Facts};
use super::writer::{Writer, float, integer};
use crate::proto::{integer_attribute, text_attribute};

/// `Mod` whose first operand is broadcast, which tract gets wrong: it is brought to the result's shape first. By a selection
/// that always selects it: an `Expand` would be taken out again by tract's optimiser.
pub(super) fn modulo(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([left, right], [_]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    if covers(&facts.of(left), &facts.of(right)) {
        return false;
    }
    let together = writer.op("Equal", &[left, right], vec![]);
    let apart = writer.op("Not", &[&together], vec![]);
    let always = writer.op("Or", &[&together, &apart], vec![]);
    let mut node = node.clone();
    node.input[0] = writer.op("Where", &[&always, left, right], vec![]);
    writer.nodes.push(node);
    true
}

/// Whether the result of both has the shape of `left`, as far as the file says.
fn covers(left: &Fact, right: &Fact) -> bool {
    let Some(right) = &right.dims else { return false };
    if right.is_empty() {
        return true;
    }
    let Some(left) = &left.dims else { return false };
    let pairs = left.iter().rev().zip(right.iter().rev());
    left.len() >= right.len()
        && pairs.into_iter().all(|(left, right)| *right == Some(1) || (left == right && left.is_some()))
}

/// `Pow` of integers whose exponent may be negative, which tract takes for a large one: only 1 and -1 have such powers that
/// are not a fraction, which is cut off.
pub(super) fn power(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([base, exponent], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let is_signed = |dtype: Option<DataType>| matches!(dtype, Some(DataType::Int32 | DataType::Int64));
    let (Some(dtype), Some(of_exponent)) = (facts.dtype(base), facts.dtype(exponent)) else { return false };
    if !is_signed(Some(dtype)) || !is_signed(Some(of_exponent)) || facts.of(exponent).not_negative {
        return false;
    }
    // tract has only the lower bits of one that is large. All of those are as good as one that is even, or odd.
    let size = writer.op("Abs", &[exponent], vec![]);
    let (two, many) = (writer.scalar(of_exponent, 2.0), writer.scalar(of_exponent, f64::from(1 << 20)));
    let half = writer.op("Div", &[&size, &two], vec![]);
    let even = writer.op("Mul", &[&half, &two], vec![]);
    let odd = writer.op("Sub", &[&size, &even], vec![]);
    let most = writer.op("Add", &[&many, &odd], vec![]);
    let size = writer.op("Min", &[&size, &most], vec![]);
    let power = writer.op("Pow", &[base, &size], node.attribute.clone());
    let (zero, one, nothing) = (writer.scalar(of_exponent, 0.0), writer.scalar(dtype, 1.0), writer.scalar(dtype, 0.0));
    let negative = writer.op("Less", &[exponent, &zero], vec![]);
    let size = writer.op("Abs", &[base], vec![]);
    let whole = writer.op("Equal", &[&size, &one], vec![]);
    let broken = writer.op("Not", &[&whole], vec![]);
    let lost = writer.op("And", &[&negative, &broken], vec![]);
    writer.named("Where", &[&lost, &nothing, &power], output, vec![]);
    true
}

/// `QLinearMatMul`, which tract rounds away from zero where half is left: a product of integers, scaled, rounded to even, and cut
/// to the range. Of scales for rows and columns nothing is written.
pub(super) fn quantised_product(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([a, a_scale, a_zero, b, b_scale, b_zero, scale, zero], [output]) =
        (node.input.as_slice(), node.output.as_slice())
    else {
        return false;
    };
    let is_one = |name: &String| facts.of(name).dims.is_some_and(|dims| dims.iter().all(|size| *size == Some(1)));
    if ![a_scale, a_zero, b_scale, b_zero, scale, zero].into_iter().all(is_one) {
        return false;
    }
    let (dtype, (low, high)) = match facts.dtype(zero) {
        Some(dtype @ DataType::Uint8) => (dtype, (0.0, 255.0)),
        Some(dtype @ DataType::Int8) => (dtype, (-128.0, 127.0)),
        _ => return false,
    };
    let product = writer.op("MatMulInteger", &[a, b, a_zero, b_zero], vec![]);
    let product = writer.cast(&product, DataType::Float);
    let factor = writer.op("Mul", &[a_scale, b_scale], vec![]);
    let factor = writer.op("Div", &[&factor, scale], vec![]);
    let scaled = writer.op("Mul", &[&product, &factor], vec![]);
    let whole = writer.op("Round", &[&scaled], vec![]);
    let zero = writer.cast(zero, DataType::Float);
    let moved = writer.op("Add", &[&whole, &zero], vec![]);
    let (low, high) = (writer.scalar(DataType::Float, low), writer.scalar(DataType::Float, high));
    let above = writer.op("Max", &[&moved, &low], vec![]);
    let within = writer.op("Min", &[&above, &high], vec![]);
    writer.named("Cast", &[&within], output, vec![integer("to", dtype as i64)]);
    true
}

/// `Softplus`, whose exponential tract lets overflow: max(x, 0) + softplus(-|x|).
pub(super) fn softplus(node: &NodeProto, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let above = writer.op("Relu", &[input], vec![]);
    let size = writer.op("Abs", &[input], vec![]);
    let negative = writer.op("Neg", &[&size], vec![]);
    let rest = writer.op("Softplus", &[&negative], vec![]);
    writer.named("Add", &[&above, &rest], output, vec![]);
    true
}

/// `BitShift` by the width or more, or by less than nothing, moves all bits out, where the processor shifts by the remainder.
pub(super) fn shift(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([left, right], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let (width, signed) = match facts.dtype(left) {
        Some(DataType::Uint8) => (8, false),
        Some(DataType::Uint16) => (16, false),
        Some(DataType::Uint32) => (32, false),
        Some(DataType::Uint64) => (64, false),
        Some(DataType::Int8) => (8, true),
        Some(DataType::Int16) => (16, true),
        Some(DataType::Int32) => (32, true),
        Some(DataType::Int64) => (64, true),
        _ => return false,
    };
    let Some(dtype) = facts.dtype(left) else { return false };
    let (width, zero) = (writer.scalar(dtype, f64::from(width)), writer.scalar(dtype, 0.0));
    let mut within = writer.op("Less", &[right, &width], vec![]);
    if signed {
        let forward = writer.op("GreaterOrEqual", &[right, &zero], vec![]);
        within = writer.op("And", &[&within, &forward], vec![]);
    }
    let bounded = writer.op("Where", &[&within, right, &zero], vec![]);
    let shifted = writer.op("BitShift", &[left, &bounded], node.attribute.clone());
    let nothing = if signed && text_attribute(node, "direction") == Some("RIGHT") {
        // The sign is what comes in.
        let (negative, ones) = (writer.op("Less", &[left, &zero], vec![]), writer.scalar(dtype, -1.0));
        writer.op("Where", &[&negative, &ones, &zero], vec![])
    } else {
        zero
    };
    writer.named("Where", &[&within, &shifted, &nothing], output, vec![]);
    true
}

/// `IsInf` of FP64, which tract does not have.
pub(super) fn is_infinite(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    if facts.dtype(input) != Some(DataType::Double) {
        return false;
    }
    let asked = |name: &str| integer_attribute(node, name).unwrap_or(1) != 0;
    let infinity = writer.scalar(DataType::Double, f64::INFINITY);
    match (asked("detect_positive"), asked("detect_negative")) {
        (true, true) => {
            let size = writer.op("Abs", &[input], vec![]);
            writer.named("Equal", &[&size, &infinity], output, vec![]);
        }
        (true, false) => writer.named("Equal", &[input, &infinity], output, vec![]),
        (false, negative) => {
            let sign = writer.op("Neg", &[input], vec![]);
            // Nothing is greater than infinity.
            writer.named(if negative { "Equal" } else { "Greater" }, &[&sign, &infinity], output, vec![]);
        }
    }
    true
}

/// An `Einsum` of one operand, no letter twice, to a scalar: tract does not add up.
pub(super) fn sum_of_all(node: &NodeProto, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let Some((letters, result)) = text_attribute(node, "equation").and_then(|text| text.split_once("->")) else {
        return false;
    };
    let letters: Vec<char> = letters.chars().filter(|letter| !letter.is_whitespace()).collect();
    let once = letters.iter().enumerate().all(|(index, letter)| !letters[..index].contains(letter));
    if !result.trim().is_empty() || letters.is_empty() || !once || !letters.iter().all(char::is_ascii_alphabetic) {
        return false;
    }
    writer.reduce_to("ReduceSum", input, &[], false, output);
    true
}

/// `Asinh` of FP32 or FP16, which tract squares: of what is large that overflows.
pub(super) fn in_double(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let Some(dtype @ (DataType::Float | DataType::Float16)) = facts.dtype(input) else { return false };
    let wide = writer.cast(input, DataType::Double);
    let found = writer.op(&node.op_type, &[&wide], vec![]);
    writer.named("Cast", &[&found], output, vec![integer("to", dtype as i64)]);
    true
}

/// `HardSwish`, which tract multiplies by the number before it divides by 6: of what is large that overflows.
pub(super) fn hard_swish(node: &NodeProto, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let sixth = writer.op("HardSigmoid", &[input], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
    writer.named("Mul", &[input, &sixth], output, vec![]);
    true
}

/// `Sign` of FP16: ONNX Runtime's is nothing where there is no number.
pub(super) fn sign_of_half(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    if facts.dtype(input) != Some(DataType::Float16) {
        return false;
    }
    let wide = writer.cast(input, DataType::Float);
    let zero = writer.scalar(DataType::Float, 0.0);
    let [above, below] = ["Greater", "Less"].map(|operator| {
        let is_so = writer.op(operator, &[&wide, &zero], vec![]);
        writer.cast(&is_so, DataType::Float)
    });
    let sign = writer.op("Sub", &[&above, &below], vec![]);
    writer.named("Cast", &[&sign], output, vec![integer("to", DataType::Float16 as i64)]);
    true
}
