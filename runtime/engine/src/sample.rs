//! Inputs to try a model with: made up, or varied from one that is known to be good; and the comparison of answers.

use corymb_core::{BatchAxes, Buffer, DType, Dim, Element, Signature, Tensor, TensorSpec, Tensors};

use crate::batch::Shapes;

/// Bytes of made-up inputs at most.
const MAX_BYTES: usize = 64 << 20;

/// One row of zeros for every required input, each open dimension 1; none where an input is BYTES or the zeros would be
/// large.
pub(crate) fn row_of(signature: &Signature) -> Option<Tensors> {
    let mut total = 0_usize;
    signature
        .required_inputs()
        .map(|spec| {
            let shape: Vec<usize> = spec.shape.iter().map(|dim| Dim::fixed(dim).unwrap_or(1)).collect();
            let size = DType::size(spec.dtype)?;
            let bytes = shape.iter().try_fold(size, |product, dim| product.checked_mul(*dim))?;
            total = total.checked_add(bytes).filter(|total| *total <= MAX_BYTES)?;
            Some((spec.name.clone(), Tensor::from_buffer(spec.dtype, shape, Buffer::zeroed(bytes)).ok()?))
        })
        .collect()
}

/// Inputs of these shapes that are made up, another for each `index`: noise for floating-point numbers, places in its table
/// for an input that has one, else zeros and ones, of which masks and kinds are made. None where an input is BYTES or they
/// would be large.
pub(crate) fn made(shapes: &Shapes, tables: &[(String, usize)], index: usize) -> Option<Tensors> {
    let mut noise = Noise(0x5eed ^ (index as u64) << 32);
    let mut total = 0_usize;
    let mut one = |(name, dtype, shape): &(String, DType, Vec<usize>)| {
        let count = shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
        total = total.checked_add(count.checked_mul(dtype.size()?)?).filter(|total| *total <= MAX_BYTES)?;
        let length = tables.iter().find(|(known, _)| known == name).map_or(2, |(_, length)| *length);
        Some((name.clone(), made_up(*dtype, shape, count, length, &mut noise)?))
    };
    shapes.iter().map(&mut one).collect()
}

fn made_up(dtype: DType, shape: &[usize], count: usize, length: usize, noise: &mut Noise) -> Option<Tensor> {
    fn of<T: Element>(shape: &[usize], count: usize, one: impl FnMut() -> T) -> Option<Tensor> {
        Tensor::from_slice(shape, &std::iter::repeat_with(one).take(count).collect::<Vec<T>>()).ok()
    }
    let mut place = |most: u32| {
        let length = u32::try_from(length).unwrap_or(u32::MAX).clamp(1, most);
        ((noise.next() + 1.0) / 2.0 * f64::from(length)) as u32 % length
    };
    match dtype {
        DType::Int8 => of(shape, count, || place(i8::MAX as u32) as i8),
        DType::Int16 => of(shape, count, || place(i16::MAX as u32) as i16),
        DType::Int32 => of(shape, count, || place(i32::MAX as u32) as i32),
        DType::Int64 => of(shape, count, || i64::from(place(u32::MAX))),
        DType::Uint8 => of(shape, count, || place(u32::from(u8::MAX)) as u8),
        DType::Uint16 => of(shape, count, || place(u32::from(u16::MAX)) as u16),
        DType::Uint32 => of(shape, count, || place(u32::MAX)),
        DType::Uint64 => of(shape, count, || u64::from(place(u32::MAX))),
        DType::Fp32 => of(shape, count, || noise.next() as f32),
        DType::Fp64 => of(shape, count, || noise.next()),
        DType::Fp16 => of(shape, count, || half::f16::from_f64(noise.next())),
        DType::Bf16 => of(shape, count, || half::bf16::from_f64(noise.next())),
        DType::Bool => {
            let bytes: Vec<u8> = std::iter::repeat_with(|| u8::from(noise.next() > 0.0)).take(count).collect();
            let mut buffer = Buffer::with_capacity(count);
            buffer.extend_from_slice(&bytes);
            Tensor::from_buffer(DType::Bool, shape.to_vec(), buffer).ok()
        }
        DType::Bytes => None,
    }
}

/// The shapes of one row, where the signature leaves nothing but the rows open; none where a request has to show them.
pub(crate) fn shapes_of_one_row(signature: &Signature, axes: &BatchAxes) -> Option<Shapes> {
    let shape = |spec: &TensorSpec| {
        let rows = axes.input(&spec.name);
        let size = |(axis, dim): (usize, &Dim)| if rows == Some(axis) { Some(1) } else { dim.fixed() };
        Some((spec.name.clone(), spec.dtype, spec.shape.iter().enumerate().map(size).collect::<Option<_>>()?))
    };
    signature.required_inputs().map(shape).collect()
}

/// The shapes of one row of a request of these shapes.
pub(crate) fn one_row(shapes: &Shapes, axes: &BatchAxes) -> Shapes {
    let mut shapes = shapes.clone();
    for (name, _, shape) in &mut shapes {
        if let Some(size) = axes.input(name).and_then(|axis| shape.get_mut(axis)) {
            *size = 1;
        }
    }
    shapes
}

/// `count` inputs of the same shapes: the first as given, the others with other numbers. Floating-point numbers are
/// scaled and shifted; integers, truth values and texts change places, so that a token stays one that the model knows.
pub(crate) fn vary(inputs: &Tensors, count: usize) -> Vec<Tensors> {
    let variant = |index: usize| {
        let varied = |(name, tensor): (&str, &Tensor)| (name.to_owned(), vary_tensor(tensor, index));
        inputs.iter().map(varied).collect()
    };
    (0..count).map(|index| if index == 0 { inputs.clone() } else { variant(index) }).collect()
}

/// A fixed sequence of numbers between -1 and 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

fn vary_tensor(tensor: &Tensor, index: usize) -> Tensor {
    fn floats<T: Element>(tensor: &Tensor, index: usize, read: fn(T) -> f64, write: fn(f64) -> T) -> Option<Tensor> {
        let mut noise = Noise(index as u64);
        let values = tensor.as_slice::<T>()?;
        let varied = values.iter().map(|value| write(read(*value) * (1.0 + 0.3 * noise.next()) + 0.5 * noise.next()));
        Tensor::from_slice(tensor.shape(), &varied.collect::<Vec<T>>()).ok()
    }
    fn rotated<T: Element>(tensor: &Tensor, index: usize) -> Option<Tensor> {
        let mut values = tensor.as_slice::<T>()?.to_vec();
        if !values.is_empty() {
            let by = index % values.len();
            values.rotate_left(by);
        }
        Tensor::from_slice(tensor.shape(), &values).ok()
    }
    let varied = match tensor.dtype() {
        DType::Fp32 => floats::<f32>(tensor, index, f64::from, |value| value as f32),
        DType::Fp64 => floats::<f64>(tensor, index, |value| value, |value| value),
        DType::Fp16 => floats::<half::f16>(tensor, index, f64::from, half::f16::from_f64),
        DType::Bf16 => floats::<half::bf16>(tensor, index, f64::from, half::bf16::from_f64),
        DType::Int8 => rotated::<i8>(tensor, index),
        DType::Int16 => rotated::<i16>(tensor, index),
        DType::Int32 => rotated::<i32>(tensor, index),
        DType::Int64 => rotated::<i64>(tensor, index),
        DType::Uint8 => rotated::<u8>(tensor, index),
        DType::Uint16 => rotated::<u16>(tensor, index),
        DType::Uint32 => rotated::<u32>(tensor, index),
        DType::Uint64 => rotated::<u64>(tensor, index),
        DType::Bool | DType::Bytes => None,
    };
    varied.unwrap_or_else(|| tensor.clone())
}

/// Whether all answers agree within the rounding of their datatype; if not, what does not.
pub(crate) fn compare_all(one: &[Tensors], two: &[Tensors]) -> Result<(), String> {
    one.iter().zip(two).try_for_each(|(one, two)| compare(one, two))
}

/// As [`compare_all`], of one answer.
pub(crate) fn compare(one: &Tensors, two: &Tensors) -> Result<(), String> {
    one.iter().try_for_each(|(name, tensor)| {
        let other = two.get(name).ok_or_else(|| format!("output '{name}' is missing"))?;
        compare_tensors(tensor, other).map_err(|difference| format!("output '{name}': {difference}"))
    })
}

fn compare_tensors(one: &Tensor, two: &Tensor) -> Result<(), String> {
    fn numbers<T: Element>(tensor: &Tensor, read: fn(T) -> f64) -> Vec<f64> {
        tensor.as_slice::<T>().unwrap_or_default().iter().map(|value| read(*value)).collect()
    }
    if one.dtype() != two.dtype() || one.shape() != two.shape() {
        return Err(format!("{one:?} against {two:?}"));
    }
    let (one_values, two_values, rounding) = match one.dtype() {
        DType::Fp32 => (numbers::<f32>(one, f64::from), numbers::<f32>(two, f64::from), 2e-4),
        DType::Fp64 => (numbers::<f64>(one, |value| value), numbers::<f64>(two, |value| value), 1e-8),
        DType::Fp16 => (numbers::<half::f16>(one, f64::from), numbers::<half::f16>(two, f64::from), 2e-2),
        DType::Bf16 => (numbers::<half::bf16>(one, f64::from), numbers::<half::bf16>(two, f64::from), 5e-2),
        _ if one == two => return Ok(()),
        _ => return Err("values differ".to_owned()),
    };
    let largest = one_values.iter().filter(|value| value.is_finite()).fold(0.0_f64, |max, value| max.max(value.abs()));
    for (index, (a, b)) in one_values.iter().zip(&two_values).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= rounding * largest.max(1e-6);
        if !same {
            return Err(format!("element {index} is {a} or {b}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(values: &[f32]) -> Tensors {
        Tensors::from_iter([("x", Tensor::from_slice([1, values.len()], values).expect("valid"))])
    }

    #[test]
    fn variants_differ_and_tokens_stay_tokens() {
        let tokens = Tensor::from_slice([1, 3], &[5_i64, 6, 7]).expect("valid");
        let mut inputs = tensors(&[0.0, 1.0]);
        inputs.push("tokens", tokens);
        let varied = vary(&inputs, 3);
        assert_eq!(varied[0], inputs);
        assert_ne!(varied[1].get("x"), varied[2].get("x"));
        assert_eq!(varied[1].get("tokens").and_then(Tensor::as_slice::<i64>), Some(&[6, 7, 5][..]));
    }

    #[test]
    fn rounding_is_forgiven_and_nothing_else() {
        assert_eq!(compare(&tensors(&[1.0, 100.0]), &tensors(&[1.01, 100.0])), Ok(()));
        assert_eq!(compare(&tensors(&[f32::NAN]), &tensors(&[f32::NAN])), Ok(()));
        let error = compare(&tensors(&[1.0, 100.0]), &tensors(&[1.0, 101.0])).expect_err("differs");
        assert_eq!(error, "output 'x': element 1 is 100 or 101");
        assert!(compare(&tensors(&[1.0]), &tensors(&[1.0, 2.0])).is_err());
    }
}
