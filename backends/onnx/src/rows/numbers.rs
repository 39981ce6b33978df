//! Arithmetic with shapes: what exporters write between `Shape` and `Reshape`.

use super::node::{Node, Operands};
use super::polynomial::{Kind, Polynomial, Symbols};
use super::value::{MAX_NUMBERS, Numbers, Shape, Value};
use crate::proto::elem;

/// The result of an operator that works element by element on known numbers; none where they are not known any more.
pub(super) fn compute(node: &Node<'_>, operands: Operands<'_>, symbols: &mut Symbols) -> Option<Value> {
    let known: Vec<(&Numbers, &Shape)> =
        operands.all().map(|value| Some((value.numbers.as_ref()?, value.shape.as_ref()?))).collect::<Option<_>>()?;
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
    let whole = whole_result(node, &known);
    let elements = (0..length).map(|index| {
        let given: Vec<&Polynomial> =
            known.iter().map(|(numbers, _)| numbers.elements.get(index).unwrap_or(&numbers.elements[0])).collect();
        element(node, &given, whole, symbols)
    });
    Some(Value::numbers((*shape).clone(), elements.collect::<Option<_>>()?, whole))
}

fn whole_result(node: &Node<'_>, known: &[(&Numbers, &Shape)]) -> bool {
    match node.operator() {
        "Cast" => !matches!(
            node.integer_or("to", 0).try_into(),
            Ok(elem::FLOAT | elem::DOUBLE | elem::FLOAT16 | elem::BFLOAT16)
        ),
        "Equal" | "Not" | "And" | "Or" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => true,
        "Where" => known.iter().skip(1).all(|(numbers, _)| numbers.whole),
        "CastLike" => known.last().is_some_and(|(numbers, _)| numbers.whole),
        _ => known.iter().all(|(numbers, _)| numbers.whole),
    }
}

fn element(node: &Node<'_>, given: &[&Polynomial], whole: bool, symbols: &mut Symbols) -> Option<Polynomial> {
    let truth = |value: bool| Some(Polynomial::constant(i64::from(value)));
    let constants: Option<Vec<i64>> = given.iter().map(|given| given.as_constant()).collect();
    let exact = match (node.operator(), given) {
        ("Identity", [only]) => Some((*only).clone()),
        ("Cast", [only]) | ("CastLike", [only, _]) if !whole || symbols.is_whole(only) => Some((*only).clone()),
        ("Floor" | "Ceil" | "Round", [only]) if symbols.is_whole(only) => Some((*only).clone()),
        ("Add", [one, two]) => one.plus(two),
        ("Sub", [one, two]) => one.minus(two),
        ("Mul", [one, two]) => one.times(two),
        ("Neg", [only]) => only.times(&Polynomial::constant(-1)),
        ("Div", [one, two]) => one.divided_by(two),
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
                format!("{} {} {given:?}", node.operator(), node.integer_or("fmod", 0)),
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
