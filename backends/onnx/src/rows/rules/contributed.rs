//! Operators that ONNX Runtime adds, in the forms that its optimiser and its quantiser write.

use super::super::broadcast::{Part, broadcast};
use super::super::node::{Node, Operands};
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Outcome, Place, Shape, Value, axis_of, mixes, unknown};
use super::contraction;
use super::elementwise;
use super::layout::joined;
use super::reduction::layer_normalization;
use super::{Rule, uniform};

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Gelu" | "QuickGelu" => elementwise::unary,
        "FastGelu" | "BiasGelu" => elementwise::several,
        "FusedMatMul" => fused_matrices,
        "FusedGemm" => contraction::gemm,
        "MatMulNBits" | "MatMulBnb4" | "MatMulFpQ4" => packed_matrices,
        "MatMulIntegerToFloat" => integer_to_float,
        "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => dynamic,
        "SimplifiedLayerNormalization" => layer_normalization,
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip_normalization,
        "EmbedLayerNormalization" => embed_normalization,
        "QLinearAdd" | "QLinearMul" => quantised_pair,
        "QLinearSigmoid" | "QLinearLeakyRelu" => quantised_unary,
        "QLinearGlobalAveragePool" | "QLinearAveragePool" => quantised_pool,
        "DequantizeLinear" | "QuantizeLinear" => return elementwise::rule(operator),
        "QLinearConcat" => quantised_join,
        "QLinearSoftmax" => quantised_softmax,
        "QGemm" => quantised_gemm,
        "FusedConv" => fused_convolution,
        "NhwcMaxPool" => last_channels_pool,
        "Trilu" => return super::window::rule(operator),
        "RotaryEmbedding" => rotary,
        "MultiHeadAttention" | "Attention" => fused_attention,
        _ => return None,
    })
}

fn fused_matrices(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    if node.is_set("transBatchA") || node.is_set("transBatchB") {
        return unknown("turns its stacks");
    }
    let turned = |index: usize, attribute: &str| {
        let part = Part::of(operands.required(index)?)?;
        let (mut shape, mut place) = (part.shape.to_vec(), part.place.cloned());
        if node.is_set(attribute) && shape.len() > 1 {
            let (one, two) = (shape.len() - 2, shape.len() - 1);
            shape.swap(one, two);
            if let Some(place) = place.as_mut().filter(|place| place.axis >= one) {
                place.axis = one + two - place.axis;
            }
        }
        Ok((shape, place))
    };
    let ((left, left_place), (right, right_place)): ((Shape, Option<Place>), (Shape, Option<Place>)) =
        (turned(0, "transA")?, turned(1, "transB")?);
    let (left, right) =
        (Part { shape: &left, place: left_place.as_ref() }, Part { shape: &right, place: right_place.as_ref() });
    contraction::product(left, right, symbols).map(|value| vec![value])
}

/// Weights in a few bits each, with the numbers of their rows and columns beside them.
fn packed_matrices(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    for index in 1..node.operands() {
        uniform(operands, index, "weights")?;
    }
    let last = axis_of(-1, part.shape.len())?;
    if part.place.is_some_and(|place| place.axis == last) {
        return mixes("sums over the rows");
    }
    let Some(columns) = node.integer("N") else { return unknown("how many columns it makes is not known") };
    let mut shape = part.shape.to_vec();
    shape[last] = Polynomial::constant(columns);
    Ok(vec![Value::of(shape, part.place.cloned())?])
}

fn integer_to_float(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in 2..7 {
        uniform(operands, index, "scale or zero point")?;
    }
    let several = |index: usize| operands.get(index).is_some_and(|value| !value.is_single());
    let (one, two) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    if two.place.is_some() || several(2) || several(4) {
        return unknown("it has several scales along the rows");
    }
    let product = contraction::product(one, two, symbols)?;
    match operands.get(6) {
        Some(bias) => broadcast(&[&product, bias], symbols).map(|value| vec![value]),
        None => Ok(vec![product]),
    }
}

fn dynamic(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = operands.required(0)?;
    mixes("one scale, that of the largest element of all rows, is used for each")
}

fn skip_normalization(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let sum = broadcast(&[operands.required(0)?, operands.required(1)?], symbols)?;
    for index in 2..node.operands() {
        uniform(operands, index, "scale or bias")?;
        if operands.get(index).is_some_and(|parameter| parameter.rank().is_ok_and(|rank| rank > 1)) {
            return unknown("its scale or bias is not that of one row");
        }
    }
    let part = Part::of(&sum)?;
    let last = axis_of(-1, part.shape.len())?;
    if part.place.is_some_and(|place| place.axis == last) {
        return mixes("normalises over the axis of the rows");
    }
    let single = |axis: usize| if axis == last { Polynomial::constant(1) } else { part.shape[axis].clone() };
    let statistics = Value::of((0..part.shape.len()).map(single).collect(), part.place.cloned())?;
    let all = [sum.clone(), statistics.clone(), statistics, sum.clone()];
    Ok(all.into_iter().take(node.results()).collect())
}

/// Words, and kinds of them where the model tells two: batch by steps.
fn embed_normalization(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let words = Part::of(operands.required(0)?)?;
    let [rows, steps] = words.shape else { return unknown("its words are not a batch of lists") };
    if words.place.is_some_and(|place| place.axis != 0) {
        return mixes("places and counts the rows as steps");
    }
    for index in (1..node.operands()).filter(|index| !(2..=6).contains(index)) {
        let Some(own) = operands.get(index) else { continue };
        let own = Part::of(own)?;
        if own.place != words.place || own.shape.first() != Some(rows) {
            return unknown("its operands do not go along with the rows");
        }
    }
    for index in 2..=6 {
        uniform(operands, index, "table")?;
    }
    let width = operands.required(2)?.shape()?.last().cloned().unwrap_or_else(|| symbols.fresh(Kind::Size));
    let all = vec![rows.clone(), steps.clone(), width];
    let place = words.place.cloned();
    let values =
        [Value::of(all.clone(), place.clone())?, Value::of(vec![rows.clone()], place.clone())?, Value::of(all, place)?];
    Ok(values.into_iter().take(node.results()).collect())
}

/// Each operand is followed by its scale and its zero point.
fn quantised_pair(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in [1, 2, 4, 5, 6, 7] {
        uniform(operands, index, "scale or zero point")?;
    }
    broadcast(&[operands.required(0)?, operands.required(3)?], symbols).map(|value| vec![value])
}

fn quantised_unary(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in 1..5 {
        uniform(operands, index, "scale or zero point")?;
    }
    broadcast(&[operands.required(0)?], symbols).map(|value| vec![value])
}

fn quantised_pool(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in 1..5 {
        uniform(operands, index, "scale or zero point")?;
    }
    let part = Part::of(operands.required(0)?)?;
    let last = part.shape.len().saturating_sub(1);
    let covered = |axis: usize| if node.is_set("channels_last") { axis > 0 && axis < last } else { axis > 1 };
    if part.place.is_some_and(|place| covered(place.axis)) {
        return mixes("pools the rows");
    }
    let global = node.operator() == "QLinearGlobalAveragePool";
    let mut size = |axis: usize| match (covered(axis), global) {
        (true, true) => Polynomial::constant(1),
        (true, false) => symbols.fresh(Kind::Size),
        (false, _) => part.shape[axis].clone(),
    };
    let shape = (0..part.shape.len()).map(&mut size).collect();
    Ok(vec![Value::of(shape, part.place.cloned())?])
}

/// Batch by steps by features, and a mask of which every form that has rows has them first.
fn fused_attention(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let input = Part::of(operands.required(0)?)?;
    if node.results() > 1 || input.shape.len() != 3 {
        return unknown("is used in a form that is not known");
    }
    let packed = node.operator() == "Attention";
    let first = Place::at(0);
    for index in 0..node.operands() {
        let Some(own) = operands.get(index) else { continue };
        // Weights and bias of the one, and the bias of the other.
        if (packed && matches!(index, 1 | 2)) || (!packed && index == 3) {
            uniform(operands, index, "weights")?;
            continue;
        }
        let own = Part::of(own)?;
        let repeats = own.shape.len() == 4 && own.shape[0].is(1);
        let fits = match (own.place, input.place) {
            (None, None) => true,
            // What is added to the scores may be the same for all.
            (None, Some(_)) if index == 5 && repeats => true,
            (Some(rows), Some(_)) => *rows == first && own.shape[0] == input.shape[0],
            _ => false,
        };
        if !fits {
            return unknown("its operands do not go along with the rows");
        }
    }
    if input.place.is_some_and(|place| *place != first) {
        return mixes("attends over the rows");
    }
    let width = if packed {
        symbols.fresh(Kind::Size)
    } else {
        operands
            .get(2)
            .and_then(|values| values.shape.as_ref()?.last().cloned())
            .unwrap_or_else(|| symbols.fresh(Kind::Size))
    };
    Ok(vec![Value::of(vec![input.shape[0].clone(), input.shape[1].clone(), width], input.place.cloned())?])
}

/// Behind the scale and the zero point of the result: each operand with its own.
fn quantised_join(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let mut parts = Vec::new();
    for index in 0..node.operands() {
        if index < 2 || index % 3 != 2 {
            uniform(operands, index, "scale or zero point")?;
        } else {
            parts.push(operands.required(index)?);
        }
    }
    let Some(first) = parts.first() else { return unknown("it has no operand") };
    let Some(axis) = node.integer("axis") else { return unknown("its axis is not known") };
    let axis = axis_of(axis, first.rank()?)?;
    joined(&parts, axis, symbols).map(|value| vec![value])
}

fn quantised_softmax(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in 1..5 {
        uniform(operands, index, "scale or zero point")?;
    }
    let part = Part::of(operands.required(0)?)?;
    let (Some(axis), Some(opset)) = (node.integer("axis"), node.integer("opset")) else {
        return unknown("its axis is not known");
    };
    let axis = axis_of(axis, part.shape.len())?;
    // Which axes it covers depends on the operator set that the softmax had before.
    if part.place.is_some_and(|place| if opset < 13 { place.axis >= axis } else { place.axis == axis }) {
        return mixes("normalises over the axis of the rows");
    }
    Ok(vec![Value::of(part.shape.to_vec(), part.place.cloned())?])
}

/// The operands are those of a product, each with its scale and its zero point, then a bias.
fn quantised_gemm(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in 1..9 {
        uniform(operands, index, "weights, scale or zero point")?;
    }
    if [1, 2, 7, 8].iter().any(|index| operands.get(*index).is_some_and(|value| !value.is_single())) {
        return unknown("it has several scales along the rows");
    }
    let given = [0, 3, 6].map(|index| operands.get(index).cloned());
    contraction::gemm(node, Operands(&given), symbols)
}

/// A convolution to which a tensor of the result's shape may be added.
fn fused_convolution(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let values = super::network::convolution(node, Operands(operands.0.get(..3).unwrap_or(operands.0)), symbols)?;
    match (values.first(), operands.get(3)) {
        (Some(value), Some(added)) => broadcast(&[value, added], symbols).map(|value| vec![value]),
        _ => Ok(values),
    }
}

fn last_channels_pool(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let last = part.shape.len().saturating_sub(1);
    if part.place.is_some_and(|place| place.axis != 0) {
        return mixes("pools the rows");
    }
    let mut size =
        |axis: usize| if axis == 0 || axis == last { part.shape[axis].clone() } else { symbols.fresh(Kind::Size) };
    let shape = (0..part.shape.len()).map(&mut size).collect();
    Ok(vec![Value::of(shape, part.place.cloned())?])
}

/// Positions are one number where all steps follow it, or those of each row; the tables are the same for all.
fn rotary(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let (part, positions) = (Part::of(value)?, Part::of(operands.required(1)?)?);
    uniform(operands, 2, "table")?;
    uniform(operands, 3, "table")?;
    if part.place.is_some_and(|place| place.axis != 0) {
        return mixes("takes the rows for steps");
    }
    let own = positions.place == part.place && positions.shape.first() == part.shape.first();
    let single =
        positions.place.is_none() && positions.shape.iter().all(|size| size.is(1)) && positions.shape.len() == 1;
    if own || single {
        broadcast(&[value], symbols).map(|value| vec![value])
    } else {
        unknown("its positions do not go along with the rows")
    }
}
