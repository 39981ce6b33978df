//! A file that is to be sent to a model: a picture, a tensor, or a request as it is.

use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use corymb_core::{Signature, Tensor, Tensors};
use corymb_repository::read_npy;
use corymb_wire::picture::media_type;
use serde_json::Value;

/// What a file holds.
pub(crate) enum RequestFile {
    /// A JPEG, PNG or WebP picture.
    Picture { media_type: &'static str, bytes: Bytes },
    /// The tensor of an `.npy` file.
    Tensor(Tensor),
    /// The JSON of a V1 request.
    V1(Bytes),
    /// The JSON of a V2 request.
    V2(Bytes),
}

impl RequestFile {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = Bytes::from(std::fs::read(path)?);
        if let Some(media_type) = media_type(&bytes) {
            return Ok(Self::Picture { media_type, bytes });
        }
        if path.extension().is_some_and(|ending| ending == "npy") {
            return Ok(Self::Tensor(read_npy(&bytes).map_err(anyhow::Error::msg)?));
        }
        let document: Value = serde_json::from_slice(&bytes)
            .context("neither a JPEG, PNG or WebP picture, nor .npy, nor a request in JSON")?;
        // V2's inputs are a list of objects with a datatype; V1's are instances, or inputs without one.
        let is_v2 = document.pointer("/inputs/0/datatype").is_some();
        Ok(if is_v2 { Self::V2(bytes) } else { Self::V1(bytes) })
    }
}

/// The tensor as the model's first input; a batch dimension is added where it lacks one.
pub(crate) fn as_first_input(tensor: Tensor, signature: &Signature) -> anyhow::Result<Tensors> {
    let input = signature.inputs.first().context("the model has no inputs")?;
    let lacks_batch = tensor.shape().len() + 1 == input.shape.len();
    let tensor = if lacks_batch {
        tensor.reshaped(std::iter::once(1).chain(tensor.shape().iter().copied()).collect::<Vec<usize>>())?
    } else {
        tensor
    };
    Ok(Tensors::from_iter([(input.name.as_str(), tensor)]))
}
