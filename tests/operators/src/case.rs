//! A case of the suite: a model, the inputs of a request, and the answer that is right.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use bytes::Bytes;
use corymb_core::{Buffer, DType, FileSource, ModelFiles, Tensor, Tensors};
use serde::Deserialize;

/// As `generate.py` writes it, one a line.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The operator, and what of it is tried.
    pub(crate) name: String,
    /// The ONNX file, in hexadecimal.
    pub(crate) model: String,
    pub(crate) inputs: Vec<Written>,
    pub(crate) outputs: Vec<Written>,
    /// How far integers may be off: quantised operators round in their own ways.
    #[serde(default)]
    pub(crate) steps: u64,
    /// Whether an answer's elements may be anything, as of operators that draw at random.
    #[serde(default)]
    pub(crate) any: bool,
    /// Whether each element is computed by itself, so that the others do not excuse how far it is off.
    #[serde(default)]
    pub(crate) elementwise: bool,
    /// Whether a failure says nothing: nothing is computed, as of empty tensors. A wrong answer is wrong all the same.
    #[serde(default)]
    pub(crate) may_fail: bool,
}

/// A tensor in hexadecimal, little-endian.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: String,
}

impl Case {
    pub(crate) fn files(&self) -> Result<ModelFiles, String> {
        let bytes = Bytes::from(bytes(&self.model)?);
        Ok(ModelFiles { model: FileSource::Embedded { name: "case.onnx".to_owned(), bytes } })
    }
}

/// The tensors by name.
pub(crate) fn tensors(written: &[Written]) -> Result<Tensors, String> {
    let read = |written: &Written| {
        let dtype = DType::from_name(&written.dtype).ok_or_else(|| format!("{} is no dtype", written.dtype))?;
        let buffer = Buffer::copy_of(&bytes(&written.data)?);
        let tensor = Tensor::from_buffer(dtype, written.shape.clone(), buffer).map_err(|error| error.to_string())?;
        Ok((written.name.clone(), tensor))
    };
    written.iter().map(read).collect()
}

fn bytes(written: &str) -> Result<Vec<u8>, String> {
    let digit = |letter: u8| char::from(letter).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = written.as_bytes().as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    let read = pairs.iter().map(pair).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty());
    read.ok_or_else(|| "not hexadecimal".to_owned())
}

/// All cases of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Case>, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = |(number, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(|error| error.to_string())?;
        serde_json::from_str(&line).map_err(|error| format!("{} line {}: {error}", path.display(), number + 1))
    };
    BufReader::new(file).lines().enumerate().map(parse).collect()
}
