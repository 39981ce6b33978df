//! When two tensors, or two parameters, are the same.

use corymb_core::{Buffer, DType, Parameters, Tensor, Tensors, Value};
use half::{bf16, f16};

/// The tensors with one NaN: JSON has no other.
pub(crate) fn one_nan(tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(name, tensor)| (name, one_nan_of(tensor))).collect()
}

fn one_nan_of(tensor: &Tensor) -> Tensor {
    let Some(bytes) = tensor.bytes() else { return tensor.clone() };
    let mut buffer = Buffer::copy_of(bytes);
    match tensor.dtype() {
        DType::Fp16 => replace(buffer.as_mut_slice::<f16>(), |value| value.is_nan(), f16::NAN),
        DType::Bf16 => replace(buffer.as_mut_slice::<bf16>(), |value| value.is_nan(), bf16::NAN),
        DType::Fp32 => replace(buffer.as_mut_slice::<f32>(), |value| value.is_nan(), f32::NAN),
        DType::Fp64 => replace(buffer.as_mut_slice::<f64>(), |value| value.is_nan(), f64::NAN),
        _ => return tensor.clone(),
    }
    Tensor::from_buffer(tensor.dtype(), tensor.shape(), buffer).expect("as before")
}

fn replace<T: Copy>(values: &mut [T], is_nan: impl Fn(T) -> bool, nan: T) {
    for value in values.iter_mut().filter(|value| is_nan(**value)) {
        *value = nan;
    }
}

/// That both are the same to the bit, in names, order, dtypes, shapes and data.
#[track_caller]
pub(crate) fn assert_same(got: &Tensors, expected: &Tensors) {
    if got == expected {
        return;
    }
    for ((name, got), (expected_name, expected)) in got.iter().zip(expected.iter()) {
        let data = |tensor: &Tensor| (tensor.bytes().cloned(), tensor.elements().map(<[bytes::Bytes]>::to_vec));
        assert_eq!((name, got), (expected_name, expected), "{:?} and {:?}", data(got), data(expected));
    }
    panic!("{got:?} and {expected:?}");
}

/// That both have the same names, in any order, with the same values.
#[track_caller]
pub(crate) fn assert_same_parameters(got: &Parameters, expected: &Parameters) {
    let same = |one: &Value, other: &Value| match (one, other) {
        (Value::Double(one), Value::Double(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    };
    let all = expected.iter().all(|(name, value)| got.get(name).is_some_and(|got| same(got, value)));
    assert!(all && got.iter().len() == expected.iter().len(), "{got:?} and {expected:?}");
}
