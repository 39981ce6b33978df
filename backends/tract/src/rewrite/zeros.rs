//! Products with a constant of zeros, which tract takes for zeros: of what is not finite they are NaN.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::Facts;
use super::writer::Writer;

/// `Mul` by a constant of zeros, or by what sizes may make zeros.
pub(super) fn product(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([left, right], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    const FRACTIONS: [DataType; 4] = [DataType::Float, DataType::Double, DataType::Float16, DataType::Bfloat16];
    if facts.dtype(left).or(facts.dtype(right)).is_none_or(|dtype| !FRACTIONS.contains(&dtype)) {
        return false;
    }
    let may_be_zero = |name: &str| {
        let fact = facts.of(name);
        fact.is_fixed.then_some(fact.is_zero).filter(|is_zero| *is_zero != Some(false))
    };
    let (value, fixed, is_zero) = match (may_be_zero(left), may_be_zero(right)) {
        (_, Some(is_zero)) => (left, right, is_zero),
        (Some(is_zero), None) => (right, left, is_zero),
        (None, None) => return false,
    };
    let difference = writer.op("Sub", &[value, value], vec![]);
    if is_zero == Some(true) {
        writer.named("Add", &[&difference, fixed], output, vec![]);
        return true;
    }
    // Where it is known which it is, tract takes the other out.
    let nothing = writer.op("Sub", &[fixed, fixed], vec![]);
    let condition = writer.op("Equal", &[fixed, &nothing], vec![]);
    let of_nothing = writer.op("Add", &[&difference, fixed], vec![]);
    let product = writer.op("Mul", &[left, right], vec![]);
    writer.named("Where", &[&condition, &of_nothing, &product], output, vec![]);
    true
}

/// `PRelu` whose slopes are all zero.
pub(super) fn slope(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input, slope], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let (Some(dtype), Some(true)) = (facts.dtype(input), facts.of(slope).is_zero) else { return false };
    let zero = writer.scalar(dtype, 0.0);
    let is_negative = writer.op("Less", &[input, &zero], vec![]);
    let difference = writer.op("Sub", &[input, input], vec![]);
    let product = writer.op("Add", &[&difference, slope], vec![]);
    writer.named("Where", &[&is_negative, &product, input], output, vec![]);
    true
}

/// `LayerNormalization` and `RMSNormalization` whose scale is all zeros: with a scale of ones, less itself, and the bias.
pub(super) fn scale(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input, scale, bias @ ..], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let Some(ones) = ones(scale, facts, writer) else { return false };
    let normal = writer.op(&node.op_type, &[input, &ones], node.attribute.clone());
    match bias.first().filter(|bias| !bias.is_empty()) {
        Some(bias) => {
            let nothing = writer.op("Sub", &[&normal, &normal], vec![]);
            writer.named("Add", &[&nothing, bias], output, vec![]);
        }
        None => writer.named("Sub", &[&normal, &normal], output, vec![]),
    }
    true
}

/// `BatchNormalization` whose scale is all zeros: likewise, and another for the bias, which belongs to an axis within.
pub(super) fn scale_of_batch(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input, scale, bias, mean, variance], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
        return false;
    };
    let Some(ones) = ones(scale, facts, writer) else { return false };
    let normal = writer.op("BatchNormalization", &[input, &ones, scale, mean, variance], node.attribute.clone());
    let nothing = writer.op("Sub", &[&normal, &normal], vec![]);
    writer.named("BatchNormalization", &[&nothing, &ones, bias, scale, &ones], output, node.attribute.clone());
    true
}

/// A constant of ones in place of one of zeros.
fn ones(zeros: &str, facts: &Facts, writer: &mut Writer) -> Option<String> {
    let fact = facts.of(zeros);
    let dims: Vec<i64> = fact.dims?.into_iter().collect::<Option<_>>()?;
    (fact.is_zero == Some(true)).then(|| writer.filled(fact.dtype.unwrap_or(DataType::Float), &dims, 1.0))
}
