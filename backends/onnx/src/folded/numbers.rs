//! Arithmetic with the few whole numbers that sizes are made of.

use super::node::Node;
use super::stored::numbers;
use super::value::{Fixed, broadcast, place, product};
use crate::proto::elem;

/// Up to here every whole number is one of each type that is followed.
const EXACT: u64 = 1 << 24;

impl Node<'_> {
    /// The result where it is a few whole numbers that are known, or sizes that requests give.
    pub(super) fn numbers(&self) -> Option<Fixed> {
        let all: Vec<&[Option<i64>]> = self.given().map(|given| given.numbers.as_deref()).collect::<Option<_>>()?;
        let first = self.get(0)?;
        let of_first = || first.numbers.clone();
        let row = |numbers: Vec<Option<i64>>| Some(Fixed::row(numbers));
        match self.operator {
            "Identity" => Some(first.clone()),
            "Cast" => {
                let kept = self.cast(all[0])?;
                Some(Fixed::of(first.dims.clone()?).with(Some(kept)))
            }
            "Squeeze" | "Unsqueeze" => Some(Fixed::of(self.squeezed()?).with(of_first())),
            "Reshape" => Some(Fixed::of(self.reshaped()?).with(of_first())),
            "Concat" if self.given().all(|given| given.rank() == Some(1)) => row(all.concat()),
            "Gather" if first.rank() == Some(1) && self.attributes.integer_or("axis", 0)? == 0 => {
                let indices = self.get(1)?;
                let at = |index: i64| first.numbers.as_ref()?.get(place(index, all[0].len())?).copied();
                let found: Vec<Option<i64>> = indices.known()?.into_iter().map(at).collect::<Option<_>>()?;
                Some(Fixed::of(indices.dims.clone()?).with(Some(found)))
            }
            "Slice" if first.rank() == Some(1) => row(self.sliced(all[0])?),
            "ConstantOfShape" => {
                let tensor = self.attributes.get("value").and_then(|value| value.t.as_ref());
                let value = tensor.map_or(Some(0), |tensor| numbers(tensor)?.first().copied())?;
                let dims: Vec<u64> =
                    first.known()?.into_iter().map(|size| u64::try_from(size).ok()).collect::<Option<_>>()?;
                let count = usize::try_from(product(&dims)).ok().filter(|count| *count <= 64)?;
                Some(Fixed::of(dims).with(Some(vec![Some(value); count])))
            }
            "ReduceProd" if self.get(1).is_none() => {
                let all = all[0].iter().copied().try_fold(1_i64, |product, number| product.checked_mul(number?));
                Some(Fixed::at_most(Some(1)).with(Some(vec![all])))
            }
            operator => {
                let shapes = self.given().map(|given| given.dims.as_ref()).collect::<Option<Vec<_>>>()?;
                let dims = broadcast(shapes.into_iter())?;
                let count = usize::try_from(product(&dims)).ok()?;
                // Of several axes only where no element has to be found again.
                let simple = all.iter().all(|numbers| numbers.len() == 1 || numbers.len() == count);
                (simple && count <= 64).then_some(())?;
                let at = |index: usize| -> Vec<Option<i64>> {
                    all.iter().map(|numbers| numbers[if numbers.len() == 1 { 0 } else { index }]).collect()
                };
                let computed: Option<Vec<Option<i64>>> =
                    (0..count).map(|index| compute(operator, &at(index))).collect();
                Some(Fixed::of(dims).with(Some(computed?)))
            }
        }
    }

    /// Numbers of another type, as long as it holds them.
    fn cast(&self, numbers: &[Option<i64>]) -> Option<Vec<Option<i64>>> {
        let to = i32::try_from(self.attributes.integer_or("to", 0)?).ok()?;
        let cast = |number: i64| match to {
            elem::BOOL => Some(i64::from(number != 0)),
            elem::INT64 => Some(number),
            elem::INT32 | elem::FLOAT | elem::DOUBLE => Some(number).filter(|number| number.unsigned_abs() <= EXACT),
            _ => None,
        };
        let each = |number: &Option<i64>| match number {
            // A size that requests give.
            None => (to != elem::BOOL).then_some(None),
            Some(number) => cast(*number).map(Some),
        };
        numbers.iter().map(each).collect()
    }

    fn sliced(&self, numbers: &[Option<i64>]) -> Option<Vec<Option<i64>>> {
        let of = |name: &str, index: usize, default: Option<i64>| match self.attributes.integers(name) {
            Some(given) => given.first().copied(),
            None => match self.get(index) {
                Some(given) => given.known()?.first().copied(),
                None => default,
            },
        };
        let len = i64::try_from(numbers.len()).ok()?;
        let bound = |given: i64| (if given < 0 { given.saturating_add(len) } else { given }).clamp(0, len);
        let (start, end) = (bound(of("starts", 1, None)?), bound(of("ends", 2, None)?));
        let step = of("", 4, Some(1))?;
        (step == 1).then(|| numbers.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?).map(<[_]>::to_vec))?
    }
}

/// An element of what operators make element by element: a size that requests give stays one. None for what is not a whole
/// number, and for other operators.
fn compute(operator: &str, operands: &[Option<i64>]) -> Option<Option<i64>> {
    if operator == "Where" {
        let [condition, yes, no] = *operands else { return None };
        return Some(condition.and_then(|condition| if condition == 0 { no } else { yes }));
    }
    let works = matches!(
        operator,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Mod"
            | "Min"
            | "Max"
            | "Neg"
            | "Abs"
            | "Floor"
            | "Ceil"
            | "Equal"
            | "Greater"
            | "Less"
            | "And"
            | "Or"
            | "Not"
    );
    if !works {
        return None;
    }
    let Some(known) = operands.iter().copied().collect::<Option<Vec<i64>>>() else { return Some(None) };
    let truth = |truth: bool| Some(i64::from(truth));
    let result = match (operator, known.as_slice()) {
        ("Add", [a, b]) => a.checked_add(*b),
        ("Sub", [a, b]) => a.checked_sub(*b),
        ("Mul", [a, b]) => a.checked_mul(*b),
        // Fractions are cut off, or are none of what is followed.
        ("Div", [a, b]) => a.checked_rem(*b).filter(|rest| *rest == 0).and_then(|_| a.checked_div(*b)),
        ("Mod", [a, b]) if *a >= 0 && *b > 0 => a.checked_rem(*b),
        ("Min", [a, rest @ ..]) => Some(rest.iter().fold(*a, |least, one| least.min(*one))),
        ("Max", [a, rest @ ..]) => Some(rest.iter().fold(*a, |most, one| most.max(*one))),
        ("Neg", [a]) => a.checked_neg(),
        ("Abs", [a]) => a.checked_abs(),
        ("Floor" | "Ceil", [a]) => Some(*a),
        ("Equal", [a, b]) => truth(a == b),
        ("Greater", [a, b]) => truth(a > b),
        ("Less", [a, b]) => truth(a < b),
        ("And", [a, b]) => truth(*a != 0 && *b != 0),
        ("Or", [a, b]) => truth(*a != 0 || *b != 0),
        ("Not", [a]) => truth(*a == 0),
        _ => None,
    };
    // What a type does not hold is another number to the engine.
    result.filter(|result| result.unsigned_abs() <= EXACT).map(Some)
}
