//! Tensors into tract and out of it: one copy in, none out.

use std::sync::Arc;

use bytes::Bytes;
use corymb_core::{BackendError, Buffer, DType, Tensor, TensorSpec};
use tract_onnx::tract_core::internal::{
    IntoArcTensor as _, IntoTValue as _, TValue, Tensor as TractTensor, TractResult,
};

use crate::plan::datum_type;

/// Copies a tensor into tract's memory, which its kernels want aligned to their vectors and to be their own.
pub(crate) fn into_tract(name: &str, tensor: &Tensor) -> Result<TValue, BackendError> {
    let shape = tensor.shape();
    macro_rules! copy {
        ($type:ty) => {
            tensor.as_slice::<$type>().map(|elements| TractTensor::from_shape(shape, elements))
        };
    }
    let copied: Option<TractResult<TractTensor>> = match tensor.dtype() {
        DType::Bool => tensor.as_slice::<u8>().map(|bytes| {
            // Two copies for the one type that no view of ours fits.
            let elements: Vec<bool> = bytes.iter().map(|&byte| byte != 0).collect();
            TractTensor::from_shape(shape, &elements)
        }),
        DType::Uint8 => copy!(u8),
        DType::Uint16 => copy!(u16),
        DType::Uint32 => copy!(u32),
        DType::Uint64 => copy!(u64),
        DType::Int8 => copy!(i8),
        DType::Int16 => copy!(i16),
        DType::Int32 => copy!(i32),
        DType::Int64 => copy!(i64),
        DType::Fp16 => copy!(half::f16),
        DType::Fp32 => copy!(f32),
        DType::Fp64 => copy!(f64),
        DType::Bf16 | DType::Bytes => None,
    };
    match copied {
        Some(Ok(copied)) => Ok(copied.into_tvalue()),
        Some(Err(error)) => Err(BackendError::Failed(format!("input '{name}': {error}"))),
        None => Err(BackendError::InvalidInput(format!("input '{name}': tract takes no {}", tensor.dtype()))),
    }
}

/// Shares tract's memory. Its outputs are dense, and aligned to its vectors, so to any element.
pub(crate) fn from_tract(spec: &TensorSpec, value: TValue) -> Result<Tensor, BackendError> {
    let failed = |what: &dyn std::fmt::Display| BackendError::Failed(format!("output '{}': {what}", spec.name));
    let mut tensor = value.into_arc_tensor();
    if !tensor.is_plain_ram() {
        return Err(failed(&"tract made a tensor that is not plain memory"));
    }
    let declared = datum_type(spec.dtype).ok_or_else(|| failed(&format!("tract makes no {}", spec.dtype)))?;
    if tensor.datum_type().unquantized() != declared {
        // tract computes shapes in a type of its own, and drops some casts that change no value.
        tensor = tensor.cast_to_dt(declared).map_err(|error| failed(&error))?.into_owned().into_arc_tensor();
    }
    let shape = tensor.shape().to_vec();
    // tract's empty tensors point nowhere, which is not aligned to anything.
    let bytes = if tensor.len() == 0 { Buffer::default().freeze() } else { Bytes::from_owner(Owner(tensor)) };
    Tensor::new(spec.dtype, shape, bytes).map_err(|error| failed(&error))
}

struct Owner(Arc<TractTensor>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
