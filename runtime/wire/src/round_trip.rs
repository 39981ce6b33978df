//! Properties: what is written is read again to the bit, and no bytes make the readers panic.

use bytes::Bytes;
use corymb_core::{Buffer, DType, Dim, Parameters, Response, Signature, Tensor, TensorSpec, Tensors};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;

use http::{HeaderMap, HeaderValue};

use crate::limits::{Ledger, Limits, Unbounded};
use crate::raw::{self, JSON_LENGTH};
use crate::v1::{self, Form};
use crate::v2::{self, Ask};
use crate::{grpc, picture};

/// Tensors of up to three dimensions, small enough to be many.
fn tensors() -> impl Strategy<Value = Tensor> {
    let dtype = prop::sample::select(DType::ALL.to_vec());
    (dtype, vec(0..4_usize, 0..4)).prop_flat_map(|(dtype, shape)| {
        let count: usize = shape.iter().product();
        match dtype.size() {
            None => vec(elements(), count)
                .prop_map(move |elements| Tensor::from_elements(shape.clone(), elements).expect("counted"))
                .boxed(),
            Some(size) => vec(any::<u8>(), count * size)
                .prop_map(move |mut bytes| {
                    if dtype == DType::Bool {
                        bytes.iter_mut().for_each(|byte| *byte &= 1);
                    }
                    Tensor::from_buffer(dtype, shape.clone(), Buffer::copy_of(&bytes)).expect("counted")
                })
                .boxed(),
        }
    })
}

fn elements() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..8).prop_map(Bytes::from), ".{0,8}".prop_map(Bytes::from)]
}

/// JSON has one NaN; those of other bits, or of another sign, become it.
fn one_nan(tensor: &Tensor) -> Tensor {
    let Some(bytes) = tensor.bytes() else { return tensor.clone() };
    let mut buffer = Buffer::copy_of(bytes);
    match tensor.dtype() {
        DType::Fp16 => replace(buffer.as_mut_slice::<f16>(), |value| value.is_nan(), f16::NAN),
        DType::Bf16 => replace(buffer.as_mut_slice::<bf16>(), |value| value.is_nan(), bf16::NAN),
        DType::Fp32 => replace(buffer.as_mut_slice::<f32>(), |value| value.is_nan(), f32::NAN),
        DType::Fp64 => replace(buffer.as_mut_slice::<f64>(), |value| value.is_nan(), f64::NAN),
        _ => {}
    }
    Tensor::from_buffer(tensor.dtype(), tensor.shape(), buffer).expect("as before")
}

fn replace<T: Copy>(values: &mut [T], is_nan: impl Fn(T) -> bool, nan: T) {
    for value in values.iter_mut().filter(|value| is_nan(**value)) {
        *value = nan;
    }
}

fn signature(dtype: DType, shape: &[usize]) -> Signature {
    let spec = |name| TensorSpec::new(name, dtype, shape.iter().map(|size| Dim::Fixed(*size)).collect());
    Signature { inputs: vec![spec("x")], outputs: vec![spec("x")] }
}

/// As a response of V2 says it, sent back as a request: the members are the same.
fn through_v2(tensor: &Tensor, binary: bool) -> Tensor {
    let response = Response { outputs: [("x", tensor.clone())].into_iter().collect(), ..Response::default() };
    let encoded = v2::encode(&Ask { binary, ..Ask::default() }, &response, &mut Unbounded).expect("written");
    let body = encoded.body;
    let json_len = encoded.json_len.unwrap_or(body.len());
    assert_eq!(encoded.json_len.is_some(), binary);
    let answer = v2::decode_answer(&length(json_len), &body, &Limits::default(), &mut Unbounded).expect("read");
    assert_eq!(answer.outputs.get("x"), Some(tensor));
    let request =
        v2::encode_request(&response.outputs, v2::Binary { inputs: binary, outputs: binary }).expect("written");
    let headers = length(request.json_len.unwrap_or(request.body.len()));
    let signature = signature(tensor.dtype(), tensor.shape());
    let request = v2::decode(&signature, &headers, &request.body, &Limits::default(), &mut Unbounded).expect("read");
    assert_eq!(request.parameters, Parameters::new());
    request.inputs.get("x").expect("present").clone()
}

fn length(json: usize) -> HeaderMap {
    HeaderMap::from_iter([(JSON_LENGTH.clone(), HeaderValue::from(json))])
}

fn through_v1(tensor: &Tensor) -> Tensor {
    let signature = signature(tensor.dtype(), tensor.shape());
    let outputs = Tensors::from_iter([("x", tensor.clone())]);
    let response = Response { outputs, ..Response::default() };
    let written = v1::encode(&signature, Form::Columns, &response, &mut Unbounded).expect("written").body;
    let answer = v1::decode_answer(&signature, &written, &Limits::default(), &mut Unbounded).expect("read");
    assert_eq!(answer.get("x"), Some(tensor));
    let json = String::from_utf8(written.to_vec()).expect("UTF-8").replacen("\"outputs\"", "\"inputs\"", 1);
    let request =
        v1::decode(&signature, &HeaderMap::new(), &json.into(), &Limits::default(), &mut Unbounded).expect("read");
    assert_eq!(request.ask, Form::Columns);
    request.inputs.get("x").expect("present").clone()
}

/// Pieces that requests are made of, so that more of the readers is reached than random bytes do.
fn shreds() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\"inputs\"",
        "\"instances\"",
        "\"name\"",
        "\"x\"",
        "\"shape\"",
        "\"datatype\"",
        "\"FP32\"",
        "\"BYTES\"",
        "\"data\"",
        "\"parameters\"",
        "\"binary_data_size\"",
        "\"b64\"",
        "0",
        "1",
        "-1",
        "1.5",
        "1e400",
        "-",
        ".",
        "NaN",
        "-Infinity",
        "null",
        "true",
        "\"\\u",
        "\"\\ud800\"",
        " ",
        "\u{e9}",
        "99999999999999999999",
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":",
        "{\"instances\":[",
        "{\"inputs\":{\"x\":",
    ];
    let piece = prop_oneof![
        9 => prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn read_by_all(body: &Bytes, at: usize) {
    let (limits, none) = (Limits::default(), HeaderMap::new());
    for dtype in [DType::Fp32, DType::Int8, DType::Uint64, DType::Bool, DType::Fp16, DType::Bytes] {
        let mut signature = signature(dtype, &[1]);
        let _ = v1::decode(&signature, &none, body, &limits, &mut Unbounded);
        let _ = v1::decode_answer(&signature, body, &limits, &mut Unbounded);
        let _ = v2::decode(&signature, &length(at), body, &limits, &mut Unbounded);
        signature.inputs[0].media_type = Some("application/json".into());
        let _ = v1::decode(&signature, &none, body, &limits, &mut Unbounded);
        let _ = picture::inputs(&signature, body);
    }
    let _ = v2::decode_answer(&length(at), body, &limits, &mut Unbounded);
    let _ = v2::decode_signature(body);
    let _ = grpc::look(body, &limits);
    let _ = grpc::decode(body, &limits, &mut Unbounded);
    let _ = raw::decode_elements(body, usize::MAX, &mut Ledger::new(&limits, &mut Unbounded));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn v2_binary_is_bitwise(tensor in tensors()) {
        prop_assert_eq!(through_v2(&tensor, true), tensor);
    }

    #[test]
    fn v2_json_is_bitwise(tensor in tensors()) {
        let tensor = one_nan(&tensor);
        prop_assert_eq!(through_v2(&tensor, false), tensor);
    }

    #[test]
    fn v1_columns_are_bitwise(tensor in tensors()) {
        let tensor = one_nan(&tensor);
        prop_assert_eq!(through_v1(&tensor), tensor);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(body in vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>()) {
        read_by_all(&Bytes::from(body.clone()), at.index(body.len() + 1));
    }

    #[test]
    fn no_shreds_make_a_reader_panic(body in shreds(), at in any::<prop::sample::Index>()) {
        read_by_all(&Bytes::from(body.clone()), at.index(body.len() + 1));
    }
}

/// Every value that 16 bits can have.
#[test]
fn all_16_bit_floats_survive_json() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for dtype in [DType::Fp16, DType::Bf16] {
        let buffer = Buffer::copy_of(bytemuck::cast_slice(&all));
        let tensor = one_nan(&Tensor::from_buffer(dtype, [all.len()], buffer).expect("valid"));
        assert_eq!(through_v2(&tensor, false), tensor);
        assert_eq!(through_v1(&tensor), tensor);
    }
}

#[test]
fn special_floats_survive_json() {
    let values = [0.0_f64, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX];
    let tensor = Tensor::from_slice([values.len()], &values).expect("valid");
    assert_eq!(through_v2(&tensor, false), tensor);
    assert_eq!(through_v1(&tensor), tensor);
    let values = values.map(|value| value as f32);
    let tensor = Tensor::from_slice([values.len()], &values).expect("valid");
    assert_eq!(through_v2(&tensor, false), tensor);
    assert_eq!(through_v1(&tensor), tensor);
}
