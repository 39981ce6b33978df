//! Arithmetic with shapes: what exporters write between `Shape` and `Reshape`.

use super::node::{Node, Operands};
use super::polynomial::{Kind, Polynomial, Symbols};
use super::value::{MAX_NUMBERS, Numbers, Shape, Value};
use crate::proto::elem;

/// The result of an operator that works element by element on known numbers; none where they are not known any more.
pub(super) fn compute(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Option<Value> {
    // An operand that is left out changes what the others mean, so all of them are needed.
    let known = operands.0.iter().map(|value| {
        let value = value.as_ref()?;
        Some((value.numbers.as_ref()?, value.shape.as_ref()?))
    });
    let known: Vec<(&Numbers, &Shape)> = known.collect::<Option<_>>()?;
    let (longest, shape) = known.iter().max_by_key(|(numbers, shape)| (shape.len(), numbers.elements.len()))?;
    let length = longest.elements.len();
    // Operands of several axes are weights or masks, whose numbers nobody needs.
    if length > MAX_NUMBERS
        || known.iter().any(|(numbers, shape)| {
            shape.len() > 1 || !matches!(numbers.elements.len(), 1) && numbers.elements.len() != length
        })
    {
        return None;
    }
    let whole = whole_result(node, &known)?;
    let elements = (0..length).map(|index| {
        let given: Vec<&Polynomial> =
            known.iter().map(|(numbers, _)| numbers.elements.get(index).unwrap_or(&numbers.elements[0])).collect();
        element(node, &given, whole, symbols)
    });
    Some(Value::numbers((*shape).clone(), elements.collect::<Option<_>>()?, whole))
}

/// Whether the result is of whole numbers; none where its type does not hold every size, or is not known.
fn whole_result(node: &Node<'_>, known: &[(&Numbers, &Shape)]) -> Option<bool> {
    match node.operator() {
        "Cast" => match i32::try_from(node.integer_or("to", 0)).ok()? {
            elem::INT32 | elem::INT64 | elem::BOOL => Some(true),
            elem::FLOAT | elem::DOUBLE => Some(false),
            _ => None,
        },
        "CastLike" | "BitCast" => None,
        "Equal" | "Not" | "And" | "Or" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => Some(true),
        "Where" => Some(known.iter().skip(1).all(|(numbers, _)| numbers.whole)),
        _ => Some(known.iter().all(|(numbers, _)| numbers.whole)),
    }
}

fn element(node: &Node<'_>, given: &[&Polynomial], whole: bool, symbols: &mut Symbols) -> Option<Polynomial> {
    let truth = |value: bool| Some(Polynomial::constant(i64::from(value)));
    let constants: Option<Vec<i64>> = given.iter().map(|given| given.as_constant()).collect();
    // Arithmetic with fractions rounds, so only that with whole numbers is that of polynomials.
    let exact = given.iter().all(|given| symbols.is_whole(given));
    let to_truth = node.operator() == "Cast" && node.integer("to") == Some(i64::from(elem::BOOL));
    let exact = match (node.operator(), given) {
        ("Identity", [only]) => Some((*only).clone()),
        ("Cast", [only]) if !to_truth && (!whole || symbols.is_whole(only)) => Some((*only).clone()),
        ("Cast", [only]) if to_truth => only.as_constant().and_then(|value| truth(value != 0)),
        ("Floor" | "Ceil" | "Round", [only]) if symbols.is_whole(only) => Some((*only).clone()),
        ("Add", [one, two]) if exact => one.plus(two),
        ("Sub", [one, two]) if exact => one.minus(two),
        ("Mul", [one, two]) if exact => one.times(two),
        ("Neg", [only]) => only.times(&Polynomial::constant(-1)),
        ("Div", [one, two]) if exact => {
            one.divided_by(two).or_else(|| of_constants(node, constants.as_deref()?, whole))
        }
        ("Abs", [only]) if symbols.is_amount(only) => Some((*only).clone()),
        ("Max" | "Min", [one, two]) if one == two => Some((*one).clone()),
        ("Where", [condition, yes, no]) => match condition.as_constant() {
            Some(0) => Some((*no).clone()),
            Some(_) => Some((*yes).clone()),
            None if yes == no => Some((*yes).clone()),
            None => None,
        },
        ("Equal", [one, two]) if one == two => truth(true),
        ("Equal", [one, two]) if symbols.differ(one, two) => truth(false),
        ("Greater", [one, two]) if two.as_constant().is_some_and(|two| two < 0) && symbols.is_amount(one) => {
            truth(true)
        }
        ("Less", [one, two]) if two.as_constant().is_some_and(|two| two <= 0) && symbols.is_amount(one) => truth(false),
        _ => constants.as_deref().and_then(|constants| of_constants(node, constants, whole)),
    };
    // What depends on the number of rows and cannot be followed is not known; anything else has a name of its own.
    exact.or_else(|| {
        let free = given.iter().all(|given| !given.has_rows());
        free.then(|| {
            symbols.named(
                format!("{} {:?} {whole} {given:?}", node.operator(), node.proto.attribute),
                kind(node, given, whole, symbols),
            )
        })
    })
}

fn of_constants(node: &Node<'_>, given: &[i64], whole: bool) -> Option<Polynomial> {
    let value = match (node.operator(), given) {
        // Rounds to zero, as ONNX says of whole numbers.
        ("Div", [one, two]) if whole => one.checked_div(*two)?,
        ("Mod", [one, two]) if whole && *one >= 0 && *two > 0 => one.checked_rem(*two)?,
        ("Max", [one, two]) => *one.max(two),
        ("Min", [one, two]) => *one.min(two),
        ("Not", [only]) => i64::from(*only == 0),
        ("And", [one, two]) => i64::from(*one != 0 && *two != 0),
        ("Or", [one, two]) => i64::from(*one != 0 || *two != 0),
        ("Greater", [one, two]) => i64::from(one > two),
        ("Less", [one, two]) => i64::from(one < two),
        ("GreaterOrEqual", [one, two]) => i64::from(one >= two),
        ("LessOrEqual", [one, two]) => i64::from(one <= two),
        _ => return None,
    };
    Some(Polynomial::constant(value))
}

fn kind(node: &Node<'_>, given: &[&Polynomial], whole: bool, symbols: &Symbols) -> Kind {
    let amount = given.iter().all(|given| symbols.is_amount(given));
    let keeps_sign = matches!(
        node.operator(),
        "Div"
            | "Mod"
            | "Max"
            | "Min"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Cast"
            | "CastLike"
            | "Where"
            | "Sqrt"
            | "Pow"
            | "Exp"
    );
    // Rounding makes a whole number, whatever type it is kept in.
    let rounds = matches!(node.operator(), "Floor" | "Ceil" | "Round") || whole;
    match (amount && keeps_sign, rounds) {
        (true, true) => Kind::Size,
        (true, false) => Kind::Amount,
        (false, true) => Kind::Integer,
        (false, false) => Kind::Real,
    }
}

/// The elements at `places` of one axis; the shape must be of constants.
pub(super) fn picked(
    numbers: &Numbers,
    shape: &[Polynomial],
    axis: usize,
    places: &[usize],
) -> Option<Vec<Polynomial>> {
    let sizes = constants(shape)?;
    let (size, inner) = (*sizes.get(axis)?, sizes.get(axis + 1..)?.iter().product::<usize>());
    let outer = sizes[..axis].iter().product::<usize>();
    let block = |block: usize| numbers.elements.get(block * inner..(block + 1) * inner);
    let blocks =
        (0..outer).flat_map(|outer| places.iter().map(move |place| (*place < size).then(|| outer * size + place)));
    let mut elements = Vec::new();
    for found in blocks {
        elements.extend_from_slice(block(found?)?);
        if elements.len() > MAX_NUMBERS {
            return None;
        }
    }
    Some(elements)
}

/// The elements with their axes in another order.
pub(super) fn transposed(numbers: &Numbers, shape: &[Polynomial], order: &[usize]) -> Option<Vec<Polynomial>> {
    let sizes = constants(shape)?;
    let turned: Vec<usize> = order.iter().map(|axis| sizes[*axis]).collect();
    let place = |index: usize| {
        let (mut rest, mut place) = (index, 0);
        for (own, axis) in order.iter().enumerate().rev() {
            let step: usize = sizes[axis + 1..].iter().product();
            place += rest.checked_rem(turned[own])? * step;
            rest /= turned[own];
        }
        Some(place)
    };
    (0..numbers.elements.len()).map(|index| numbers.elements.get(place(index)?).cloned()).collect()
}

/// A shape as numbers, where all of them are.
pub(super) fn constants(shape: &[Polynomial]) -> Option<Vec<usize>> {
    shape.iter().map(|size| usize::try_from(size.as_constant()?).ok()).collect()
}
