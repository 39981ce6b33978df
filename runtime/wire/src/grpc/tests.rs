//! Requests written by the generated types, and bytes that no client would write.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Buffer, Code, DType, Response, Tensor, TensorError, Tensors, Value};
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use corymb_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use half::{bf16, f16};
use prost::Message as _;

use super::*;
use crate::decoded::Decoded;
use crate::limits::tests::Counted;
use crate::limits::{Limits, Unbounded};
use crate::raw;

fn read(message: Vec<u8>) -> Result<Decoded<()>, Error> {
    decode(&message.into(), &Limits::default(), &mut Unbounded)
}

fn decoded(request: &ModelInferRequest) -> Result<Decoded<()>, Error> {
    read(request.encode_to_vec())
}

fn input(dtype: DType, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: dtype.name().to_owned(),
        shape: shape.to_vec(),
        contents,
        ..InferInputTensor::default()
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> ModelInferRequest {
    ModelInferRequest { model_name: "m".to_owned(), inputs, raw_input_contents: raw, ..Default::default() }
}

fn typed(dtype: DType, shape: &[i64], contents: InferTensorContents) -> Result<Tensor, Error> {
    let decoded = decoded(&request(vec![input(dtype, shape, Some(contents))], Vec::new()))?;
    Ok(decoded.inputs.get("x").expect("an input").clone())
}

/// Two elements of each dtype, in its typed field and as a tensor.
fn examples() -> Vec<(InferTensorContents, Tensor)> {
    let none = InferTensorContents::default;
    let of = |tensor: Result<Tensor, TensorError>| tensor.expect("valid");
    vec![
        (
            InferTensorContents { bool_contents: vec![true, false], ..none() },
            of(Tensor::new(DType::Bool, [2], Bytes::from_static(&[1, 0]))),
        ),
        (InferTensorContents { uint_contents: vec![0, 255], ..none() }, of(Tensor::from_slice([2], &[0_u8, 255]))),
        (InferTensorContents { uint_contents: vec![1, 65535], ..none() }, of(Tensor::from_slice([2], &[1_u16, 65535]))),
        (
            InferTensorContents { uint_contents: vec![1, u32::MAX], ..none() },
            of(Tensor::from_slice([2], &[1, u32::MAX])),
        ),
        (
            InferTensorContents { uint64_contents: vec![1, u64::MAX], ..none() },
            of(Tensor::from_slice([2], &[1, u64::MAX])),
        ),
        (InferTensorContents { int_contents: vec![-128, 127], ..none() }, of(Tensor::from_slice([2], &[-128_i8, 127]))),
        (
            InferTensorContents { int_contents: vec![-32768, 32767], ..none() },
            of(Tensor::from_slice([2], &[-32768_i16, 32767])),
        ),
        (
            InferTensorContents { int_contents: vec![i32::MIN, i32::MAX], ..none() },
            of(Tensor::from_slice([2], &[i32::MIN, i32::MAX])),
        ),
        (
            InferTensorContents { int64_contents: vec![i64::MIN, i64::MAX], ..none() },
            of(Tensor::from_slice([2], &[i64::MIN, i64::MAX])),
        ),
        (
            InferTensorContents { fp32_contents: vec![1.5, -0.0], ..none() },
            of(Tensor::from_slice([2], &[1.5_f32, -0.0])),
        ),
        (InferTensorContents { fp64_contents: vec![1.5, 1e300], ..none() }, of(Tensor::from_slice([2], &[1.5, 1e300]))),
        (
            InferTensorContents { bytes_contents: vec![Bytes::from_static(b"ab"), Bytes::new()], ..none() },
            of(Tensor::from_elements([2], vec![Bytes::from_static(b"ab"), Bytes::new()])),
        ),
    ]
}

#[test]
fn every_dtype_is_read_from_its_typed_contents() {
    for (contents, tensor) in examples() {
        assert_eq!(typed(tensor.dtype(), &[2], contents).expect("read"), tensor);
    }
}

#[test]
fn every_dtype_is_read_raw() {
    let halves = [
        Tensor::from_slice([2], &[f16::from_f32(1.5), f16::NEG_INFINITY]).expect("valid"),
        Tensor::from_slice([2], &[bf16::from_f32(1.5), bf16::NEG_INFINITY]).expect("valid"),
    ];
    for tensor in examples().into_iter().map(|(_, tensor)| tensor).chain(halves) {
        let raw = raw::contents(&tensor);
        let decoded = decoded(&request(vec![input(tensor.dtype(), &[2], None)], vec![raw])).expect("decoded");
        assert_eq!(decoded.inputs.get("x"), Some(&tensor));
    }
}

#[test]
fn halves_have_no_typed_contents() {
    let contents = InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
    for dtype in [DType::Fp16, DType::Bf16] {
        let error = typed(dtype, &[1], contents.clone()).expect_err("refused");
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.message.contains("expected raw_input_contents"), "{error}");
        assert!(typed(dtype, &[0], InferTensorContents::default()).is_ok());
    }
}

#[test]
fn everything_beside_the_tensors_arrives() {
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let message = ModelInferRequest {
        model_name: "m".to_owned(),
        model_version: "3".to_owned(),
        id: "a".to_owned(),
        parameters: [
            ("b".to_owned(), parameter(ParameterChoice::BoolParam(true))),
            ("d".to_owned(), parameter(ParameterChoice::DoubleParam(0.5))),
            ("i".to_owned(), parameter(ParameterChoice::Int64Param(-1))),
            ("s".to_owned(), parameter(ParameterChoice::StringParam("t".to_owned()))),
            ("u".to_owned(), parameter(ParameterChoice::Uint64Param(u64::MAX))),
            ("timeout".to_owned(), parameter(ParameterChoice::Int64Param(1500))),
            ("priority".to_owned(), parameter(ParameterChoice::Uint64Param(2))),
        ]
        .into(),
        outputs: ["y", "z"]
            .map(|name| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() })
            .into(),
        ..Default::default()
    };
    let looked = look(&message.encode_to_vec().into(), &Limits::default()).expect("found");
    assert_eq!((&*looked.model, looked.version.as_deref(), &*looked.id), ("m", Some("3"), "a"));
    assert_eq!(looked.timeout, Some(Duration::from_micros(1500)));
    let request = decoded(&message).expect("decoded");
    assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
    assert_eq!(request.priority, Some(2));
    assert_eq!((&*request.id, request.outputs), ("a", vec!["y".to_owned(), "z".to_owned()]));
    assert_eq!(request.parameters.iter().len(), 5);
    assert_eq!(request.parameters.get("b"), Some(&Value::Bool(true)));
    assert_eq!(request.parameters.get("d"), Some(&Value::Double(0.5)));
    assert_eq!(request.parameters.get("i"), Some(&Value::Int64(-1)));
    assert_eq!(request.parameters.get("s"), Some(&Value::Text("t".to_owned())));
    assert_eq!(request.parameters.get("u"), Some(&Value::Uint64(u64::MAX)));
}

#[test]
fn messages_name_the_input_given_and_expected() {
    let floats = |count| InferTensorContents { fp32_contents: vec![0.0; count], ..Default::default() };
    let ints = |values: &[i32]| InferTensorContents { int_contents: values.to_vec(), ..Default::default() };
    let message = |result: Result<Tensor, Error>| result.expect_err("refused").message;
    assert_eq!(message(typed(DType::Fp32, &[3], floats(2))), "input 'x': shape [3] takes 3 elements, 2 were given");
    assert_eq!(message(typed(DType::Int8, &[1], ints(&[1, 2]))), "input 'x': shape [1] takes 1 elements, 2 were given");
    assert_eq!(message(typed(DType::Int8, &[1], ints(&[128]))), "input 'x': element 0 is 128, which INT8 cannot hold");
    assert_eq!(
        message(typed(DType::Int64, &[1], floats(1))),
        "input 'x': datatype INT64 takes int64_contents, but field 6 is filled"
    );
    assert_eq!(
        message(typed(DType::Fp32, &[-1], floats(1))),
        "input 'x': shape [-1] has a dimension that is not a size"
    );

    let unknown = InferInputTensor { datatype: "FLOAT".to_owned(), ..input(DType::Fp32, &[1], None) };
    let error = decoded(&request(vec![unknown], Vec::new())).expect_err("refused");
    assert!(error.message.starts_with("input 'x': unknown datatype 'FLOAT'; expected one of BOOL, "), "{error}");

    let mixed = request(vec![input(DType::Fp32, &[1], Some(floats(1)))], vec![vec![0; 4].into()]);
    let error = decoded(&mixed).expect_err("refused");
    assert!(error.message.contains("raw_input_contents too"), "{error}");
    let short = request(vec![input(DType::Fp32, &[1], None), input(DType::Fp32, &[1], None)], vec![vec![0; 4].into()]);
    let error = decoded(&short).expect_err("refused");
    assert_eq!(error.message, "raw_input_contents has 1 entries; expected 2, one for each input");
}

#[test]
fn shapes_cannot_claim_more_than_the_message_holds() {
    for shape in [&[i64::MAX][..], &[1 << 31, 1 << 31], &[1 << 40], &[1; 17]] {
        for dtype in [DType::Int64, DType::Bytes, DType::Fp32] {
            let contents = InferTensorContents::default();
            assert_eq!(typed(dtype, shape, contents).expect_err("refused").code, Code::InvalidArgument);
            let raw = request(vec![input(dtype, shape, None)], vec![vec![0; 64].into()]);
            assert_eq!(decoded(&raw).expect_err("refused").code, Code::InvalidArgument);
        }
    }
}

#[test]
fn memory_beyond_the_message_is_accounted() {
    // Each byte on the wire is an INT64.
    let message = request(
        vec![input(
            DType::Int64,
            &[1000],
            Some(InferTensorContents { int64_contents: vec![1; 1000], ..Default::default() }),
        )],
        Vec::new(),
    );
    let bytes = message.encode_to_vec().into();
    let refused = decode(&bytes, &Limits::default(), &mut Counted::of(7999)).expect_err("refused");
    assert_eq!(refused.code, Code::Overloaded);
    let limits = Limits { decoded: 7999, ..Limits::default() };
    assert_eq!(decode(&bytes, &limits, &mut Unbounded).expect_err("refused").code, Code::TooLarge);
}

#[test]
fn elements_are_bounded_by_their_number() {
    let words = Tensor::from_elements([3], vec![Bytes::from_static(b"ab"); 3]).expect("valid");
    let contents = InferTensorContents { bytes_contents: vec![Bytes::from_static(b"ab"); 3], ..Default::default() };
    let typed = request(vec![input(DType::Bytes, &[3], Some(contents))], Vec::new());
    let raw = request(vec![input(DType::Bytes, &[3], None)], vec![raw::contents(&words)]);
    for message in [typed, raw] {
        let message = message.encode_to_vec().into();
        let decode = |elements| decode(&message, &Limits { elements, ..Limits::default() }, &mut Unbounded);
        assert_eq!(decode(3).expect("read").inputs.get("x"), Some(&words));
        let refused = decode(2).expect_err("refused");
        assert_eq!((refused.code, &*refused.message), (Code::TooLarge, "input 'x': more than 2 BYTES elements"));
    }
}

#[test]
fn floats_that_are_not_packed_are_accounted() {
    // Field 5 (inputs) with datatype FP32, shape [2], and contents whose field 6 comes twice as single numbers.
    let contents = [0x35, 0, 0, 0x80, 0x3f, 0x35, 0, 0, 0, 0x40];
    let tensor = [&[0x0a, 1, b'x', 0x12, 4][..], b"FP32", &[0x18, 2, 0x2a, contents.len() as u8], &contents].concat();
    let message = [&[0x2a, tensor.len() as u8][..], &tensor].concat().into();
    let mut budget = Counted::of(8);
    let request = decode(&message, &Limits::default(), &mut budget).expect("room");
    assert_eq!(request.inputs.get("x").and_then(Tensor::as_slice::<f32>), Some(&[1.0, 2.0][..]));
    assert_eq!(budget.reserved, 8);
    let refused = decode(&message, &Limits::default(), &mut Counted::of(7)).expect_err("refused");
    assert_eq!(refused.code, Code::Overloaded);
}

#[test]
fn a_message_of_countless_parts_is_refused() {
    // `inputs`, empty, over and over: two bytes each.
    let entries = Limits::default().entries;
    let error = read([0x2a, 0].repeat(entries + 1)).expect_err("refused");
    assert_eq!(error.message, "more than 4096 inputs");
    assert!(read([0x3a, 0].repeat(entries + 1)).is_err());
    assert!(read(vec![0x2a, 9, 1]).is_err());
    let error = look(&[0x2a, 0].repeat(5 * entries + 1).into(), &Limits::default()).expect_err("refused");
    assert_eq!(error.message, "the message has more than 20480 fields");
}

#[test]
fn elements_that_are_not_packed_are_read() {
    // Field 5 (inputs) with datatype INT32, shape [2], and contents whose field 2 comes twice as single numbers.
    let contents = [0x10, 7, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let mut tensor = vec![0x0a, 1, b'x', 0x12, 5, b'I', b'N', b'T', b'3', b'2', 0x18, 2, 0x2a, contents.len() as u8];
    tensor.extend_from_slice(&contents);
    let mut message = vec![0x2a, tensor.len() as u8];
    message.extend_from_slice(&tensor);
    let request = read(message).expect("read");
    assert_eq!(request.inputs.get("x").and_then(Tensor::as_slice::<i32>), Some(&[7, -1][..]));
}

#[test]
fn floats_are_used_in_place() {
    let contents = InferTensorContents { fp32_contents: vec![1.0; 100], ..Default::default() };
    let encoded = request(vec![input(DType::Fp32, &[100], Some(contents))], Vec::new()).encode_to_vec();
    // The floats end the message: put them on a boundary.
    let mut padded = Buffer::zeroed((4 - encoded.len() % 4) % 4);
    padded.extend_from_slice::<u8>(&encoded);
    let all = padded.freeze();
    let message = all.slice(all.len() - encoded.len()..);
    let range = message.as_ptr_range();
    let request = decode(&message, &Limits::default(), &mut Unbounded).expect("read");
    let data = request.inputs.get("x").and_then(Tensor::bytes).expect("fixed").as_ptr();
    assert!(range.contains(&data));
}

#[test]
fn a_look_finds_the_model_wherever_it_stands() {
    let look = |message: &[u8]| super::look(&Bytes::copy_from_slice(message), &Limits::default());
    // After an input: no encoder writes so, but protobuf allows it, and the last one counts.
    assert_eq!(look(&[0x2a, 0, 0x0a, 1, b'm']).expect("found").model, "m");
    let version = look(&[0x0a, 1, b'm', 0x2a, 0, 0x12, 1, b'9', 0x1a, 1, b'i', 0x0a, 1, b'n']).expect("found");
    assert_eq!((&*version.model, version.version.as_deref(), &*version.id), ("n", Some("9"), "i"));
    let long = |field: u8| [&[field, 0x81, 0x20][..], &[b'x'; 4097]].concat();
    assert_eq!(look(&long(0x0a)).expect_err("long").message, "model_name has 4097 bytes; at most 4096 are accepted");
    assert_eq!(look(&long(0x1a)).expect("passed over").id, "");
    assert_eq!(read(long(0x1a)).expect("read").id.len(), 4097);
    assert_eq!(look(&[]).expect("nothing"), Look::default());
    assert!(look(&[0x0a, 5, b'm']).is_err());
}

#[test]
fn a_request_that_a_client_writes_is_read_and_so_is_its_answer() {
    let words = Tensor::from_elements([2], vec![Bytes::from_static(b"ab"), Bytes::new()]).expect("valid");
    let numbers = Tensor::from_slice([1, 2], &[1_i16, -1]).expect("valid");
    let inputs = Tensors::from_iter([("words", words), ("numbers", numbers)]);
    let message = super::request("m", &inputs);
    assert_eq!(decoded(&message).expect("read").inputs, inputs);

    let parameters = [("k".to_owned(), Value::Double(0.5))].into_iter().collect();
    let (model, version) = ("m".to_owned(), "1".to_owned());
    let sent = Response { id: "a".to_owned(), model, version, parameters, outputs: inputs };
    let bytes = encode(sent.clone(), Form::Unary, &mut Unbounded).expect("written").into_pieces().concat();
    let answer = ModelInferResponse::decode(&bytes[PREFIX..]).expect("valid");
    let read = response(answer.clone(), &Limits::default(), &mut Unbounded).expect("read");
    assert_eq!((&read.id, &read.model, &read.outputs), (&sent.id, &sent.model, &sent.outputs));
    assert_eq!(read.parameters, sent.parameters);

    let refused = |answer| response(answer, &Limits::default(), &mut Unbounded).expect_err("refused").message;
    let short = ModelInferResponse { raw_output_contents: Vec::new(), ..answer.clone() };
    assert_eq!(refused(short), "raw_output_contents has 0 entries; expected 2, one for each output");
    let mut cut = answer;
    cut.raw_output_contents[1] = Bytes::from_static(&[1]);
    assert_eq!(refused(cut), "output 'numbers': shape [1,2] of INT16 takes 4 bytes, the data has 1");
}

#[test]
fn parameters_are_as_many_as_in_json() {
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let message = |count: usize| {
        let parameters = (0..count).map(|index| (format!("p{index}"), parameter.clone())).collect();
        ModelInferRequest { parameters, ..Default::default() }
    };
    assert!(decoded(&message(256)).is_ok());
    assert_eq!(decoded(&message(257)).expect_err("many").message, "more than 256 parameters");
}
