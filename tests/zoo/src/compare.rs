//! Whether an answer is the expected one.

use corymb_core::{DType, Tensor};
use half::{bf16, f16};

/// How two tensors differ; none when they agree: the same dtype and shape, the same elements, floating-point ones
/// within `tolerance`, relative to those larger than one. NaN agrees with NaN. Narrow types are allowed their own
/// rounding.
#[must_use]
pub fn differs(given: &Tensor, expected: &Tensor, tolerance: f64) -> Option<String> {
    if (given.dtype(), given.shape()) != (expected.dtype(), expected.shape()) {
        return Some(format!("is {given:?}; expected {expected:?}"));
    }
    let tolerance = tolerance.max(match expected.dtype() {
        DType::Fp16 => 1e-3,
        DType::Bf16 => 1e-2,
        _ => 0.0,
    });
    match (floats(given), floats(expected)) {
        (Some(left), Some(right)) => {
            let close = |left: f64, right: f64| {
                left == right
                    || (left.is_nan() && right.is_nan())
                    || (right.is_finite() && (left - right).abs() <= tolerance * right.abs().max(1.0))
            };
            let place = (0..right.len()).find(|&place| !close(left[place], right[place]))?;
            Some(format!("is {} at place {place}; expected {}", left[place], right[place]))
        }
        _ if given == expected => None,
        _ => Some(format!("is {}; expected {}", show(given), show(expected))),
    }
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    match tensor.dtype() {
        DType::Fp16 => Some(tensor.as_slice::<f16>()?.iter().map(|element| element.to_f64()).collect()),
        DType::Bf16 => Some(tensor.as_slice::<bf16>()?.iter().map(|element| element.to_f64()).collect()),
        DType::Fp32 => Some(tensor.as_slice::<f32>()?.iter().map(|element| f64::from(*element)).collect()),
        DType::Fp64 => Some(tensor.as_slice::<f64>()?.to_vec()),
        _ => None,
    }
}

fn show(tensor: &Tensor) -> String {
    /// Bytes of a tensor that a message shows.
    const SHOWN: usize = 64;
    match tensor.bytes() {
        Some(bytes) => format!("{tensor:?} {:?}", &bytes[..bytes.len().min(SHOWN)]),
        None => format!("{tensor:?} {:?}", tensor.elements().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp32(elements: &[f32]) -> Tensor {
        Tensor::from_slice([elements.len()], elements).expect("a tensor")
    }

    #[test]
    fn what_differs_is_told_from_what_does_not() {
        let expected = fp32(&[1.0, f32::NAN, f32::INFINITY, 1000.0]);
        assert_eq!(differs(&fp32(&[1.000_001, f32::NAN, f32::INFINITY, 1000.005]), &expected, 1e-5), None);
        assert!(differs(&fp32(&[1.001, f32::NAN, f32::INFINITY, 1000.0]), &expected, 1e-5).is_some());
        assert!(differs(&fp32(&[f32::NAN, f32::NAN, f32::INFINITY, 1000.0]), &expected, 1e-5).is_some());
        assert!(differs(&fp32(&[1.0, f32::NAN, f32::NEG_INFINITY, 1000.0]), &expected, 1e-5).is_some());
        assert!(differs(&fp32(&[1.0]), &expected, 1e-5).is_some());
        let whole = Tensor::from_slice([1], &[1_i64]).expect("a tensor");
        assert!(differs(&whole, &fp32(&[1.0]), 1e-5).is_some());
    }
}
