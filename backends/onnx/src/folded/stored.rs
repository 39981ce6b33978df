//! What a file stores: the attributes of a node, and tensors with their whole numbers.

use super::value::Fixed;
use crate::proto::{AttributeProto, NodeProto, TensorProto, elem};

/// The attributes of a node. What stands for an attribute of the function around it is not known.
pub(super) struct Attributes<'a>(pub(super) &'a NodeProto);

impl<'a> Attributes<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// None where it is not known.
    pub(super) fn integer_or(&self, name: &str, default: i64) -> Option<i64> {
        match self.get(name) {
            None => Some(default),
            Some(given) if given.ref_attr_name.is_empty() => Some(given.i.unwrap_or_default()),
            Some(_) => None,
        }
    }

    pub(super) fn integers(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).filter(|given| given.ref_attr_name.is_empty()).map(|given| given.ints.as_slice())
    }
}

/// A tensor of the file.
pub(super) fn stored(tensor: &TensorProto) -> Fixed {
    let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(u64::MAX)).collect();
    let value = Fixed::of(dims);
    let few = value.elements.is_some_and(|elements| elements <= 64);
    let numbers = if few { numbers(tensor) } else { None };
    value.with(numbers.map(|numbers| numbers.into_iter().map(Some).collect()))
}

/// The whole numbers that a tensor holds, where the file stores them.
pub(super) fn numbers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let raw = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty());
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the range")]
    let whole = |number: f32| (number.trunc() == number && number.abs() <= 16_777_216.0).then_some(number as i64);
    match (tensor.data_type, raw) {
        (elem::INT64, Some(raw)) => {
            Some(raw.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
        }
        (elem::INT64, None) => Some(tensor.int64_data.clone()),
        (elem::INT32, Some(raw)) => {
            Some(raw.as_chunks::<4>().0.iter().map(|chunk| i64::from(i32::from_le_bytes(*chunk))).collect())
        }
        (elem::BOOL, Some(raw)) => Some(raw.iter().map(|byte| i64::from(*byte != 0)).collect()),
        (elem::INT32 | elem::BOOL, None) => Some(tensor.int32_data.iter().copied().map(i64::from).collect()),
        (elem::FLOAT, Some(raw)) => {
            raw.as_chunks::<4>().0.iter().map(|chunk| whole(f32::from_le_bytes(*chunk))).collect()
        }
        (elem::FLOAT, None) => tensor.float_data.iter().copied().map(whole).collect(),
        _ => None,
    }
}

/// How many elements the file really holds of a tensor, or says that another file does, which is looked into elsewhere.
pub(super) fn held(tensor: &TensorProto) -> u64 {
    use crate::proto::tensor_proto::DataLocation;
    let declared = Fixed::of(tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(0)).collect());
    let declared = declared.elements.unwrap_or(0);
    if tensor.data_location == Some(DataLocation::External as i32) {
        return declared;
    }
    let lists = [
        tensor.raw_data.as_ref().map_or(0, bytes::Bytes::len),
        tensor.float_data.len(),
        tensor.double_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.uint64_data.len(),
        tensor.string_data.len(),
    ];
    declared.min(lists.into_iter().max().unwrap_or(0) as u64)
}
