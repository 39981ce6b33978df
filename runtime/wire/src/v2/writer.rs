//! Tensors as a V2 document: an answer's outputs, a request's inputs, with Triton's binary data behind the JSON.

use bytes::Bytes;
use corymb_core::{Code, Error, Response, Tensor, Tensors, Value};

use super::{Ask, Binary};
use crate::decoded::Encoded;
use crate::json::writer::{Values, double, signed, string_len, unsigned, write_string};
use crate::limits::{Budget, reserved};
use crate::raw;

/// What the words of an answer, and those of a tensor, take at most.
const AROUND: usize = 192;
/// The most that a number takes, with a comma.
const NUMBER: usize = 25;

/// Writes an answer. The members stand in Triton's order: `id` (where one was given), `model_name`, `model_version`,
/// `parameters` (where there are any), `outputs`.
///
/// BYTES in JSON are texts, or base64 with the parameter `content_type` of `base64` where one is not UTF-8.
pub(super) fn answer(ask: &Ask, response: &Response, budget: &mut dyn Budget) -> Result<Encoded, Error> {
    let outputs = wanted(ask, response)?;
    let parameters = response.parameters.iter();
    let parameters = parameters.map(|(name, value)| string_len(name.as_bytes()) + value_len(value) + 2);
    let named = [&ask.id, &response.model, &response.version].map(|text| string_len(text.as_bytes()));
    let around = AROUND + named.iter().sum::<usize>() + parameters.sum::<usize>();
    let mut out = reserved(around + outputs.iter().map(Output::most_len).sum::<usize>(), budget)?;
    let room = out.capacity();
    out.push(b'{');
    if !ask.id.is_empty() {
        out.extend_from_slice(b"\"id\":");
        write_string(&ask.id, &mut out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"model_name\":");
    write_string(&response.model, &mut out);
    out.extend_from_slice(b",\"model_version\":");
    write_string(&response.version, &mut out);
    if !response.parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":{");
        for (index, (name, value)) in response.parameters.iter().enumerate() {
            comma(index, &mut out);
            write_string(name, &mut out);
            out.push(b':');
            write_value(value, &mut out);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"outputs\":");
    let encoded = finish(&outputs, out);
    if cfg!(test) {
        let len = encoded.body.len();
        assert!(len <= room, "an answer of {len} bytes, of which {room} were asked for");
    }
    Ok(encoded)
}

/// Writes a request.
pub(super) fn request(inputs: &Tensors, binary: Binary) -> Result<Encoded, Error> {
    let inputs: Vec<Output<'_>> =
        inputs.iter().map(|(name, tensor)| Output::new(name, tensor, binary.inputs)).collect::<Result<_, _>>()?;
    let mut out = Vec::with_capacity(AROUND + inputs.iter().map(Output::most_len).sum::<usize>());
    out.push(b'{');
    if binary.outputs {
        out.extend_from_slice(b"\"parameters\":{\"binary_data_output\":true},");
    }
    out.extend_from_slice(b"\"inputs\":");
    Ok(finish(&inputs, out))
}

/// The list of tensors, the end of the object, and the binary data.
fn finish(tensors: &[Output<'_>], mut out: Vec<u8>) -> Encoded {
    out.push(b'[');
    for (index, tensor) in tensors.iter().enumerate() {
        comma(index, &mut out);
        tensor.write(&mut out);
    }
    out.extend_from_slice(b"]}");
    let json_len = tensors.iter().any(|tensor| matches!(tensor.data, Data::Binary(_))).then_some(out.len());
    for tensor in tensors {
        if let Data::Binary(bytes) = &tensor.data {
            // Copied once, so that the body is one piece of known length.
            out.extend_from_slice(bytes);
        }
    }
    Encoded { body: out.into(), json_len }
}

struct Output<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    data: Data<'a>,
}

enum Data<'a> {
    Json(Values<'a>),
    Binary(Bytes),
}

fn wanted<'a>(ask: &Ask, response: &'a Response) -> Result<Vec<Output<'a>>, Error> {
    if ask.outputs.is_empty() {
        let all = response.outputs.iter();
        return all.map(|(name, tensor)| Output::new(name, tensor, ask.binary)).collect();
    }
    let named = ask.outputs.iter().map(|asked| match response.outputs.iter().find(|(name, _)| *name == asked.name) {
        Some((name, tensor)) => Output::new(name, tensor, asked.binary.unwrap_or(ask.binary)),
        None => Err(Error::new(Code::Internal, format!("the model did not give output '{}'", asked.name))),
    });
    named.collect()
}

impl<'a> Output<'a> {
    fn new(name: &'a str, tensor: &'a Tensor, binary: bool) -> Result<Self, Error> {
        let data = if binary { Data::Binary(raw::contents(tensor)) } else { Data::Json(Values::of_v2(name, tensor)?) };
        Ok(Self { name, tensor, data })
    }

    fn most_len(&self) -> usize {
        let data = match &self.data {
            Data::Json(values) => values.most_len(),
            Data::Binary(bytes) => bytes.len(),
        };
        data.saturating_add(string_len(self.name.as_bytes()) + NUMBER * self.tensor.shape().len() + AROUND)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        write_string(self.name, out);
        out.extend_from_slice(b",\"datatype\":");
        write_string(self.tensor.dtype().name(), out);
        out.extend_from_slice(b",\"shape\":[");
        for (index, size) in self.tensor.shape().iter().enumerate() {
            comma(index, out);
            unsigned(*size as u64, out);
        }
        out.push(b']');
        match &self.data {
            Data::Binary(bytes) => {
                out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
                unsigned(bytes.len() as u64, out);
                out.push(b'}');
            }
            Data::Json(values) => {
                if matches!(values, Values::Base64(_)) {
                    out.extend_from_slice(b",\"parameters\":{\"content_type\":\"base64\"}");
                }
                out.extend_from_slice(b",\"data\":[");
                values.write(0, self.tensor.len(), out);
                out.push(b']');
            }
        }
        out.push(b'}');
    }
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn value_len(value: &Value) -> usize {
    match value {
        Value::Text(text) => string_len(text.as_bytes()),
        _ => NUMBER,
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Int64(value) => signed(*value, out),
        Value::Uint64(value) => unsigned(*value, out),
        Value::Double(value) => double(*value, out),
        Value::Text(text) => write_string(text, out),
    }
}
