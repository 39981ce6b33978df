//! A request made up from a model's signature: right dtypes and shapes, values that harm nobody.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use corymb_core::{Buffer, DType, Signature, Tensor, TensorSpec, Tensors, element_count};

use super::Shape;
use crate::embedded;

/// Of one made-up tensor, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// The required inputs, and in words what was put into them.
pub(super) fn inputs(signature: &Signature, batch: usize, shapes: &[Shape]) -> anyhow::Result<(Tensors, String)> {
    if let Some(unknown) = shapes.iter().find(|shape| signature.required_inputs().all(|spec| spec.name != shape.input))
    {
        let names: Vec<_> = signature.required_inputs().map(|spec| format!("'{}'", spec.name)).collect();
        bail!("--shape names the input '{}'; the model requires {}", unknown.input, names.join(", "));
    }
    let mut inputs = Tensors::new();
    let mut has_picture = false;
    for spec in signature.required_inputs() {
        let given = shapes.iter().find(|shape| shape.input == spec.name).map(|shape| shape.dims.clone());
        let shape = given.unwrap_or_else(|| self::shape(spec, batch));
        let tensor = if spec.dtype == DType::Bytes {
            let is_json = spec.media_type.as_deref() == Some("application/json");
            let element = if is_json { Bytes::from_static(b"{}") } else { embedded::picture() };
            has_picture |= !is_json;
            Tensor::from_elements(shape.clone(), vec![element; element_count(&shape)?])?
        } else {
            numbers(spec.dtype, shape).with_context(|| format!("make up input '{}'", spec.name))?
        };
        inputs.push(&spec.name, tensor);
    }
    let words = if has_picture { "made up, with this program's picture" } else { "made up" };
    Ok((inputs, words.to_owned()))
}

/// The name of the one input that a picture can only be meant for.
pub(super) fn only_bytes_input(signature: &Signature) -> Option<&str> {
    let mut required = signature.required_inputs();
    match (required.next(), required.next()) {
        (Some(one), None) if one.dtype == DType::Bytes => Some(&one.name),
        _ => None,
    }
}

/// The first dimension is the rows, where it varies; other sizes that vary are 1.
fn shape(spec: &TensorSpec, batch: usize) -> Vec<usize> {
    let sizes = spec.shape.iter().enumerate();
    sizes.map(|(index, dim)| dim.fixed().unwrap_or(if index == 0 { batch } else { 1 })).collect()
}

/// Floats between 0 and 1, bytes of all values, other integers 0 and 1, which are tokens of every vocabulary.
fn numbers(dtype: DType, shape: Vec<usize>) -> anyhow::Result<Tensor> {
    let count = element_count(&shape)?;
    let size = dtype.size().unwrap_or(1);
    if count.saturating_mul(size) > MAX_BYTES {
        bail!("{count} elements of {size} bytes; at most {MAX_BYTES} bytes are made up");
    }
    let mut buffer = Buffer::with_capacity(count * size);
    // Knuth's multiplicative hash: the same at every run, and no two neighbours alike.
    for index in 0..count as u32 {
        let hash = index.wrapping_mul(2_654_435_761);
        let share = f64::from(hash >> 8) / f64::from(1_u32 << 24);
        let bit = hash >> 31;
        match dtype {
            DType::Bool => buffer.push(bit as u8),
            DType::Uint8 | DType::Int8 => buffer.push((hash >> 24) as u8),
            DType::Uint16 | DType::Int16 => buffer.push(bit as u16),
            DType::Uint32 | DType::Int32 => buffer.push(bit),
            DType::Uint64 | DType::Int64 => buffer.push(u64::from(bit)),
            // 0.5 and 0.75 as bits: what half floats can be made of without a crate for them.
            DType::Fp16 => buffer.push(0x3800_u16 + (bit as u16) * 0x0200),
            DType::Bf16 => buffer.push(0x3f00_u16 + (bit as u16) * 0x0040),
            DType::Fp32 => buffer.push(share as f32),
            DType::Fp64 => buffer.push(share),
            DType::Bytes => bail!("BYTES is not a number"),
        }
    }
    Ok(Tensor::from_buffer(dtype, shape, buffer)?)
}

#[cfg(test)]
mod tests {
    use corymb_core::Dim;

    use super::*;

    fn signature(inputs: Vec<TensorSpec>) -> Signature {
        Signature { inputs, outputs: Vec::new() }
    }

    #[test]
    fn every_dtype_is_made_up_in_the_shape_that_was_asked_for() {
        for dtype in DType::ALL {
            let shape = vec![Dim::Unknown, Dim::Fixed(3), Dim::Unknown];
            let mut optional = TensorSpec::new("o", DType::Bytes, vec![Dim::Unknown]);
            optional.optional = true;
            let signature = signature(vec![TensorSpec::new("x", dtype, shape), optional]);
            let (made, _) = inputs(&signature, 2, &[]).expect("made");
            assert_eq!(made.len(), 1);
            let made = made.get("x").expect("named");
            assert_eq!((made.dtype(), made.shape()), (dtype, &[2, 3, 1][..]));
            let shape = Shape { input: "x".to_owned(), dims: vec![1, 3, 7] };
            let (made, _) = inputs(&signature, 2, &[shape]).expect("made");
            assert_eq!(made.get("x").expect("named").shape(), [1, 3, 7]);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let signature = signature(vec![TensorSpec::new("x", DType::Fp32, vec![Dim::Unknown])]);
        let message = |batch, shapes: &[Shape]| format!("{:#}", inputs(&signature, batch, shapes).expect_err("wrong"));
        let shape = Shape { input: "y".to_owned(), dims: vec![1] };
        assert_eq!(message(1, &[shape]), "--shape names the input 'y'; the model requires 'x'");
        assert!(message(1 << 30, &[]).contains("are made up"));
        assert!(only_bytes_input(&signature).is_none());
    }
}
