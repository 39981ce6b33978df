//! V1 REST: TensorFlow Serving's `:predict` document, with KServe's variations.
//!
//! The format is TensorFlow Serving's `api_rest.md`; the rules beyond it are:
//! * a row is an object of named values, or, where the model requires one input only, that input's bare value;
//! * a list of named rows under `inputs`, as KServe's clients send it, is read and answered like `instances`;
//! * unknown members are ignored, a known one given twice is an error;
//! * elements of inputs and outputs of media type `application/json` are values of the JSON itself;
//! * a body that is a picture is one row of the model's only required input.

mod reader;
mod writer;

use bytes::Bytes;
use corymb_core::{Error, Response, Signature, Tensor, Tensors};
use http::HeaderMap;

use crate::decoded::{Decoded, Encoded};
use crate::json::column::holds_documents;
use crate::json::writer::{Values, write_nested};
use crate::limits::{Budget, Limits, Unbounded};
use crate::picture;

/// How a document is written, and so how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// This many rows: `instances`, answered by `predictions`.
    Rows(usize),
    /// Whole tensors: `inputs`, answered by `outputs`.
    Columns,
}

const REQUEST: reader::Names =
    reader::Names { rows: "instances", row: "instance", columns: "inputs", tensor: "input", documents_are_bare: false };
const ANSWER: reader::Names = reader::Names {
    rows: "predictions",
    row: "prediction",
    columns: "outputs",
    tensor: "output",
    documents_are_bare: true,
};

/// Reads a request's body into the model's inputs.
///
/// # Errors
/// [`corymb_core::Code::InvalidArgument`] names the instance, the input, what was given and what was expected;
/// [`corymb_core::Code::TooLarge`] and what `budget` refuses.
pub fn decode(
    signature: &Signature,
    headers: &HeaderMap,
    body: &Bytes,
    limits: &Limits,
    budget: &mut dyn Budget,
) -> Result<Decoded<Form>, Error> {
    if picture::is_picture(headers, body) {
        return Ok(Decoded::of(picture::inputs(signature, body)?, Form::Rows(1)));
    }
    let (inputs, form) = reader::read(&REQUEST, &signature.inputs, body, limits, budget)?;
    Ok(Decoded::of(inputs, form))
}

/// Writes the answer in the form of its request.
///
/// # Errors
/// Where outputs have no row for each instance, and the request was of rows; what `budget` refuses.
pub fn encode(
    signature: &Signature,
    form: Form,
    response: &Response,
    budget: &mut dyn Budget,
) -> Result<Encoded, Error> {
    let documents = |name: &str| signature.output(name).is_some_and(holds_documents);
    writer::write(["predictions", "outputs"], form, &response.outputs, documents, budget).map(Encoded::json)
}

/// Writes a request: rows where every input has as many, else columns.
///
/// # Errors
/// None for tensors that are what they say.
pub fn encode_request(inputs: &Tensors) -> Result<Encoded, Error> {
    let mut rows = inputs.iter().map(|(_, tensor)| tensor.rows());
    let form = match rows.next() {
        Some(Some(first)) if first > 0 && rows.all(|rows| rows == Some(first)) => Form::Rows(first),
        _ => Form::Columns,
    };
    writer::write(["instances", "inputs"], form, inputs, |_| false, &mut Unbounded).map(Encoded::json)
}

/// A tensor as V1 writes its values: nested lists, texts, base64 objects.
///
/// # Errors
/// None for a tensor that is what it says.
pub fn text_of(name: &str, tensor: &Tensor) -> Result<String, Error> {
    let mut out = Vec::new();
    write_nested(&Values::of_v1(name, tensor, false)?, tensor.shape(), &mut 0, &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Reads an answer. The dtypes are those of the signature's outputs, since the document has none.
///
/// # Errors
/// As [`decode`], with outputs for inputs.
pub fn decode_answer(
    signature: &Signature,
    body: &Bytes,
    limits: &Limits,
    budget: &mut dyn Budget,
) -> Result<Tensors, Error> {
    // An answer may have only the outputs that were asked for.
    let mut outputs = signature.outputs.clone();
    if outputs.len() > 1 {
        outputs.iter_mut().for_each(|spec| spec.optional = true);
    }
    reader::read(&ANSWER, &outputs, body, limits, budget).map(|(outputs, _)| outputs)
}

#[cfg(test)]
mod tests;
