//! Samples for warm-up: `warmup/INPUT.npy` is a tensor, any other ending is the bytes of one BYTES element.

use std::path::Path;

use bytes::Bytes;
use corymb_core::{DType, FileSource, Tensor};

use crate::error::RepositoryError;
use crate::npy::read_npy;

/// What a sample may have, in bytes.
const MOST: u64 = 256 << 20;

/// One input's sample, since zeros are no picture.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The served input it is for: the file's name without its ending.
    pub input: String,
    /// The file.
    pub file: FileSource,
    /// What a file without a header of its own holds: Triton's samples.
    pub raw: Option<(DType, Vec<usize>)>,
}

impl Sample {
    pub(crate) fn new(file: FileSource) -> Self {
        let name = file.name();
        let input = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { input, file, raw: None }
    }

    /// The sample as a tensor; of a file that is not `.npy`, and of which nothing else is said, a BYTES tensor of
    /// shape `[1]`.
    ///
    /// # Errors
    /// [`RepositoryError::Sample`] when the file cannot be read or understood.
    pub fn tensor(&self) -> Result<Tensor, RepositoryError> {
        let name = self.file.name();
        let fail = |reason: String| RepositoryError::Sample { path: name.clone().into(), reason };
        let bytes: Bytes = self.file.read_up_to(MOST).map_err(|error| fail(error.to_string()))?;
        if let Some((dtype, shape)) = &self.raw {
            return Tensor::from_wire(*dtype, shape.clone(), bytes).map_err(|error| fail(error.to_string()));
        }
        if Path::new(&name).extension().is_some_and(|ending| ending == "npy") {
            return read_npy(&bytes).map_err(fail);
        }
        Tensor::from_elements([1], vec![bytes]).map_err(|error| fail(error.to_string()))
    }
}
