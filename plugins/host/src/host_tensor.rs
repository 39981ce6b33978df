//! The data behind a guest's handle: a tensor that is shared, or one that its guest still writes.

use corymb_core::{Buffer, DType, Tensor};

use crate::limits::Stop;

/// A tensor of a guest.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub enum HostTensor {
    /// Received, handed over or shared: never written again.
    Shared(Tensor),
    /// Made by this guest and seen by nobody else yet.
    Writable { dtype: DType, shape: Vec<usize>, buffer: Buffer },
}

impl From<Tensor> for HostTensor {
    fn from(tensor: Tensor) -> Self {
        Self::Shared(tensor)
    }
}

impl HostTensor {
    /// The tensor, shared from now on.
    pub(crate) fn share(&mut self) -> Result<Tensor, Stop> {
        if let Self::Writable { dtype, shape, buffer } = self {
            let tensor = Tensor::from_buffer(*dtype, std::mem::take(shape), std::mem::take(buffer))
                .map_err(|error| Stop::Contract(error.to_string()))?;
            *self = Self::Shared(tensor);
        }
        match self {
            Self::Shared(tensor) => Ok(tensor.clone()),
            Self::Writable { .. } => unreachable!("replaced above"),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            Self::Shared(tensor) => tensor.dtype(),
            Self::Writable { dtype, .. } => *dtype,
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Shared(tensor) => tensor.shape(),
            Self::Writable { shape, .. } => shape,
        }
    }

    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Shared(tensor) => tensor.byte_len(),
            Self::Writable { buffer, .. } => buffer.len(),
        }
    }
}
