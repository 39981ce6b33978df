//! Comfort for declaring and reading signatures.

use std::fmt;

use crate::{DType, Description, Model, TensorSpec};

impl TensorSpec {
    /// A required tensor. `None` is a dimension of any size.
    #[must_use]
    pub fn new(name: impl Into<String>, dtype: DType, shape: impl IntoIterator<Item = Option<u32>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into_iter().collect(), optional: false, media_type: None }
    }

    /// The same, but a request may leave it out.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The same, of elements with this media type: `image/*`, `application/json`, `text/plain`.
    #[must_use]
    pub fn with_media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = Some(media_type.into());
        self
    }
}

/// As in `FP32 [?,6]`.
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.dtype)?;
        for (index, dim) in self.shape.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match dim {
                Some(size) => write!(f, "{comma}{size}")?,
                None => write!(f, "{comma}?")?,
            }
        }
        f.write_str("]")
    }
}

impl Model {
    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    /// The output of that name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }
}

/// Nothing declared, one request per instance.
impl Default for Description {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            outputs: Vec::new(),
            model_inputs: Vec::new(),
            model_outputs: Vec::new(),
            reusable: false,
        }
    }
}

impl DType {
    /// Bytes per element; none where elements vary in length, or are of a type that is not known here.
    #[must_use]
    pub const fn size(&self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes | Self::Other(_) => None,
        }
    }
}

/// The Open Inference Protocol's name.
impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
            Self::Other(name) => name,
        })
    }
}
