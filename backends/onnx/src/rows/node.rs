//! A node as a rule sees it: its operator, its attributes and the tensors inside them.

use std::borrow::Cow;

use bytes::Bytes;

use super::polynomial::{Kind, Polynomial, Symbols};
use super::value::{MAX_NUMBERS, Outcome, Value, unknown};
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, elem};

/// A node, whose attributes are its own or those of the function call that it stands in.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) proto: Cow<'a, NodeProto>,
    /// The version of the operator set of its domain; 0 where the file names none.
    pub(super) opset: i64,
}

impl Node<'_> {
    pub(super) fn operator(&self) -> &str {
        &self.proto.op_type
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An attribute without a value has the value 0: writers leave out what a reader takes for granted.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        Some(self.attribute(name)?.i.unwrap_or_default())
    }

    pub(super) fn integer_or(&self, name: &str, default: i64) -> i64 {
        self.integer(name).unwrap_or(default)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.integer_or(name, 0) != 0
    }

    pub(super) fn integers(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// How many texts an attribute lists.
    pub(super) fn strings(&self, name: &str) -> usize {
        self.attribute(name).map_or(0, |attribute| attribute.strings.len())
    }

    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|attribute| attribute.floats.as_slice())
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        Some(self.attribute(name)?.f.unwrap_or_default())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_deref().unwrap_or_default()).ok()
    }

    pub(super) fn graph(&self, name: &str) -> Option<&GraphProto> {
        self.attribute(name)?.g.as_ref()
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// Operands that are given: those that are left out have no name.
    pub(super) fn operands(&self) -> usize {
        self.proto.input.len()
    }

    pub(super) fn results(&self) -> usize {
        self.proto.output.len()
    }
}

/// The operands of a node, none where one is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands<'v>(pub(super) &'v [Option<Value>]);

impl<'v> Operands<'v> {
    pub(super) fn get(self, index: usize) -> Option<&'v Value> {
        self.0.get(index)?.as_ref()
    }

    pub(super) fn required(self, index: usize) -> Outcome<&'v Value> {
        self.get(index).map_or_else(|| unknown("an operand is missing"), Ok)
    }

    pub(super) fn all(self) -> impl Iterator<Item = &'v Value> {
        self.0.iter().flatten()
    }
}

/// Of stored floating-point numbers so many are followed: those of scales and bounds, not those of weights.
const MAX_REALS: usize = 16;

/// The value of a stored tensor: its shape, and its numbers if they are few and stored in the file.
pub(super) fn stored(tensor: &TensorProto, symbols: &mut Symbols) -> Value {
    let shape = tensor.dims.iter().map(|size| Polynomial::constant(*size)).collect();
    let count = tensor.dims.iter().try_fold(1_i64, |product, size| product.checked_mul(*size));
    let most = if matches!(tensor.data_type, elem::FLOAT | elem::DOUBLE) { MAX_REALS } else { MAX_NUMBERS };
    let few = count.and_then(|count| usize::try_from(count).ok()).is_some_and(|count| count <= most);
    match few.then(|| elements(tensor, symbols)).flatten() {
        Some((elements, whole)) if Some(elements.len()) == count.and_then(|count| usize::try_from(count).ok()) => {
            Value::numbers(shape, elements, whole)
        }
        _ => Value { shape: Some(shape), ..Value::opaque() },
    }
}

fn elements(tensor: &TensorProto, symbols: &mut Symbols) -> Option<(Vec<Polynomial>, bool)> {
    fn raw<const N: usize, T>(bytes: &Bytes, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
    }
    let raw_data = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty());
    let whole: Vec<i64> = match (tensor.data_type, raw_data) {
        (elem::INT64, Some(bytes)) => raw(bytes, i64::from_le_bytes),
        (elem::INT64, None) => tensor.int64_data.clone(),
        (elem::INT32, Some(bytes)) => raw(bytes, |chunk| i64::from(i32::from_le_bytes(chunk))),
        (elem::BOOL, Some(bytes)) => bytes.iter().map(|byte| i64::from(*byte != 0)).collect(),
        (elem::INT32 | elem::BOOL, None) => tensor.int32_data.iter().copied().map(i64::from).collect(),
        (elem::FLOAT, Some(bytes)) => {
            return Some((reals(raw(bytes, |chunk| f64::from(f32::from_le_bytes(chunk))), symbols)?, false));
        }
        (elem::FLOAT, None) => return Some((reals(tensor.float_data.iter().copied().map(f64::from), symbols)?, false)),
        (elem::DOUBLE, Some(bytes)) => return Some((reals(raw(bytes, f64::from_le_bytes), symbols)?, false)),
        (elem::DOUBLE, None) => return Some((reals(tensor.double_data.iter().copied(), symbols)?, false)),
        _ => return None,
    };
    Some((whole.into_iter().map(Polynomial::constant).collect(), true))
}

fn reals(values: impl IntoIterator<Item = f64>, symbols: &mut Symbols) -> Option<Vec<Polynomial>> {
    values.into_iter().map(|value| real(value, symbols)).collect()
}

/// A number: one that is not whole is a symbol of its own. None for what is no number, or has no end.
pub(super) fn real(value: f64, symbols: &mut Symbols) -> Option<Polynomial> {
    /// Up to here every whole number is a number of the type.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.trunc() == value && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the range")]
        return Some(Polynomial::constant(value as i64));
    }
    let kind = if value > 0.0 { Kind::Amount } else { Kind::Real };
    value.is_finite().then(|| symbols.named(format!("number {:x}", value.to_bits()), kind))
}
