//! Operators that take a part of an axis, or make it longer.

use super::super::broadcast::Part;
use super::super::node::{Node, Operands};
use super::super::numbers;
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Outcome, Place, Rows, Shape, Value, axis_of, mixes, unknown};
use super::{Rule, axes, listed, uniform};

/// Since these operator sets bounds, and the sizes of a resize, are operands.
const BOUNDS_AS_OPERANDS: i64 = 10;
const PADS_AS_OPERAND: i64 = 11;
const RESIZE_WITH_SIZES: i64 = 11;

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Slice" => slice,
        "Pad" => pad,
        "Resize" | "Upsample" => resize,
        "CenterCropPad" => center_crop_pad,
        "Trilu" => trilu,
        _ => return None,
    })
}

/// The bounds of a slice: along each named axis.
struct Bounds {
    axes: Vec<usize>,
    starts: Vec<Polynomial>,
    ends: Vec<Polynomial>,
    steps: Vec<Polynomial>,
}

impl Bounds {
    fn of(node: &Node<'_>, operands: Operands<'_>, rank: usize) -> Outcome<Self> {
        let constants = |name: &str| {
            node.integers(name).map(|values| values.iter().copied().map(Polynomial::constant).collect::<Vec<_>>())
        };
        let known = |index: usize| match operands.get(index) {
            None => Ok(None),
            Some(value) => match value.elements() {
                Some(elements) => Ok(Some(elements.to_vec())),
                None if value.is_same() => unknown("its bounds are not known"),
                None => mixes("its bounds come from the rows"),
            },
        };
        let (starts, ends, axes, steps) = if node.opset < BOUNDS_AS_OPERANDS && node.has("starts") {
            (constants("starts"), constants("ends"), constants("axes"), None)
        } else {
            (known(1)?, known(2)?, known(3)?, known(4)?)
        };
        let (Some(starts), Some(ends)) = (starts, ends) else { return unknown("its bounds are not known") };
        let axes = match axes {
            Some(axes) => {
                let axes: Option<Vec<i64>> = axes.iter().map(Polynomial::as_constant).collect();
                let Some(axes) = axes else { return unknown("its axes are not known") };
                listed(&axes, rank)?
            }
            None => (0..starts.len()).collect(),
        };
        let steps = steps.unwrap_or_else(|| vec![Polynomial::constant(1); starts.len()]);
        let fits = [starts.len(), ends.len(), steps.len()].iter().all(|length| *length == axes.len());
        if fits && axes.iter().all(|axis| *axis < rank) {
            Ok(Self { axes, starts, ends, steps })
        } else {
            unknown("its bounds do not fit")
        }
    }
}

fn slice(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let mut shape = value.shape()?.to_vec();
    let bounds = Bounds::of(node, operands, shape.len())?;
    if let (Some(numbers), [axis]) = (&value.numbers, bounds.axes.as_slice()) {
        let constant = |bound: &[Polynomial]| bound[0].as_constant();
        let (Some(start), Some(end), Some(step), Some(size)) =
            (constant(&bounds.starts), constant(&bounds.ends), constant(&bounds.steps), shape[*axis].as_constant())
        else {
            return if value.is_same() {
                unknown("its bounds are not known")
            } else {
                mixes("takes a part of the sizes that is not known")
            };
        };
        let places = taken(size, start, end, step);
        let Some(elements) = numbers::picked(numbers, &shape, *axis, &places) else {
            return unknown("its bounds do not fit");
        };
        shape[*axis] = Polynomial::constant(places.len() as i64);
        return Ok(vec![Value::numbers(shape, elements, numbers.whole)]);
    }
    if value.rows == Rows::Count {
        return mixes("computes with the number of rows");
    }
    for (index, &axis) in bounds.axes.iter().enumerate() {
        let (start, end, step) = (&bounds.starts[index], &bounds.ends[index], &bounds.steps[index]);
        if is_whole(&shape[axis], start, end, step) {
            continue;
        }
        if value.place().is_some_and(|place| place.axis == axis) {
            return mixes("takes a part of the rows");
        }
        if [start, end, step].iter().any(|bound| bound.has_rows()) {
            return mixes("takes as much of a row as there are rows");
        }
        shape[axis] = length(&shape[axis], start, end, step, symbols);
    }
    Ok(vec![Value::of(shape, value.place().cloned())?])
}

/// Whether a slice takes all of an axis.
fn is_whole(size: &Polynomial, start: &Polynomial, end: &Polynomial, step: &Polynomial) -> bool {
    /// What exporters write for the end of an axis, and more than any axis has.
    const BEHIND: i64 = 1_000_000_000;
    start.is(0) && step.is(1) && (end == size || end.as_constant().is_some_and(|end| end >= BEHIND))
}

/// How many elements a slice takes: a number, a difference of sizes, or a size of its own.
fn length(
    size: &Polynomial,
    start: &Polynomial,
    end: &Polynomial,
    step: &Polynomial,
    symbols: &mut Symbols,
) -> Polynomial {
    let constant = |bound: &Polynomial| bound.as_constant();
    match (constant(size), constant(start), constant(end), constant(step)) {
        (Some(size), Some(start), Some(end), Some(step)) if step != 0 => {
            let (start, end) = clamped(size, start, end, step);
            Polynomial::constant(count(start, end, step))
        }
        // From the front to a bound that was computed from the size, or from a bound to the end of the axis.
        (_, Some(0), None, Some(1))
            if symbols.is_size(end)
                && symbols.is_amount(end)
                && size.minus(end).is_some_and(|rest| symbols.is_amount(&rest)) =>
        {
            end.clone()
        }
        // A table with a place for each step that there can be.
        (Some(most), Some(0), None, Some(1)) if most > 1 && symbols.is_size(end) && symbols.is_amount(end) => {
            symbols.limited(most, end)
        }
        _ => symbols.named(format!("slice {size:?} {start:?} {end:?} {step:?}"), Kind::Size),
    }
}

/// The bounds of a slice within an axis, as ONNX says: negative ones count from the end.
fn clamped(size: i64, start: i64, end: i64, step: i64) -> (i64, i64) {
    let from_end = |bound: i64| if bound < 0 { bound.saturating_add(size) } else { bound };
    let (start, end) = (from_end(start), from_end(end));
    if step > 0 || size == 0 {
        (start.clamp(0, size), end.clamp(0, size))
    } else {
        (start.clamp(0, (size - 1).max(0)), end.clamp(-1, (size - 1).max(-1)))
    }
}

fn count(start: i64, end: i64, step: i64) -> i64 {
    let distance = if step > 0 { end.saturating_sub(start) } else { start.saturating_sub(end) };
    let step = step.saturating_abs().max(1);
    distance.max(0).saturating_add(step - 1) / step
}

/// The places of an axis that a slice takes.
fn taken(size: i64, start: i64, end: i64, step: i64) -> Vec<usize> {
    if step == 0 {
        return Vec::new();
    }
    let (start, end) = clamped(size, start, end, step);
    let places = (0..count(start, end, step)).map(|index| start + index * step);
    places.filter_map(|place| usize::try_from(place).ok()).collect()
}

fn pad(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    uniform(operands, 2, "value")?;
    let rank = part.shape.len();
    let pads: Vec<Polynomial> = if node.opset < PADS_AS_OPERAND && operands.get(1).is_none() {
        let given = node.integers("pads").or_else(|| node.integers("paddings")).unwrap_or_default();
        given.iter().copied().map(Polynomial::constant).collect()
    } else {
        let given = operands.required(1)?;
        match given.elements() {
            Some(elements) => elements.to_vec(),
            None if given.is_same() => return unknown("how much it pads is not known"),
            None => return mixes("how much it pads comes from the rows"),
        }
    };
    let padded: Vec<usize> = match axes(node, operands, 3)? {
        Some(axes) => listed(&axes, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * padded.len() {
        return unknown("how much it pads does not fit");
    }
    let mut shape = part.shape.to_vec();
    for (index, axis) in padded.iter().enumerate() {
        let (before, after) = (&pads[index], &pads[index + padded.len()]);
        if before.is(0) && after.is(0) {
            continue;
        }
        if part.place.is_some_and(|place| place.axis == *axis) {
            return mixes("pads the axis of the rows");
        }
        let longer = shape[*axis].plus(before).and_then(|sum| sum.plus(after));
        let longer = longer.filter(|size| symbols.is_size(size) || size.has_rows());
        shape[*axis] =
            longer.unwrap_or_else(|| symbols.named(format!("pad {:?} {before:?} {after:?}", shape[*axis]), Kind::Size));
    }
    Ok(vec![Value::of(shape, part.place.cloned())?])
}

/// Kernels weigh neighbours along each axis but the first of a stack of pictures, also along one that is not named, at a scale of 1 by
/// 0, and 0 times what is no number is none.
fn weighs_rows(node: &Node<'_>, rows: Option<&Place>, rank: usize) -> bool {
    let interpolates = matches!(node.text("mode"), Some("linear" | "cubic"));
    interpolates && rows.is_some_and(|rows| rows.axis > 0 || rank < 4)
}

fn resize(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let rank = part.shape.len();
    if node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize") {
        uniform(operands, 1, "region")?;
        if part.place.is_some() {
            return unknown("crops the rows");
        }
    }
    let resized: Vec<usize> = match node.integers("axes") {
        Some(axes) => listed(axes, rank)?,
        None => (0..rank).collect(),
    };
    // Before operator set 11 the only operand behind the tensor is the scales.
    let stretches = node.text("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch");
    if !stretches && part.place.is_some_and(|place| resized.contains(&place.axis)) {
        return mixes("one scale, that depends on the number of rows, is used for each axis");
    }
    let scales_at = if node.opset < RESIZE_WITH_SIZES || node.operator() == "Upsample" { 1 } else { 2 };
    let given = |index: usize| {
        operands
            .get(index)
            .filter(|value| value.shape.as_ref().is_none_or(|shape| !shape.iter().any(|size| size.is(0))))
    };
    let sizes = given(3).filter(|_| scales_at == 2);
    let scales = given(scales_at).filter(|_| sizes.is_none());
    let attribute = node.floats("scales");
    if weighs_rows(node, part.place, rank) {
        return mixes("weighs the neighbours of each row, though by 0");
    }
    let mut shape = part.shape.to_vec();
    for (index, axis) in resized.iter().enumerate() {
        let number = |value: &Value| value.elements().and_then(|elements| elements.get(index)).cloned();
        let (is_kept, size) = match (sizes, scales, attribute) {
            (Some(sizes), _, _) => {
                let size = number(sizes);
                (
                    stretches && size.as_ref() == Some(&shape[*axis]),
                    size.filter(|size| stretches && symbols.is_size(size)),
                )
            }
            (None, Some(scales), _) => {
                let scale = number(scales);
                let size =
                    scale.as_ref().and_then(|scale| shape[*axis].times(scale)).filter(|size| symbols.is_size(size));
                (scale.is_some_and(|scale| scale.is(1)), size)
            }
            (None, None, Some(scales)) => (scales.get(index) == Some(&1.0), None),
            (None, None, None) => return unknown("how it resizes is not known"),
        };
        if is_kept {
            continue;
        }
        if part.place.is_some_and(|place| place.axis == *axis) {
            return if sizes.or(scales).is_some_and(|given| !given.is_same() && given.numbers.is_none()) {
                mixes("how it resizes comes from the rows")
            } else {
                mixes("resizes the axis of the rows")
            };
        }
        shape[*axis] = size.unwrap_or_else(|| symbols.fresh(Kind::Size));
    }
    if sizes.or(scales).is_some_and(|given| !given.is_same() && given.numbers.is_none()) {
        return mixes("how it resizes comes from the rows");
    }
    Ok(vec![Value::of(shape, part.place.cloned())?])
}

fn center_crop_pad(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    let wanted = super::layout::target(operands.required(1)?, symbols)?;
    let cropped: Vec<usize> = match node.integers("axes") {
        Some(axes) => listed(axes, part.shape.len())?,
        None => (0..part.shape.len()).collect(),
    };
    let mut shape: Shape = part.shape.to_vec();
    for (axis, size) in cropped.iter().zip(wanted) {
        if part.place.is_some_and(|place| place.axis == *axis) && shape[*axis] != *size {
            return mixes("crops or pads the axis of the rows");
        }
        shape[*axis] = size.clone();
    }
    Ok(vec![Value::of(shape, part.place.cloned())?])
}

/// The triangle is that of the last two axes.
fn trilu(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let part = Part::of(operands.required(0)?)?;
    uniform(operands, 1, "diagonal")?;
    let last = axis_of(-2, part.shape.len())?;
    if part.place.is_some_and(|place: &Place| place.axis >= last) {
        return mixes("takes a triangle of the rows");
    }
    Ok(vec![Value::of(part.shape.to_vec(), part.place.cloned())?])
}
