//! Tensors that cases feed, and the comparison of what comes back.

use bytes::Bytes;
use half::{bf16, f16};

use super::{Outcome, ensure};
use crate::{DType, Tensor, TensorError};

/// How far apart two answers may lie, relative to their size: other batch sizes may mean another order of additions.
const TOLERANCE: f32 = 1e-5;

/// FP32 of this shape, different everywhere, and different for each `seed`.
pub(super) fn fp32(shape: &[usize], seed: usize) -> Result<Tensor, String> {
    let count: usize = shape.iter().product();
    let elements: Vec<f32> = (0..count).map(|index| ((index + seed * 101) as f32 * 0.73).sin()).collect();
    Tensor::from_slice(shape, &elements).map_err(text)
}

/// INT64 counting up from `start`.
pub(super) fn int64(shape: &[usize], start: i64) -> Result<Tensor, String> {
    let count: usize = shape.iter().product();
    let elements: Vec<i64> = (start..).take(count).collect();
    Tensor::from_slice(shape, &elements).map_err(text)
}

/// Two rows of two elements of `dtype`, with the extremes that it has.
pub(super) fn extremes(dtype: DType) -> Result<Tensor, String> {
    let shape = [2, 2];
    let tensor = match dtype {
        DType::Bool => Tensor::new(dtype, shape, Bytes::from_static(&[0, 1, 1, 0])),
        DType::Uint8 => Tensor::from_slice(shape, &[0, 1, u8::MAX, 7]),
        DType::Uint16 => Tensor::from_slice(shape, &[0, 1, u16::MAX, 7]),
        DType::Uint32 => Tensor::from_slice(shape, &[0, 1, u32::MAX, 7]),
        DType::Uint64 => Tensor::from_slice(shape, &[0, 1, u64::MAX, 7]),
        DType::Int8 => Tensor::from_slice(shape, &[i8::MIN, -1, i8::MAX, 7]),
        DType::Int16 => Tensor::from_slice(shape, &[i16::MIN, -1, i16::MAX, 7]),
        DType::Int32 => Tensor::from_slice(shape, &[i32::MIN, -1, i32::MAX, 7]),
        DType::Int64 => Tensor::from_slice(shape, &[i64::MIN, -1, i64::MAX, 7]),
        DType::Fp16 => Tensor::from_slice(shape, &[f16::MIN, f16::NEG_ZERO, f16::INFINITY, f16::MIN_POSITIVE]),
        DType::Bf16 => Tensor::from_slice(shape, &[bf16::MIN, bf16::NEG_ZERO, bf16::INFINITY, bf16::MIN_POSITIVE]),
        DType::Fp32 => Tensor::from_slice(shape, &[f32::MIN, -0.0, f32::INFINITY, f32::MIN_POSITIVE]),
        DType::Fp64 => Tensor::from_slice(shape, &[f64::MIN, -0.0, f64::INFINITY, f64::MIN_POSITIVE]),
        DType::Bytes => Tensor::from_elements(shape, ["", "daisy", "ψ", "a\u{1f33c}b"].map(Bytes::from).to_vec()),
    };
    tensor.map_err(text)
}

/// That two tensors are the same, bit for bit.
pub(super) fn ensure_same(given: &Tensor, expected: &Tensor) -> Outcome {
    ensure(given == expected, || format!("gave {}; expected {}", show(given), show(expected)))
}

/// That two FP32 tensors have the same shape and nearly the same elements; others are the same.
pub(super) fn ensure_close(given: &Tensor, expected: &Tensor) -> Outcome {
    let (Some(left), Some(right)) = (given.as_slice::<f32>(), expected.as_slice::<f32>()) else {
        return ensure_same(given, expected);
    };
    let close = |(left, right): (&f32, &f32)| (left - right).abs() <= TOLERANCE * right.abs().max(1.0);
    let all = given.shape() == expected.shape() && left.iter().zip(right).all(close);
    ensure(all, || format!("gave {}; expected {}", show(given), show(expected)))
}

/// FP32 computed from each pair of elements of two tensors.
pub(super) fn zip(a: &Tensor, b: &Tensor, with: impl Fn(f32, f32) -> f32) -> Result<Tensor, String> {
    let (left, right) = (a.as_slice::<f32>().unwrap_or_default(), b.as_slice::<f32>().unwrap_or_default());
    let elements: Vec<f32> = left.iter().zip(right).map(|(a, b)| with(*a, *b)).collect();
    Tensor::from_slice(a.shape(), &elements).map_err(text)
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(super) fn text(error: TensorError) -> String {
    format!("the suite made a bad tensor: {error}")
}

fn show(tensor: &Tensor) -> String {
    /// Bytes of a tensor that a message shows.
    const SHOWN: usize = 64;
    match (tensor.as_slice::<f32>(), tensor.bytes()) {
        (Some(elements), _) => format!("{tensor:?} {:?}", &elements[..elements.len().min(SHOWN / 4)]),
        (_, Some(bytes)) => format!("{tensor:?} {:?}", &bytes[..bytes.len().min(SHOWN)]),
        _ => format!("{tensor:?} {:?}", tensor.elements().unwrap_or_default()),
    }
}
