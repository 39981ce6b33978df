//! Indices that count from the end, which tract's `GatherND` and `ScatterND` do not know, and those beyond the depth of a
//! `OneHot`, on which it panics; ends of a `Slice` beyond any size.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::facts::Facts;
use super::writer::{Writer, integer};
use crate::proto::integer_attribute;

/// The operand of `Slice` that says where it ends.
const ENDS: usize = 2;
/// And that which says how it steps.
const STEPS: usize = 4;
/// More axes than any tensor has.
const MOST_AXES: usize = 16;
/// The largest depth of a `OneHot` whose places are written down.
const DEEPEST: i64 = 1 << 20;

/// The same node on indices to which the sizes are added where they are negative.
pub(super) fn from_the_front(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let (Some(data), Some(indices)) = (node.input.first(), node.input.get(1)) else { return false };
    let known = facts.of(indices);
    // How many axes an index names.
    let depth = known.dims.as_ref().and_then(|dims| dims.last().copied().flatten());
    let (Some(depth), false) = (depth, known.not_negative) else { return false };
    let first = integer_attribute(node, "batch_dims").unwrap_or(0);
    let sizes: Vec<String> = (first..first + depth)
        .map(|axis| {
            let size = match usize::try_from(axis).ok().and_then(|axis| facts.size(data, axis)) {
                Some(size) => writer.scalar(DataType::Int64, size as f64),
                None => {
                    let size = writer.size(data, axis);
                    writer.cast(&size, DataType::Int64)
                }
            };
            writer.unsqueeze(&size, &[0])
        })
        .collect();
    let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
    let sizes = writer.op("Concat", &sizes, vec![integer("axis", 0)]);
    let zero = writer.scalar(DataType::Int64, 0.0);
    let negative = writer.op("Less", &[indices, &zero], vec![]);
    let shifted = writer.op("Add", &[indices, &sizes], vec![]);
    let mut node = node.clone();
    node.input[1] = writer.op("Where", &[&negative, &shifted, indices], vec![]);
    writer.nodes.push(node);
    true
}

/// `Slice` whose constant ends are beyond any size: tract knows some such numbers for "to the end", whatever the direction,
/// and computes with others.
pub(super) fn to_the_end(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let constant =
        |place: usize| node.input.get(place).filter(|name| !name.is_empty()).map(|name| facts.of(name).integers);
    let (Some(Some(mut ends)), steps) = (constant(ENDS), constant(STEPS)) else { return false };
    // The largest of 32 bits tract knows as well, where it is given in 64.
    let wide = facts.dtype(&node.input[ENDS]) == Some(DataType::Int64);
    let sizes = i64::from(i32::MIN) + 1..i64::from(i32::MAX) + i64::from(wide);
    if ends.iter().all(|end| sizes.contains(end)) || steps == Some(None) {
        return false;
    }
    let steps = steps.flatten().unwrap_or_default();
    for (place, end) in ends.iter_mut().enumerate().filter(|(_, end)| !sizes.contains(*end)) {
        let forward = steps.get(place).is_none_or(|step| *step > 0);
        *end = match (*end > 0, forward) {
            (true, true) => i64::MAX,
            (false, false) => i64::MIN,
            // Nothing is between.
            (true, false) => i64::from(i32::MAX) - 1,
            (false, true) => sizes.start,
        };
    }
    let mut node = node.clone();
    node.input[ENDS] = writer.integers(&ends);
    writer.nodes.push(node);
    true
}

/// `OneHot` as a comparison of the indices with all places: what is no place is nowhere on.
pub(super) fn compared(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    let ([indices, depth, values], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let (Some(dtype), Some(&[depth])) = (facts.dtype(indices), facts.of(depth).integers.as_deref()) else {
        return false;
    };
    let axis = integer_attribute(node, "axis").unwrap_or(-1);
    // How many dimensions of the result come after that of the places.
    let after = if axis < 0 { Some(-1 - axis) } else { facts.rank(indices).map(|rank| rank - axis) };
    let Some(after) = after.and_then(|after| usize::try_from(after).ok()).filter(|after| *after < MOST_AXES) else {
        return false;
    };
    if !matches!(dtype, DataType::Int64 | DataType::Int32) || !(1..=DEEPEST).contains(&depth) {
        return false;
    }
    let (size, zero) = (writer.scalar(dtype, depth as f64), writer.scalar(dtype, 0.0));
    let negative = writer.op("Less", &[indices, &zero], vec![]);
    let shifted = writer.op("Add", &[indices, &size], vec![]);
    let places = writer.op("Where", &[&negative, &shifted, indices], vec![]);
    let places = writer.unsqueeze(&places, &[axis]);
    let all = writer.counted(dtype, depth, after);
    let on = writer.op("Equal", &[&places, &all], vec![]);
    let mut value = |place: f64| {
        let place = writer.scalar(DataType::Int64, place);
        writer.op("Gather", &[values, &place], vec![integer("axis", 0)])
    };
    let (off_value, on_value) = (value(0.0), value(1.0));
    writer.named("Where", &[&on, &on_value, &off_value], output, vec![]);
    true
}

/// `Trilu` whose diagonal may be so far out that tract's reckoning overflows.
pub(super) fn diagonal(node: &NodeProto, facts: &Facts, writer: &mut Writer) -> bool {
    const FAR: f64 = (1_i64 << 40) as f64;
    let ([input, diagonal], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return false };
    let is_near = |all: Vec<i64>| all.iter().all(|one| one.unsigned_abs() < FAR as u64);
    if diagonal.is_empty() || facts.of(diagonal).integers.is_some_and(is_near) {
        return false;
    }
    let (above, below) = (writer.scalar(DataType::Int64, FAR), writer.scalar(DataType::Int64, -FAR));
    let diagonal = writer.op("Min", &[diagonal, &above], vec![]);
    let diagonal = writer.op("Max", &[&diagonal, &below], vec![]);
    writer.named("Trilu", &[input, &diagonal], output, node.attribute.clone());
    true
}
