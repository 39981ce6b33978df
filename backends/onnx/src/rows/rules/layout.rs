//! Operators that say or change a shape and leave the elements as they are.

use super::super::broadcast::{Part, across, broadcast_shapes};
use super::super::node::{Node, Operands};
use super::super::numbers;
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{MAX_NUMBERS, Ordinal, Outcome, Place, Rows, Shape, Value, axis_of, mixes, unknown};
use super::{Rule, axes, listed};

pub(super) fn rule(operator: &str) -> Option<Rule> {
    Some(match operator {
        "Shape" => shape,
        "Size" => size,
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Transpose" => transpose,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Expand" => expand,
        "Tile" => tile,
        "Concat" => concat,
        "Split" => split,
        "ConstantOfShape" => constant_of_shape,
        "Range" => range,
        _ => return None,
    })
}

fn shape(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let shape = operands.required(0)?.shape()?;
    let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
    let bound = |given: i64| usize::try_from(if given < 0 { given + rank } else { given }.clamp(0, rank)).unwrap_or(0);
    let (start, end) = (bound(node.integer_or("start", 0)), bound(node.integer_or("end", rank)));
    Ok(vec![Value::list(shape.get(start..end).unwrap_or_default().to_vec())])
}

fn size(_: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    match Polynomial::product(operands.required(0)?.shape()?) {
        Some(size) => Ok(vec![Value::numbers(Vec::new(), vec![size], true)]),
        None => unknown("the number of elements is too complicated to follow"),
    }
}

/// The numbers of an operand that says a shape: they must be known, and be sizes.
pub(super) fn target<'v>(value: &'v Value, symbols: &Symbols) -> Outcome<&'v [Polynomial]> {
    let Some(elements) = value.elements() else {
        return match value.rows {
            Rows::Same => unknown("the shape that it makes is not known"),
            _ => mixes("the shape that it makes comes from the rows"),
        };
    };
    if elements.iter().all(|size| symbols.is_size(size)) {
        Ok(elements)
    } else {
        unknown("the shape that it makes is not known")
    }
}

fn reshape(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let attribute;
    let wanted = match operands.get(1) {
        Some(given) => target(given, symbols)?,
        None => {
            let given = node.integers("shape").unwrap_or_default();
            attribute = given.iter().copied().map(Polynomial::constant).collect::<Vec<_>>();
            &attribute
        }
    };
    // A list of numbers keeps them: exporters make a scalar of one, and a list of a scalar.
    if let (Some(numbers), true) = (&value.numbers, wanted.len() <= 1) {
        let length = i64::try_from(numbers.elements.len()).unwrap_or(i64::MAX);
        let shape = wanted.iter().map(|_| Polynomial::constant(length)).collect();
        return Ok(vec![Value::numbers(shape, numbers.elements.clone(), numbers.whole)]);
    }
    let given = value.shape()?;
    let copies = !node.is_set("allowzero");
    let mut open = None;
    let mut shape = Shape::with_capacity(wanted.len());
    for (axis, size) in wanted.iter().enumerate() {
        shape.push(match size.as_constant() {
            Some(0) if copies => given.get(axis).cloned().map_or_else(|| unknown("its shape does not fit"), Ok)?,
            Some(-1) => {
                open = Some(axis);
                Polynomial::constant(1)
            }
            _ => size.clone(),
        });
    }
    if let Some(axis) = open {
        shape[axis] = quotient(given, &shape, symbols)?;
    }
    if let (Some(numbers), Some(sizes)) = (&value.numbers, numbers::constants(&shape))
        && sizes.iter().product::<usize>() == numbers.elements.len()
    {
        return Ok(vec![Value::numbers(shape, numbers.elements.clone(), numbers.whole)]);
    }
    if value.rows == Rows::Count {
        return mixes("computes with the number of rows");
    }
    Ok(vec![reshaped(value, shape)?])
}

/// The size of the axis that a reshape leaves open.
fn quotient(given: &[Polynomial], rest: &[Polynomial], symbols: &mut Symbols) -> Outcome<Polynomial> {
    let (Some(all), Some(rest)) = (Polynomial::product(given), Polynomial::product(rest)) else {
        return unknown("the sizes are too complicated to follow");
    };
    if let Some(quotient) = all.divided_by(&rest) {
        return Ok(quotient);
    }
    // What is left of each row is the same for each; where it is not whole, the model takes no row of this size.
    let each = |size: &Polynomial| size.divided_by(&Polynomial::rows()).filter(|each| !each.has_rows());
    match (each(&all), each(&rest), all.has_rows() || rest.has_rows()) {
        (Some(all), Some(rest), true) => Ok(symbols.named(format!("quotient {all:?} {rest:?}"), Kind::Size)),
        (_, _, false) => Ok(symbols.named(format!("quotient {all:?} {rest:?}"), Kind::Size)),
        (Some(all), None, true) if !rest.has_rows() && all.as_constant().is_none() => {
            unknown("whether its result divides into rows depends on the other sizes")
        }
        _ => mixes("its result does not divide into rows"),
    }
}

/// The same elements in another shape: finds where the rows are now.
pub(super) fn reshaped(value: &Value, shape: Shape) -> Outcome<Value> {
    let Some(place) = value.place() else { return Value::same(shape) };
    let given = value.shape()?;
    let before = Polynomial::product(&given[..place.axis]).and_then(|before| before.times(&place.outer));
    let Some(before) = before else { return unknown("the sizes are too complicated to follow") };
    let mut passed = Polynomial::constant(1);
    for (axis, size) in shape.iter().enumerate() {
        if let Some(outer) = before.divided_by(&passed) {
            let block = outer.times(&Polynomial::rows());
            if block.is_some_and(|block| size.divided_by(&block).is_some_and(|width| !width.has_rows())) {
                return Value::along(shape, Place { axis, outer });
            }
        }
        match passed.times(size) {
            Some(more) => passed = more,
            None => break,
        }
    }
    mixes("brings elements of different rows together")
}

fn flatten(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let shape = value.shape()?;
    let axis = match node.integer_or("axis", 1) {
        axis if usize::try_from(axis) == Ok(shape.len()) => shape.len(),
        axis => axis_of(axis, shape.len())?,
    };
    let (Some(before), Some(after)) = (Polynomial::product(&shape[..axis]), Polynomial::product(&shape[axis..])) else {
        return unknown("the sizes are too complicated to follow");
    };
    Ok(vec![reshaped(value, vec![before, after])?])
}

fn transpose(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let shape = value.shape()?;
    let order: Vec<usize> = match node.integers("perm") {
        Some(order) => order.iter().map(|axis| axis_of(*axis, shape.len())).collect::<Outcome<_>>()?,
        None => (0..shape.len()).rev().collect(),
    };
    if order.len() != shape.len() {
        return unknown("its order has another number of axes than its operand");
    }
    if let Some((numbers, elements)) =
        value.numbers.as_ref().and_then(|numbers| Some((numbers, numbers::transposed(numbers, shape, &order)?)))
    {
        let turned = order.iter().map(|axis| shape[*axis].clone()).collect();
        return Ok(vec![Value::numbers(turned, elements, numbers.whole)]);
    }
    if value.rows == Rows::Count {
        return unknown("turns the number of rows");
    }
    let place = value.place().and_then(|place| Some(place.moved(order.iter().position(|axis| *axis == place.axis)?)));
    Ok(vec![Value::of(order.iter().map(|axis| shape[*axis].clone()).collect(), place)?])
}

fn squeeze(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let shape = value.shape()?;
    let gone = match axes(node, operands, 1)? {
        Some(axes) => listed(&axes, shape.len())?,
        None if shape.iter().any(|size| size.as_constant().is_none()) => {
            return mixes("which axes it removes depends on sizes");
        }
        None => (0..shape.len()).filter(|axis| shape[*axis].is(1)).collect(),
    };
    if let Some(numbers) = &value.numbers {
        let left = (0..shape.len()).filter(|axis| !gone.contains(axis)).map(|axis| shape[axis].clone()).collect();
        return Ok(vec![Value::numbers(left, numbers.elements.clone(), numbers.whole)]);
    }
    if value.place().is_some_and(|place| gone.contains(&place.axis)) {
        return mixes("removes the axis of the rows, which only a single row allows");
    }
    let left = |axis: &usize| !gone.contains(axis);
    let place = value.place().map(|place| place.moved((0..place.axis).filter(left).count()));
    Ok(vec![Value::of((0..shape.len()).filter(left).map(|axis| shape[axis].clone()).collect(), place)?])
}

fn unsqueeze(node: &Node<'_>, operands: Operands<'_>, _: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let shape = value.shape()?;
    let Some(axes) = axes(node, operands, 1)? else { return unknown("its axes are not known") };
    let new = listed(&axes, shape.len() + axes.len())?;
    let mut own = 0..shape.len();
    let mut moved = vec![0; shape.len()];
    let result: Shape = (0..shape.len() + new.len())
        .map(|axis| match (new.contains(&axis), own.clone().next()) {
            (false, Some(old)) => {
                own.next();
                moved[old] = axis;
                shape[old].clone()
            }
            _ => Polynomial::constant(1),
        })
        .collect();
    if let Some(numbers) = &value.numbers {
        return Ok(vec![Value::numbers(result, numbers.elements.clone(), numbers.whole)]);
    }
    let place = value.place().map(|place| place.moved(moved[place.axis]));
    Ok(vec![Value::of(result, place)?])
}

fn expand(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let wanted = target(operands.required(1)?, symbols)?.to_vec();
    Ok(vec![expanded(value, &wanted, symbols)?])
}

/// Repeats axes of size 1, so that the shape is at least `wanted`.
pub(super) fn expanded(value: &Value, wanted: &[Polynomial], symbols: &mut Symbols) -> Outcome<Value> {
    let part = Part::of(value)?;
    if let Some(place) = part.place {
        let mut others = wanted.to_vec();
        // Along its rows a value is as long as it is: a target of that size, or of 1, changes nothing.
        let rank = part.shape.len().max(wanted.len());
        if let Some(own) = (place.axis + rank - part.shape.len() + wanted.len()).checked_sub(rank) {
            if others[own] == part.shape[place.axis] {
                others[own] = Polynomial::constant(1);
            }
            if others.iter().any(Polynomial::has_rows) {
                return mixes("the shape of a row depends on how many rows there are");
            }
        }
        let (shape, place) = broadcast_shapes(&[part, Part { shape: &others, place: None }], symbols)?;
        return Value::of(shape, place);
    }
    let counted: Vec<usize> =
        wanted.iter().enumerate().filter(|(_, size)| size.has_rows()).map(|(axis, _)| axis).collect();
    let rank = part.shape.len().max(wanted.len());
    let place = match counted.as_slice() {
        [] => None,
        [only] => {
            let own = (only + rank - wanted.len() + part.shape.len()).checked_sub(rank);
            if own.is_some_and(|own| !part.shape[own].is(1)) {
                return unknown("an operand without rows has a size other than 1 along the axis of the rows");
            }
            Some(Place::at(only + rank - wanted.len()))
        }
        _ => return mixes("the shape of a row depends on how many rows there are"),
    };
    let sizes = |axis: usize| {
        let of = move |shape: &'_ [Polynomial]| (axis + shape.len()).checked_sub(rank);
        [of(part.shape).map(|own| part.shape[own].clone()), of(wanted).map(|own| wanted[own].clone())]
    };
    let shape: Shape = (0..rank).map(|axis| across(sizes(axis).iter().flatten(), symbols)).collect();
    Value::of(shape, place)
}

fn tile(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let part = Part::of(value)?;
    let repeats = target(operands.required(1)?, symbols)?;
    if repeats.len() != part.shape.len() {
        return unknown("it repeats another number of axes than there are");
    }
    let mut place = part.place.cloned();
    for (axis, times) in repeats.iter().enumerate() {
        match &place {
            Some(place) if place.axis == axis && !times.is(1) => return mixes("repeats the rows one after the other"),
            None if times.has_rows() && part.shape[axis].is(1) => place = Some(Place::at(axis)),
            _ if times.has_rows() => return mixes("repeats as often as there are rows"),
            _ => {}
        }
    }
    let shape = part.shape.iter().zip(repeats).map(|(size, times)| size.times(times)).collect::<Option<Shape>>();
    match shape {
        Some(shape) => Ok(vec![Value::of(shape, place)?]),
        None => unknown("the sizes are too complicated to follow"),
    }
}

fn concat(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let parts: Vec<&Value> = operands.all().collect();
    let Some(first) = parts.first() else { return unknown("it has no operand") };
    let rank = first.rank()?;
    // Before operator set 4 the axis had a default.
    let axis = axis_of(node.integer_or("axis", 1), rank)?;
    let numbers: Option<Vec<_>> = parts.iter().map(|part| part.numbers.as_ref()).collect();
    if let (Some(numbers), 1) = (numbers, rank) {
        let elements: Vec<Polynomial> = numbers.iter().flat_map(|numbers| numbers.elements.iter().cloned()).collect();
        if elements.len() <= MAX_NUMBERS {
            let whole = numbers.iter().all(|numbers| numbers.whole);
            return Ok(vec![Value::numbers(vec![Polynomial::constant(elements.len() as i64)], elements, whole)]);
        }
    }
    joined(&parts, axis, symbols).map(|value| vec![value])
}

/// Tensors one after the other along `axis`.
pub(super) fn joined(parts: &[&Value], axis: usize, symbols: &mut Symbols) -> Outcome<Value> {
    let parts: Vec<Part<'_>> = parts.iter().map(|value| Part::of(value)).collect::<Outcome<_>>()?;
    let rank = parts.first().map_or(0, |part| part.shape.len());
    if parts.iter().any(|part| part.shape.len() != rank) {
        return unknown("its operands have different numbers of axes");
    }
    let place = parts.iter().find_map(|part| part.place);
    if let Some(place) = place {
        if place.axis == axis && parts.len() > 1 {
            return mixes("joins other elements to the rows along their axis");
        }
        if parts.iter().any(|part| part.place.is_none()) {
            return unknown("an operand without rows is joined to one with rows");
        }
        if parts.iter().any(|part| part.place != Some(place) || part.shape[place.axis] != parts[0].shape[place.axis]) {
            return mixes("joins the rows of one operand to other rows of another");
        }
    }
    let mut shape: Shape = Vec::with_capacity(rank);
    for own in 0..rank {
        let mut sizes = parts.iter().map(|part| &part.shape[own]);
        shape.push(if own == axis {
            let Some(sum) = sizes.try_fold(Polynomial::default(), |sum, size| sum.plus(size)) else {
                return unknown("the sizes are too complicated to follow");
            };
            sum
        } else {
            across(sizes, symbols)
        });
    }
    Value::of(shape, place.cloned())
}

fn split(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let value = operands.required(0)?;
    let shape = value.shape()?;
    let axis = axis_of(node.integer_or("axis", 0), shape.len())?;
    if value.place().is_some_and(|place| place.axis == axis) {
        return if node.results() == 1 { Ok(vec![value.clone()]) } else { mixes("splits the rows") };
    }
    let attribute: Option<Vec<Polynomial>> =
        node.integers("split").map(|sizes| sizes.iter().copied().map(Polynomial::constant).collect());
    let sizes = match (operands.get(1), attribute) {
        (Some(given), _) => Some(target(given, symbols)?.to_vec()),
        (None, attribute) => attribute,
    };
    if let (Some(numbers), 1) = (&value.numbers, shape.len()) {
        let sizes = sizes.as_ref().and_then(|sizes| {
            sizes.iter().map(|size| usize::try_from(size.as_constant()?).ok()).collect::<Option<Vec<_>>>()
        });
        // Where they are not equal, the last piece is the smaller one.
        let most = numbers.elements.len().div_ceil(node.results().max(1));
        let behind = |index: usize| numbers.elements.len().saturating_sub(index * most).min(most);
        let sizes = sizes.unwrap_or_else(|| (0..node.results()).map(behind).collect());
        let mut rest = numbers.elements.as_slice();
        let mut pieces = Vec::new();
        for size in sizes {
            let Some((piece, left)) = rest.split_at_checked(size) else { return unknown("its sizes do not fit") };
            rest = left;
            pieces.push(Value::numbers(vec![Polynomial::constant(size as i64)], piece.to_vec(), numbers.whole));
        }
        return Ok(pieces);
    }
    let piece = |index: usize, symbols: &mut Symbols| {
        let size = match &sizes {
            Some(sizes) => sizes.get(index).cloned().map_or_else(|| unknown("its sizes do not fit"), Ok)?,
            None => match shape[axis].divided_by(&Polynomial::constant(node.results() as i64)) {
                Some(size) => size,
                None => symbols.named(
                    format!("split {:?} {} {}", shape[axis], node.results(), index + 1 == node.results()),
                    Kind::Size,
                ),
            },
        };
        let mut piece = shape.to_vec();
        piece[axis] = size;
        Value::of(piece, value.place().cloned())
    };
    (0..node.results()).map(|index| piece(index, symbols)).collect()
}

fn constant_of_shape(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let shape = target(operands.required(0)?, symbols)?.to_vec();
    let filled = node.tensor("value").map(|tensor| super::super::node::stored(tensor, symbols));
    let count = Polynomial::product(&shape).and_then(|count| count.as_constant());
    let few = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= MAX_NUMBERS);
    let element = match &filled {
        Some(value) => {
            value.numbers.as_ref().and_then(|numbers| Some((numbers.elements.first()?.clone(), numbers.whole)))
        }
        None => Some((Polynomial::default(), false)),
    };
    if let (Some(count), Some((element, whole))) = (few, element) {
        return Ok(vec![Value::numbers(shape, vec![element; count], whole)]);
    }
    let one = Value { shape: Some(vec![Polynomial::constant(1); shape.len()]), ..Value::opaque() };
    Ok(vec![expanded(&one, &shape, symbols)?])
}

fn range(_: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Outcome<Vec<Value>> {
    let bounds: Vec<Option<&[Polynomial]>> = operands.all().map(Value::elements).collect();
    if let [Some([start]), Some([limit]), Some([step])] = bounds.as_slice()
        && start.is(0)
        && step.is(1)
        && *limit == Polynomial::rows()
    {
        let rows = Rows::Numbered(Place::at(0), Ordinal::Exact);
        return Ok(vec![Value { shape: Some(vec![limit.clone()]), rows, numbers: None }]);
    }
    if operands.all().any(|value| !value.is_same()) {
        return mixes("numbers the rows, or counts as far as they say");
    }
    let size = match bounds.as_slice() {
        [Some([start]), Some([limit]), Some([step])] if step.is(1) => limit.minus(start),
        _ => None,
    };
    let is_whole = operands.all().all(|value| value.numbers.as_ref().is_some_and(|numbers| numbers.whole));
    // A count that could be negative is 0 where it is.
    let size = size.filter(|size| symbols.is_whole(size) && symbols.is_amount(size));
    if let (Some(count), [Some([start]), ..]) = (size.as_ref().and_then(Polynomial::as_constant), bounds.as_slice()) {
        let count = count.min(MAX_NUMBERS as i64 + 1);
        let elements = (0..count).map(|index| start.plus(&Polynomial::constant(index))).collect::<Option<Vec<_>>>();
        if let Some(elements) =
            elements.filter(|elements| elements.len() <= MAX_NUMBERS && start.as_constant().is_some() && is_whole)
        {
            return Ok(vec![Value::list(elements)]);
        }
    }
    let size = size.unwrap_or_else(|| match bounds.iter().all(Option::is_some) {
        true => symbols.named(format!("range {bounds:?}"), Kind::Size),
        false => symbols.fresh(Kind::Size),
    });
    Ok(vec![Value::same(vec![size])?])
}
