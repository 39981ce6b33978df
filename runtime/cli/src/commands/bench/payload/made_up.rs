//! A request made up from V2's metadata of a model: right dtypes and shapes, values that harm nobody.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use corymb_core::{Buffer, DType, Tensor, element_count};
use serde_json::Value;

use super::{Inputs, Shape};
use crate::embedded;

/// Of one made-up tensor, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// The required inputs, and in words what was put into them.
pub(super) fn inputs(metadata: &Value, batch: usize, shapes: &[Shape]) -> anyhow::Result<(Inputs, String)> {
    let required = required(metadata)?;
    if let Some(unknown) = shapes.iter().find(|shape| required.iter().all(|spec| spec.name != shape.input)) {
        bail!("--shape names the input '{}'; the model requires {}", unknown.input, names(&required));
    }
    let mut inputs = Inputs::new();
    let mut has_picture = false;
    for spec in required {
        let given = shapes.iter().find(|shape| shape.input == spec.name).map(|shape| shape.dims.clone());
        let shape = given.unwrap_or_else(|| spec.shape(batch));
        let tensor = if spec.dtype == DType::Bytes {
            let element = if spec.is_json { Bytes::from_static(b"{}") } else { embedded::picture() };
            has_picture |= !spec.is_json;
            Tensor::from_elements(shape.clone(), vec![element; element_count(&shape)?])?
        } else {
            numbers(spec.dtype, shape).with_context(|| format!("make up input '{}'", spec.name))?
        };
        inputs.push((spec.name, tensor));
    }
    let words = if has_picture { "made up, with this program's picture" } else { "made up" };
    Ok((inputs, words.to_owned()))
}

/// The name of the one input that a picture can only be meant for.
pub(super) fn only_bytes_input(metadata: &Value) -> Option<String> {
    match required(metadata).ok()?.as_slice() {
        [one] if one.dtype == DType::Bytes => Some(one.name.clone()),
        _ => None,
    }
}

struct Spec {
    name: String,
    dtype: DType,
    /// None where the size varies.
    dims: Vec<Option<usize>>,
    is_json: bool,
}

impl Spec {
    /// The first dimension is the rows, where it varies; other sizes that vary are 1.
    fn shape(&self, batch: usize) -> Vec<usize> {
        let sizes = self.dims.iter().enumerate();
        sizes.map(|(index, dim)| dim.unwrap_or(if index == 0 { batch } else { 1 })).collect()
    }
}

fn required(metadata: &Value) -> anyhow::Result<Vec<Spec>> {
    let inputs = metadata["inputs"].as_array().context("the model's metadata has no list of inputs")?;
    let required = inputs.iter().filter(|input| input.pointer("/parameters/optional") != Some(&Value::Bool(true)));
    required
        .map(|input| {
            let name = input["name"].as_str().context("an input has no name")?.to_owned();
            let datatype = input["datatype"].as_str().unwrap_or_default();
            let dtype =
                DType::from_name(datatype).with_context(|| format!("input '{name}' has the datatype '{datatype}'"))?;
            let dims = input["shape"].as_array().into_iter().flatten();
            let dims = dims.map(|dim| dim.as_i64().and_then(|dim| usize::try_from(dim).ok())).collect();
            let media_type = input.pointer("/parameters/media_type").and_then(Value::as_str);
            Ok(Spec { name, dtype, dims, is_json: media_type == Some("application/json") })
        })
        .collect()
}

fn names(specs: &[Spec]) -> String {
    specs.iter().map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")
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
    use serde_json::json;

    use super::*;

    #[test]
    fn every_dtype_is_made_up_in_the_shape_that_was_asked_for() {
        for dtype in DType::ALL {
            let metadata = json!({"inputs": [
                {"name": "x", "datatype": dtype.name(), "shape": [-1, 3, -1]},
                {"name": "o", "datatype": "BYTES", "shape": [-1], "parameters": {"optional": true}},
            ]});
            let (made, _) = inputs(&metadata, 2, &[]).expect("made");
            assert_eq!(made.len(), 1);
            assert_eq!((made[0].1.dtype(), made[0].1.shape()), (dtype, &[2, 3, 1][..]));
            let shape = Shape { input: "x".to_owned(), dims: vec![1, 3, 7] };
            assert_eq!(inputs(&metadata, 2, &[shape]).expect("made").0[0].1.shape(), [1, 3, 7]);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let metadata = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]});
        let message =
            |result: anyhow::Result<_>| format!("{:#}", result.map(|_: (Inputs, String)| ()).expect_err("wrong"));
        let shape = Shape { input: "y".to_owned(), dims: vec![1] };
        assert_eq!(message(inputs(&metadata, 1, &[shape])), "--shape names the input 'y'; the model requires 'x'");
        assert!(message(inputs(&metadata, 1 << 30, &[])).contains("are made up"));
        assert!(message(inputs(&json!({}), 1, &[])).contains("no list of inputs"));
        assert!(only_bytes_input(&metadata).is_none());
    }
}
