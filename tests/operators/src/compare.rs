//! Whether an answer is the right one, by dtype.

use corymb_core::{DType, Tensor};
use half::f16;

/// How two tensors differ; none where they agree. `steps` is how far integers may be off.
///
/// Floating-point elements may be off by a share of themselves, and by a smaller share of the largest element, which is
/// what sums of large numbers with opposite signs lose; of 1 where each element is computed by itself.
pub(crate) fn differs(given: &Tensor, right: &Tensor, steps: u64, elementwise: bool) -> Option<String> {
    if (given.dtype(), given.shape()) != (right.dtype(), right.shape()) {
        return Some(format!("is {given:?}; expected {right:?}"));
    }
    let (relative, absolute) = match right.dtype() {
        DType::Fp16 => (4e-3, 1e-3),
        DType::Fp32 => (1e-4, 2e-6),
        // tract computes some functions of FP64 by way of FP32; as much as FP32 is enough for those who serve.
        DType::Fp64 => (1e-5, 4e-7),
        _ => {
            let (given, right) = (integers(given)?, integers(right)?);
            let off = |place: &usize| given[*place].abs_diff(right[*place]) > u128::from(steps);
            let place = (0..right.len()).find(off)?;
            return Some(format!("is {} at place {place}; expected {}", given[place], right[place]));
        }
    };
    let (given, right) = (floats(given)?, floats(right)?);
    let summed = right.iter().filter(|value| value.is_finite() && !elementwise);
    let largest = summed.fold(1.0_f64, |most, value| most.max(value.abs()));
    let close = |left: f64, right: f64| {
        left == right
            || (left.is_nan() && right.is_nan())
            || (right.is_finite() && (left - right).abs() <= relative * right.abs() + absolute * largest)
    };
    let place = (0..right.len()).find(|&place| !close(given[place], right[place]))?;
    Some(format!("is {} at place {place}; expected {}", given[place], right[place]))
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    match tensor.dtype() {
        DType::Fp16 => Some(tensor.as_slice::<f16>()?.iter().map(|element| element.to_f64()).collect()),
        DType::Fp32 => Some(tensor.as_slice::<f32>()?.iter().map(|element| f64::from(*element)).collect()),
        DType::Fp64 => Some(tensor.as_slice::<f64>()?.to_vec()),
        _ => None,
    }
}

/// None for what is no integer, which no backend of the suite makes.
fn integers(tensor: &Tensor) -> Option<Vec<i128>> {
    macro_rules! wide {
        ($kind:ty) => {
            tensor.as_slice::<$kind>()?.iter().map(|element| i128::from(*element)).collect()
        };
    }
    Some(match tensor.dtype() {
        DType::Bool => tensor.bytes()?.iter().map(|byte| i128::from(*byte)).collect(),
        DType::Uint8 => wide!(u8),
        DType::Uint16 => wide!(u16),
        DType::Uint32 => wide!(u32),
        DType::Uint64 => wide!(u64),
        DType::Int8 => wide!(i8),
        DType::Int16 => wide!(i16),
        DType::Int32 => wide!(i32),
        DType::Int64 => wide!(i64),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp32(elements: &[f32]) -> Tensor {
        Tensor::from_slice([elements.len()], elements).expect("a tensor")
    }

    #[test]
    fn a_wrong_answer_is_told_from_a_rounded_one() {
        let right = fp32(&[1.0, f32::NAN, f32::INFINITY, 1000.0]);
        assert_eq!(differs(&fp32(&[1.000_01, f32::NAN, f32::INFINITY, 1000.01]), &right, 0, false), None);
        assert!(differs(&fp32(&[1.01, f32::NAN, f32::INFINITY, 1000.0]), &right, 0, false).is_some());
        assert!(differs(&fp32(&[1.0, 0.0, f32::INFINITY, 1000.0]), &right, 0, false).is_some());
        assert!(differs(&fp32(&[1.0]), &right, 0, false).is_some());
        let (given, right_beside_large) = (fp32(&[2.1, 60000.0]), fp32(&[2.0, 60000.0]));
        assert_eq!(differs(&given, &right_beside_large, 0, false), None);
        assert!(differs(&given, &right_beside_large, 0, true).is_some());
        let (left, right) = ([1_u8, 255], [2_u8, 254]);
        let (left, right) = (Tensor::from_slice([2], &left), Tensor::from_slice([2], &right));
        let (left, right) = (left.expect("a tensor"), right.expect("a tensor"));
        assert!(differs(&left, &right, 0, false).is_some());
        assert_eq!(differs(&left, &right, 1, false), None);
    }
}
