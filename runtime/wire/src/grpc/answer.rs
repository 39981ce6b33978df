//! `ModelInferResponse`, written so that output tensors go out of their own buffers.

use bytes::{BufMut, Bytes};
use corymb_core::{Error, Parameters, Response, Tensor, Value};
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::model_infer_response::InferOutputTensor;
use corymb_proto::inference::{InferParameter, ModelInferResponse, ModelStreamInferResponse};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::frame::{Message, PREFIX, internal};
use crate::limits::{Budget, STEP};
use crate::raw;

/// `ModelInferResponse.raw_output_contents`.
const RAW: u32 = 6;
/// `ModelStreamInferResponse.infer_response`.
const INFER_RESPONSE: u32 = 2;

/// Smaller outputs are copied behind the head: a piece of their own would cost more.
const SMALL: usize = 4 * 1024;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The answer of `ModelInfer`.
    Unary,
    /// One answer of `ModelStreamInfer`: wrapped, and marked as the last for its request, as Triton does.
    Stream,
}

/// The answer on the wire.
///
/// # Errors
/// [`corymb_core::Code::TooLarge`] beyond the 4 GiB that gRPC carries; what `budget` refuses.
pub fn encode(response: Response, form: Form, budget: &mut dyn Budget) -> Result<Message, Error> {
    let Response { id, model, version, parameters, outputs } = response;
    let mut parameters = wire_parameters(&parameters);
    if form == Form::Stream {
        let choice = Some(ParameterChoice::BoolParam(true));
        parameters.push(("triton_final_response".to_owned(), InferParameter { parameter_choice: choice }));
    }
    // Elements of a fixed size go out of the tensor's own buffer.
    let texts = outputs.iter().filter(|(_, tensor)| tensor.elements().is_some());
    let copied: usize = texts.map(|(_, tensor)| tensor.byte_len() + 4 * tensor.len()).sum();
    if copied >= STEP {
        budget.reserve(copied)?;
    }
    let raw: Vec<Bytes> = outputs.iter().map(|(_, tensor)| raw::contents(tensor)).collect();
    let head = ModelInferResponse {
        model_name: model,
        model_version: version,
        id,
        parameters: parameters.into_iter().collect(),
        outputs: outputs.into_iter().map(|(name, tensor)| declare(name, &tensor)).collect(),
        raw_output_contents: Vec::new(),
    };

    let entry = |raw: &Bytes| 1 + encoded_len_varint(raw.len() as u64) + raw.len();
    let len = head.encoded_len() + raw.iter().map(entry).sum::<usize>();
    // Keys of the stream's wrapper and of each entry, and lengths, have at most 11 bytes.
    let mut current = Vec::with_capacity(PREFIX + head.encoded_len() + 11 * (raw.len() + 1) + SMALL);
    current.put_bytes(0, PREFIX);
    if form == Form::Stream {
        encode_key(INFER_RESPONSE, WireType::LengthDelimited, &mut current);
        encode_varint(len as u64, &mut current);
    }
    head.encode(&mut current).map_err(|error| internal(error.to_string()))?;

    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut tensors: Vec<Bytes> = Vec::new();
    for raw in raw {
        encode_key(RAW, WireType::LengthDelimited, &mut current);
        encode_varint(raw.len() as u64, &mut current);
        if raw.len() < SMALL {
            current.extend_from_slice(&raw);
        } else {
            pieces.push(std::mem::take(&mut current));
            tensors.push(raw);
        }
    }
    pieces.push(current);
    interleave(pieces, tensors)
}

/// Pieces of the head and tensors in turn; the first piece has room for the prefix.
fn interleave(pieces: Vec<Vec<u8>>, tensors: Vec<Bytes>) -> Result<Message, Error> {
    let mut pieces = pieces.into_iter();
    let first = pieces.next().unwrap_or_default();
    let others = tensors.into_iter().zip(pieces).flat_map(|(tensor, piece)| [tensor, Bytes::from(piece)]);
    Message::new(first, others.filter(|piece| !piece.is_empty()))
}

/// The refusal of one request of a stream, which goes on.
///
/// # Errors
/// [`corymb_core::Code::TooLarge`] beyond the 4 GiB that gRPC carries.
pub fn refusal(id: String, message: &str) -> Result<Message, Error> {
    Message::of(&ModelStreamInferResponse {
        error_message: message.to_owned(),
        infer_response: Some(ModelInferResponse { id, ..Default::default() }),
    })
}

fn declare(name: String, tensor: &Tensor) -> InferOutputTensor {
    let size = |size: &usize| i64::try_from(*size).unwrap_or(i64::MAX);
    InferOutputTensor {
        name,
        datatype: tensor.dtype().name().to_owned(),
        shape: tensor.shape().iter().map(size).collect(),
        ..Default::default()
    }
}

fn wire_parameters(parameters: &Parameters) -> Vec<(String, InferParameter)> {
    let choice = |value: &Value| match value {
        Value::Bool(value) => ParameterChoice::BoolParam(*value),
        Value::Int64(value) => ParameterChoice::Int64Param(*value),
        Value::Uint64(value) => ParameterChoice::Uint64Param(*value),
        Value::Double(value) => ParameterChoice::DoubleParam(*value),
        Value::Text(value) => ParameterChoice::StringParam(value.clone()),
    };
    let wire =
        |(name, value): (&str, &Value)| (name.to_owned(), InferParameter { parameter_choice: Some(choice(value)) });
    parameters.iter().map(wire).collect()
}

#[cfg(test)]
mod tests {
    use corymb_core::{DType, Tensors};

    use super::*;
    use crate::limits::Unbounded;

    fn response() -> Response {
        let large = Tensor::new(DType::Uint8, [5000], vec![7; 5000].into()).expect("valid");
        let words = Tensor::from_elements([2], vec![Bytes::from_static(b"ab"), Bytes::new()]).expect("valid");
        let numbers = Tensor::from_slice([1, 2], &[1_i16, -1]).expect("valid");
        Response {
            id: "a".to_owned(),
            model: "m".to_owned(),
            version: "3".to_owned(),
            parameters: [("k".to_owned(), Value::Uint64(u64::MAX))].into_iter().collect(),
            outputs: Tensors::from_iter([("large", large), ("words", words), ("numbers", numbers)]),
        }
    }

    fn payload(message: Message) -> Vec<u8> {
        let all = message.into_pieces().concat();
        assert_eq!(u32::from_be_bytes([all[1], all[2], all[3], all[4]]) as usize, all.len() - PREFIX);
        all[PREFIX..].to_vec()
    }

    #[test]
    fn the_generated_type_reads_what_is_written() {
        let message = encode(response(), Form::Unary, &mut Unbounded).expect("encoded");
        let read = ModelInferResponse::decode(&payload(message)[..]).expect("valid");
        assert_eq!((&*read.id, &*read.model_name, &*read.model_version), ("a", "m", "3"));
        let expected = InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(u64::MAX)) };
        assert_eq!(read.parameters["k"], expected);
        let names: Vec<_> = read.outputs.iter().map(|output| (&*output.name, &*output.datatype)).collect();
        assert_eq!(names, [("large", "UINT8"), ("words", "BYTES"), ("numbers", "INT16")]);
        assert_eq!(read.outputs[2].shape, [1, 2]);
        assert!(read.outputs.iter().all(|output| output.contents.is_none()));
        assert_eq!(read.raw_output_contents[0], vec![7; 5000]);
        assert_eq!(read.raw_output_contents[1][..], [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]);
        assert_eq!(read.raw_output_contents[2][..], [1, 0, 0xff, 0xff]);
    }

    #[test]
    fn large_outputs_are_not_copied() {
        let response = response();
        let buffer = response.outputs.get("large").and_then(Tensor::bytes).expect("fixed").as_ptr();
        let pieces = encode(response, Form::Unary, &mut Unbounded).expect("encoded").into_pieces();
        assert!(pieces.iter().any(|piece| piece.as_ptr() == buffer));
    }

    #[test]
    fn stream_answers_are_wrapped_and_final() {
        let message = encode(response(), Form::Stream, &mut Unbounded).expect("encoded");
        let read = ModelStreamInferResponse::decode(&payload(message)[..]).expect("valid");
        assert_eq!(read.error_message, "");
        let inner = read.infer_response.expect("an answer");
        assert_eq!(inner.raw_output_contents.len(), 3);
        let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        assert_eq!(inner.parameters["triton_final_response"], last);

        let message = refusal("b".to_owned(), "no").expect("encoded");
        let read = ModelStreamInferResponse::decode(&payload(message)[..]).expect("valid");
        assert_eq!((&*read.error_message, read.infer_response.map(|inner| inner.id)), ("no", Some("b".to_owned())));
    }
}
