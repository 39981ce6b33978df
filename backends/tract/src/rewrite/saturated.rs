//! Numbers at the ends of their types, where tract goes on and ONNX Runtime stops, or the other way round.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::facts::Facts;
use super::writer::Writer;

/// Since this operator set the bounds of `Clip` are operands.
const BOUNDS_AS_OPERANDS: i64 = 11;
/// The largest FP16.
const LARGEST_HALF: f64 = 65504.0;
/// More quotients than an integer of 8 or 16 bits has values, and far from the ends of 32 bits.
const BEYOND: f64 = 16_777_216.0;

/// `Clip` without a bound, which is the largest finite number then: tract leaves what is infinite. Of FP16 at
/// first it was infinity.
pub(super) fn clip(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else { return false };
    let (dtype, largest) = match facts.dtype(input) {
        Some(dtype @ DataType::Float) => (dtype, f64::from(f32::MAX)),
        Some(dtype @ DataType::Double) => (dtype, f64::MAX),
        Some(dtype @ DataType::Float16) if writer.opset > BOUNDS_AS_OPERANDS => (dtype, LARGEST_HALF),
        _ => return false,
    };
    let bounds = [("min", -largest), ("max", largest)];
    if writer.opset < BOUNDS_AS_OPERANDS {
        let has = |name: &str| node.attribute.iter().any(|attribute| attribute.name == name);
        let missing = bounds.into_iter().filter(|(name, _)| !has(name)).map(|(name, bound)| AttributeProto {
            name: name.to_owned(),
            r#type: AttributeType::Float as i32,
            f: bound as f32,
            ..AttributeProto::default()
        });
        let missing: Vec<AttributeProto> = missing.collect();
        if missing.is_empty() {
            return false;
        }
        let attributes = node.attribute.iter().cloned().chain(missing).collect();
        writer.named("Clip", &[input], output, attributes);
        return true;
    }
    let given = |place: usize| node.input.get(place).filter(|name| !name.is_empty()).cloned();
    if given(1).is_some() && given(2).is_some() {
        return false;
    }
    let [least, most] = [1, 2].map(|place| given(place).unwrap_or_else(|| writer.scalar(dtype, bounds[place - 1].1)));
    writer.named("Clip", &[input, &least, &most], output, vec![]);
    true
}

/// `QuantizeLinear` of what is so large that the quotient and the zero point together go beyond 32 bits, and on from their other
/// end.
pub(super) fn quantised(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([input, scale, zero @ ..], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let (Some(dtype), Some(zero)) = (facts.dtype(scale), zero.first().filter(|name| !name.is_empty())) else {
        return false;
    };
    let fits =
        facts.dtype(input) == Some(dtype) && facts.rank(input).is_some_and(|rank| facts.rank(scale) <= Some(rank));
    if !fits {
        return false;
    }
    // Those of several scales are computed in FP32.
    if !matches!(facts.rank(scale), Some(0 | 1)) || facts.rank(scale) == Some(1) && facts.size(scale, 0) != Some(1) {
        return false;
    }
    let zeros = facts.of(zero).integers;
    let has = |sign: fn(i64) -> bool| zeros.as_ref().is_none_or(|zeros| zeros.iter().any(|zero| sign(*zero)));
    let mut bounded = input.clone();
    for (sign, operator, end) in [(has(|zero| zero > 0), "Min", BEYOND), (has(|zero| zero < 0), "Max", -BEYOND)] {
        if sign {
            let end = writer.scalar(dtype, end);
            let end = writer.op("Mul", &[scale, &end], vec![]);
            bounded = writer.op(operator, &[&bounded, &end], vec![]);
        }
    }
    if bounded == *input {
        return false;
    }
    writer.named("QuantizeLinear", &[&bounded, scale, zero], output, node.attribute.clone());
    true
}

/// `DynamicQuantizeLinear`, whose scale is 1 where all numbers are 0.
pub(super) fn scale_of_nothing(node: &NodeProto, writer: &mut Writer) -> bool {
    let [quantised, scale, zero] = node.output.as_slice() else { return false };
    if scale.is_empty() {
        return false;
    }
    let found = writer.fresh();
    let mut own = node.clone();
    own.output = vec![quantised.clone(), found.clone(), zero.clone()];
    writer.nodes.push(own);
    let (nothing, one) = (writer.scalar(DataType::Float, 0.0), writer.scalar(DataType::Float, 1.0));
    let is_nothing = writer.op("Equal", &[&found, &nothing], vec![]);
    writer.named("Where", &[&is_nothing, &one, &found], scale, vec![]);
    true
}
