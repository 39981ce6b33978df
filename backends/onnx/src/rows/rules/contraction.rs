//! Products that sum over an axis: matrices and Einstein's notation.

use std::collections::BTreeMap;

use super::super::broadcast::{Part, across, broadcast_shapes};
use super::super::node::{Node, Operands};
use super::super::polynomial::{Polynomial, Symbols};
use super::super::value::{Outcome, Place, Shape, Value, mixes, unknown};
use super::{Rule, uniform};

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "MatMul" => matrices,
        "MatMulInteger" => integer_matrices,
        "QLinearMatMul" => quantised_matrices,
        "Gemm" => gemm,
        "Einsum" => einsum,
        _ => return None,
    })
}

fn matrices(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let (one, two) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    product(one, two, symbols).map(|value| vec![value])
}

fn integer_matrices(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for (index, of) in [(2, 0), (3, 1)] {
        zero_point(operands, index, of)?;
    }
    let (one, two) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    product(one, two, symbols).map(|value| vec![value])
}

/// A zero point of its own for each row would go along with its operand; exporters write one number.
fn zero_point(operands: Operands<'_>, index: usize, of: usize) -> Outcome<()> {
    uniform(operands, index, "zero point")?;
    let has_rows = operands.get(of).is_some_and(|value| value.place().is_some());
    match operands.get(index) {
        Some(zero) if has_rows && !zero.is_single() => unknown("it has several zero points"),
        _ => Ok(()),
    }
}

fn quantised_matrices(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    for index in [1, 2, 4, 5, 6, 7] {
        uniform(operands, index, "scale or zero point")?;
    }
    let (one, two) = (Part::of(operands.required(0)?)?, Part::of(operands.required(3)?)?);
    let several = |index: usize| operands.get(index).is_some_and(|value| !value.is_single());
    if (one.place.is_some() && (several(1) || several(2))) || (two.place.is_some() && (several(4) || several(5))) {
        return unknown("it has several scales along the rows");
    }
    let has_rows = one.place.is_some() || two.place.is_some();
    if has_rows && [6, 7].iter().any(|index| several(*index)) {
        return unknown("its result has several scales");
    }
    product(one, two, symbols).map(|value| vec![value])
}

/// The product of matrices, or of stacks of them, as numpy's `matmul`.
pub(super) fn product(one: Part<'_>, two: Part<'_>, symbols: &mut Symbols) -> Outcome<Value> {
    let padded = |part: Part<'_>, in_front: bool| {
        let mut shape = part.shape.to_vec();
        let mut place = part.place.cloned();
        if shape.len() == 1 && in_front {
            shape.insert(0, Polynomial::constant(1));
            place.iter_mut().for_each(|place| place.axis += 1);
        } else if shape.len() == 1 {
            shape.push(Polynomial::constant(1));
        }
        (shape, place)
    };
    let ((left, left_place), (right, right_place)) = (padded(one, true), padded(two, false));
    let (Some(stack), Some(other_stack)) = (left.len().checked_sub(2), right.len().checked_sub(2)) else {
        return unknown("an operand is a scalar");
    };
    let rank = stack.max(other_stack) + 2;
    if left_place.as_ref().is_some_and(|place| place.axis == stack + 1)
        || right_place.as_ref().is_some_and(|place| place.axis == other_stack)
    {
        return mixes("sums over the rows");
    }
    let in_stack = |place: &Option<Place>, stack: usize| place.clone().filter(|place| place.axis < stack);
    let (left_stacked, right_stacked) = (in_stack(&left_place, stack), in_stack(&right_place, other_stack));
    let parts = [
        Part { shape: &left[..stack], place: left_stacked.as_ref() },
        Part { shape: &right[..other_stack], place: right_stacked.as_ref() },
    ];
    let (mut shape, mut place) = broadcast_shapes(&parts, symbols)?;
    let as_row = left_place.filter(|place| place.axis == stack).map(|place| place.moved(rank - 2));
    let as_column = right_place.filter(|place| place.axis == other_stack + 1).map(|place| place.moved(rank - 1));
    for rows in [as_row, as_column].into_iter().flatten() {
        if place.replace(rows).is_some() {
            return mixes("multiplies each row with every other");
        }
    }
    shape.extend([left[stack].clone(), right[other_stack + 1].clone()]);
    let mut gone = Vec::new();
    if two.shape.len() == 1 {
        gone.push(rank - 1);
    }
    if one.shape.len() == 1 {
        gone.push(rank - 2);
    }
    for axis in gone {
        shape.remove(axis);
        place.iter_mut().filter(|place| place.axis > axis).for_each(|place| place.axis -= 1);
    }
    Value::of(shape, place)
}

fn turned(part: Part<'_>, is_turned: bool) -> Outcome<(Shape, Option<Place>)> {
    let [rows, columns] = part.shape else { return unknown("an operand is not a matrix") };
    Ok(if is_turned {
        (vec![columns.clone(), rows.clone()], part.place.map(|place| place.moved(1 - place.axis)))
    } else {
        (part.shape.to_vec(), part.place.cloned())
    })
}

pub(super) fn gemm(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let (left, left_place) = turned(Part::of(operands.required(0)?)?, node.is_set("transA"))?;
    let (right, right_place) = turned(Part::of(operands.required(1)?)?, node.is_set("transB"))?;
    let left = Part { shape: &left, place: left_place.as_ref() };
    let product = product(left, Part { shape: &right, place: right_place.as_ref() }, symbols)?;
    match operands.get(2) {
        Some(bias) => broadcast_shapes(&[Part::of(&product)?, Part::of(bias)?], symbols)
            .and_then(|(shape, place)| Ok(vec![Value::of(shape, place)?])),
        None => Ok(vec![product]),
    }
}

fn einsum(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let equation: String = node.text("equation").unwrap_or_default().split_whitespace().collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let parts: Vec<Part<'_>> = operands.all().map(Part::of).collect::<Outcome<_>>()?;
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != parts.len() {
        return unknown("its equation has another number of terms than it has operands");
    }
    // The axes behind an ellipsis are broadcast from the right: they are numbered from there.
    let mut sizes: BTreeMap<Label, Vec<&Polynomial>> = BTreeMap::new();
    let mut rows: Option<(Label, &Polynomial)> = None;
    let mut labelled = Vec::new();
    for (term, part) in terms.iter().zip(&parts) {
        let labels = labels(term, part.shape.len())?;
        for (label, size) in labels.iter().zip(part.shape) {
            sizes.entry(*label).or_default().push(size);
        }
        if let Some(place) = part.place {
            let label = labels[place.axis];
            if place.outer.as_constant() != Some(1) {
                return unknown("the rows are not one after the other");
            }
            if labels.iter().filter(|other| **other == label).count() > 1
                || rows.is_some_and(|(known, _)| known != label)
            {
                return mixes("brings each row together with every other");
            }
            rows = Some((label, &part.shape[place.axis]));
        }
        labelled.push(labels);
    }
    let result = match right {
        Some(right) => {
            let ellipsis = sizes.keys().filter(|label| matches!(label, Label::Behind(_))).count();
            let letters = right.replace("...", "").len();
            labels(right, letters + if right.contains("...") { ellipsis } else { 0 })?
        }
        None => implicit(&labelled),
    };
    let place = match rows {
        None => None,
        Some((label, size)) => {
            if sizes[&label].iter().any(|other| *other != size) {
                return unknown("an operand without rows has the axis of the rows");
            }
            let Some(axis) = result.iter().position(|other| *other == label) else {
                return mixes("sums over the rows");
            };
            Some(Place::at(axis))
        }
    };
    let shape = result.iter().map(|label| sizes.get(label).map(|all| across(all.iter().copied(), symbols)));
    match shape.collect::<Option<Shape>>() {
        Some(shape) => Ok(vec![Value::of(shape, place)?]),
        None => unknown("its equation has a result that no operand has"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// An axis that the ellipsis stands for, counted from its end, the last first.
    Behind(std::cmp::Reverse<usize>),
    Letter(char),
}

fn labels(term: &str, rank: usize) -> Outcome<Vec<Label>> {
    let (front, back) = term.split_once("...").unwrap_or((term, ""));
    let letters = front.chars().count() + back.chars().count();
    let hidden = match (term.contains("..."), rank.checked_sub(letters)) {
        (true, Some(hidden)) => hidden,
        (false, Some(0)) => 0,
        _ => return unknown("its equation does not fit its operands"),
    };
    let behind = (0..hidden).rev().map(|index| Label::Behind(std::cmp::Reverse(index)));
    Ok(front.chars().map(Label::Letter).chain(behind).chain(back.chars().map(Label::Letter)).collect())
}

/// Without a right side: the ellipsis, and the letters that are there once, in the order of the alphabet.
fn implicit(labelled: &[Vec<Label>]) -> Vec<Label> {
    let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
    for label in labelled.iter().flatten() {
        *counts.entry(*label).or_default() += 1;
    }
    let once = |(label, count): (Label, usize)| (count == 1 || matches!(label, Label::Behind(_))).then_some(label);
    counts.into_iter().filter_map(once).collect()
}
