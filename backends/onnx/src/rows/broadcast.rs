//! Numpy's rule for operands of different shapes, with rows.

use super::polynomial::{Kind, Polynomial, Symbols};
use super::value::{Outcome, Place, Rows, Shape, Value, mixes, unknown};

/// The shape and the rows of what an operator makes that works element by element.
pub(super) fn broadcast(values: &[&Value], symbols: &mut Symbols) -> Outcome<Value> {
    let parts: Vec<Part<'_>> = values.iter().map(|value| Part::of(value)).collect::<Outcome<_>>()?;
    let (shape, place) = broadcast_shapes(&parts, symbols)?;
    Value::of(shape, place)
}

/// A shape, and where rows are in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) shape: &'a [Polynomial],
    pub(super) place: Option<&'a Place>,
}

impl<'a> Part<'a> {
    pub(super) fn of(value: &'a Value) -> Outcome<Self> {
        if value.rows == Rows::Count {
            return mixes("computes with the number of rows");
        }
        if value.is_numbered() {
            return mixes("numbers the rows");
        }
        Ok(Self { shape: value.shape()?, place: value.place() })
    }
}

/// As [`broadcast`], for shapes that may be parts of others.
pub(super) fn broadcast_shapes(parts: &[Part<'_>], symbols: &mut Symbols) -> Outcome<(Shape, Option<Place>)> {
    let rank = parts.iter().map(|part| part.shape.len()).max().unwrap_or(0);
    let mut place: Option<Place> = None;
    for part in parts {
        let Some(own) = part.place else { continue };
        let moved = own.moved(own.axis + rank - part.shape.len());
        match &place {
            None => place = Some(moved),
            Some(known) if *known == moved => {}
            Some(_) => return mixes("brings the rows of one operand together with other rows of another"),
        }
    }
    let mut shape = Shape::with_capacity(rank);
    for axis in 0..rank {
        let sizes = parts.iter().filter_map(|part| {
            let own = (axis + part.shape.len()).checked_sub(rank)?;
            Some((&part.shape[own], part.place.is_some()))
        });
        let size = if place.as_ref().is_some_and(|place| place.axis == axis) {
            along_rows(sizes)?
        } else {
            across(sizes.map(|(size, _)| size), symbols)
        };
        shape.push(size);
    }
    Ok((shape, place))
}

/// The size of the axis of rows: operands without rows must be repeated along it.
fn along_rows<'a>(sizes: impl Iterator<Item = (&'a Polynomial, bool)>) -> Outcome<Polynomial> {
    let mut rows: Option<&Polynomial> = None;
    for (size, has_rows) in sizes {
        match rows {
            _ if !has_rows && size.is(1) => {}
            _ if !has_rows => {
                return unknown("an operand without rows has a size other than 1 along the axis of the rows");
            }
            None => rows = Some(size),
            Some(known) if known == size => {}
            Some(_) => return unknown("operands have different numbers of elements for each row"),
        }
    }
    rows.cloned().map_or_else(|| unknown("no operand has rows"), Ok)
}

/// The size of another axis.
pub(super) fn across<'a>(sizes: impl Iterator<Item = &'a Polynomial>, symbols: &mut Symbols) -> Polynomial {
    let mut result = Polynomial::constant(1);
    for size in sizes {
        if result.is(1) || *size == result {
            result = size.clone();
        } else if !size.is(1) {
            // Sizes that are written differently are equal when the model runs, or one of them is 1.
            result = match (result.as_constant(), size.as_constant()) {
                (Some(_), _) => result,
                (None, Some(_)) => size.clone(),
                _ if symbols.is_limited(size, &result) => result,
                _ if symbols.is_limited(&result, size) => size.clone(),
                (None, None) => symbols.named(format!("broadcast {result:?} {size:?}"), Kind::Size),
            };
        }
    }
    result
}
