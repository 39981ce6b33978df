//! Operators that pick, write or count elements by indices.

use super::super::broadcast::Part;
use super::super::node::{Node, Operands};
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Outcome, Place, Shape, Value, axis_of, mixes, unknown};
use super::{Rule, uniform};

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Gather" => gather,
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "ScatterElements" | "Scatter" => scatter_elements,
        "ScatterND" => scatter_nd,
        "OneHot" => one_hot,
        "Compress" => compress,
        "NonZero" | "Unique" => found,
        "NonMaxSuppression" => boxes,
        "ReverseSequence" => reverse_sequence,
        "TensorScatter" => tensor_scatter,
        _ => return None,
    })
}

fn gather(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let (data, indices) = (operands.required(0)?, operands.required(1)?);
    let (from, by) = (data.shape()?, Part::of(indices)?);
    let axis = axis_of(node.integer_or("axis", 0), from.len())?;
    if let (Some(numbers), Some(places), 1) = (&data.numbers, indices.constants(), from.len()) {
        let length = numbers.elements.len() as i64;
        let place = |place: &i64| usize::try_from(if *place < 0 { place.saturating_add(length) } else { *place }).ok();
        let picked = places.iter().map(|index| numbers.elements.get(place(index)?).cloned()).collect::<Option<_>>();
        let Some(picked) = picked else { return unknown("its indices are outside of its operand") };
        return Ok(vec![Value::numbers(by.shape.to_vec(), picked, numbers.whole)]);
    }
    let data = Part::of(data)?;
    let shape: Shape = [&from[..axis], by.shape, &from[axis + 1..]].concat();
    let place = match (data.place, by.place) {
        (None, None) => None,
        (None, Some(rows)) => Some(rows.moved(axis + rows.axis)),
        (Some(rows), None) if rows.axis == axis => return mixes("picks rows by their index"),
        (Some(rows), None) if rows.axis < axis => Some(rows.clone()),
        (Some(rows), None) => Some(rows.moved(rows.axis + by.shape.len() - 1)),
        (Some(_), Some(_)) => return mixes("picks from all rows for each row"),
    };
    Ok(vec![Value::of(shape, place)?])
}

fn gather_elements(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let (data, indices) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    let axis = axis_of(node.integer_or("axis", 0), data.shape.len())?;
    let place = elements(data, indices, axis)?;
    Ok(vec![Value::of(indices.shape.to_vec(), place)?])
}

/// The rows of what is at the places that `indices` name along `axis`: all other axes go together.
fn elements(data: Part<'_>, indices: Part<'_>, axis: usize) -> Outcome<Option<Place>> {
    match (data.place, indices.place) {
        (None, None) => Ok(None),
        // Each row names places of the whole axis, which is the same for all.
        (None, Some(rows)) if rows.axis == axis => Ok(Some(rows.clone())),
        (Some(one), Some(two)) if one == two && one.axis != axis && data.shape[one.axis] == indices.shape[one.axis] => {
            Ok(Some(two.clone()))
        }
        (Some(rows), _) if rows.axis == axis => mixes("picks elements of other rows"),
        _ => unknown("its indices do not go along with the rows"),
    }
}

fn gather_nd(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let (data, indices) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    let shared = usize::try_from(node.integer_or("batch_dims", 0)).unwrap_or(0);
    let Some((tuple, outside)) = indices.shape.split_last() else { return unknown("its indices are a single number") };
    let tuple = tuple.as_constant().and_then(|length| usize::try_from(length).ok());
    let Some(rest) = tuple.and_then(|tuple| data.shape.get(shared + tuple..)) else {
        return unknown("how long its indices are is not known");
    };
    let shape = [outside, rest].concat();
    let inner = data.shape.len() - rest.len();
    let place = match (data.place, indices.place) {
        (None, None) => None,
        (Some(one), Some(two)) if one == two && one.axis < shared => Some(two.clone()),
        (None, Some(rows)) if rows.axis >= shared && rows.axis < outside.len() => Some(rows.clone()),
        // What is taken whole keeps its rows.
        (Some(rows), None) if rows.axis >= inner => Some(rows.moved(rows.axis - inner + outside.len())),
        (Some(_), _) => return mixes("picks elements of other rows"),
        (None, Some(_)) => return unknown("its indices do not go along with the rows"),
    };
    Ok(vec![Value::of(shape, place)?])
}

fn scatter_elements(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let [data, indices, updates] = [0, 1, 2].map(|index| operands.required(index).and_then(Part::of));
    let (data, indices, updates) = (data?, indices?, updates?);
    let axis = axis_of(node.integer_or("axis", 0), data.shape.len())?;
    let all = [data, indices, updates];
    let Some(rows) = all.iter().find_map(|part| part.place) else {
        return Ok(vec![Value::of(data.shape.to_vec(), None)?]);
    };
    if rows.axis == axis {
        return mixes("writes to other rows");
    }
    let together = all.iter().all(|part| part.place == Some(rows) && part.shape[rows.axis] == data.shape[rows.axis]);
    if !together {
        return unknown("what it writes does not go along with the rows");
    }
    Ok(vec![Value::of(data.shape.to_vec(), Some(rows.clone()))?])
}

/// Indices into the first axes; what lies behind is written whole.
fn scatter_nd(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let [data, indices, updates] = [0, 1, 2].map(|index| operands.required(index).and_then(Part::of));
    let (data, indices, updates) = (data?, indices?, updates?);
    if indices.place.is_some() {
        return mixes("writes where the rows say");
    }
    let tuple = indices.shape.last().and_then(Polynomial::as_constant).and_then(|length| usize::try_from(length).ok());
    let Some(tuple) = tuple else { return unknown("how long its indices are is not known") };
    let behind = |place: &Place| (place.axis + indices.shape.len()).checked_sub(tuple + 1);
    match (data.place, updates.place) {
        (None, None) => Ok(vec![Value::of(data.shape.to_vec(), None)?]),
        (Some(rows), Some(written))
            if rows.axis >= tuple
                && behind(rows) == Some(written.axis)
                && rows.outer == written.outer
                && data.shape[rows.axis] == updates.shape[written.axis] =>
        {
            Ok(vec![Value::of(data.shape.to_vec(), Some(rows.clone()))?])
        }
        (Some(rows), _) if rows.axis < tuple => mixes("writes to rows by their index"),
        _ => unknown("what it writes does not go along with the rows"),
    }
}

fn one_hot(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let indices = Part::of(operands.required(0)?)?;
    uniform(operands, 1, "depth")?;
    uniform(operands, 2, "values")?;
    let axis = axis_of(node.integer_or("axis", -1), indices.shape.len() + 1)?;
    let depth = operands.required(1)?.elements().and_then(<[_]>::first).filter(|depth| symbols.is_size(depth)).cloned();
    let mut shape = indices.shape.to_vec();
    shape.insert(axis, depth.unwrap_or_else(|| symbols.fresh(Kind::Size)));
    let place = indices.place.map(|place| place.moved(place.axis + usize::from(place.axis >= axis)));
    Ok(vec![Value::of(shape, place)?])
}

fn compress(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let data = Part::of(operands.required(0)?)?;
    uniform(operands, 1, "condition")?;
    let size = symbols.fresh(Kind::Size);
    let Some(axis) = node.integer("axis") else {
        return if data.place.is_some() { mixes("picks from all rows") } else { Ok(vec![Value::same(vec![size])?]) };
    };
    let axis = axis_of(axis, data.shape.len())?;
    if data.place.is_some_and(|place| place.axis == axis) {
        return mixes("picks rows");
    }
    let mut shape = data.shape.to_vec();
    shape[axis] = size;
    Ok(vec![Value::of(shape, data.place.cloned())?])
}

fn found(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = operands.required(0)?;
    mixes("finds elements in all rows together: how many depends on their values")
}

fn boxes(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let _ = operands.required(0)?;
    mixes("selects boxes of all rows together: how many depends on their values")
}

fn reverse_sequence(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let (data, lengths) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    let rank = data.shape.len();
    let (batch, time) =
        (axis_of(node.integer_or("batch_axis", 1), rank)?, axis_of(node.integer_or("time_axis", 0), rank)?);
    let place = match (data.place, lengths.place) {
        (Some(rows), _) if rows.axis == time => return mixes("reverses the rows"),
        (None, None) => None,
        (Some(rows), Some(own))
            if rows.axis == batch
                && own.axis == 0
                && rows.outer == own.outer
                && data.shape[batch] == lengths.shape[0] =>
        {
            Some(rows.clone())
        }
        (Some(rows), None) if rows.axis != batch => Some(rows.clone()),
        _ => return unknown("its lengths do not go along with the rows"),
    };
    Ok(vec![Value::of(data.shape.to_vec(), place)?])
}

/// Writes into a cache, at a place that each row of the first axis has.
fn tensor_scatter(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let (cache, update) = (Part::of(operands.required(0)?)?, Part::of(operands.required(1)?)?);
    let axis = axis_of(node.integer_or("axis", -2), cache.shape.len())?;
    let places = operands.get(2).map(Part::of).transpose()?;
    let first = |part: &Part<'_>| part.place.is_some_and(|place| *place == Place::at(0));
    let all = [Some(cache), Some(update), places].into_iter().flatten();
    if axis != 0 && all.clone().all(|part| first(&part) && part.shape[0] == cache.shape[0]) {
        return Ok(vec![Value::of(cache.shape.to_vec(), Some(Place::at(0)))?]);
    }
    if all.clone().all(|part| part.place.is_none()) {
        return Ok(vec![Value::of(cache.shape.to_vec(), None)?]);
    }
    unknown("what it writes does not go along with the rows")
}
