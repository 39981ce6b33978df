//! Raw tensors: V2's binary data and gRPC's raw contents are read alike and as the format says, and a body of binary data
//! alone is the one input.

use bytes::Bytes;
use corymb_core::{DType, Tensor, Tensors};
use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use corymb_wire::{Decoded, Limits, Unbounded, grpc, v2};
use prost::Message as _;
use serde_json::json;

use crate::decoder::Decoder;
use crate::equality::assert_same;
use crate::input::{Input, body, json_length};
use crate::reference;
use crate::signatures::SIGNATURES;

/// A byte for the signature or the dtype, bytes for the dimensions up to a zero byte, the data.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = usize::from(input.byte());
    // One more than the size, so that a size can be 0.
    let shape: Vec<usize> = input.before_zero().iter().map(|size| usize::from(size - 1)).collect();
    let data = input.rest();
    both_protocols(choice % DType::ALL.len(), &shape, data);
    whole_body(choice % SIGNATURES.len(), data);
}

/// The first signatures are those of one input of each dtype.
fn both_protocols(index: usize, shape: &[usize], data: &[u8]) {
    let (signature, dtype) = (&SIGNATURES[index], DType::ALL[index]);
    let expected = reference::raw(dtype, shape, data);

    let parameters = json!({ "binary_data_size": data.len() });
    let input = json!({ "name": "x", "datatype": dtype.name(), "shape": shape, "parameters": parameters });
    let json = json!({ "inputs": [input] }).to_string();
    let (headers, binary) = (json_length(Some(json.len())), body(&[json.as_bytes(), data].concat()));
    let request = decoded(&binary, &|limits, budget| v2::decode(signature, &headers, &binary, limits, budget));
    same_or_refused(request.as_ref(), expected.as_ref(), "V2");

    let input = InferInputTensor {
        name: "x".to_owned(),
        datatype: dtype.name().to_owned(),
        shape: shape.iter().map(|size| *size as i64).collect(),
        ..Default::default()
    };
    let message = ModelInferRequest {
        inputs: vec![input],
        raw_input_contents: vec![Bytes::copy_from_slice(data)],
        ..Default::default()
    };
    let message = body(&message.encode_to_vec());
    let request = decoded(&message, &|limits, budget| grpc::decode(&message, limits, budget));
    same_or_refused(request.as_ref(), expected.as_ref(), "gRPC");
}

type Decode<'a, A> = dyn Fn(&Limits, &mut dyn corymb_wire::Budget) -> Result<Decoded<A>, corymb_core::Error> + 'a;

fn decoded<A>(body: &Bytes, decode: &Decode<'_, A>) -> Option<Tensors> {
    let decoder = Decoder { body, decode, tensors: |request| &request.inputs, counts: &|_| false, most: 1 };
    decoder.check().map(|request| request.inputs)
}

fn same_or_refused(given: Option<&Tensors>, expected: Option<&Tensor>, protocol: &str) {
    match (given, expected) {
        (Some(given), Some(expected)) => assert_same(given, &Tensors::from_iter([("x", expected.clone())])),
        (None, None) => {}
        (given, expected) => panic!("{protocol} gives {given:?}; expected {expected:?}"),
    }
}

/// A body without JSON: the same bytes as the declared dtype, in a shape that the input admits.
fn whole_body(index: usize, data: &[u8]) {
    let (signature, headers) = (&SIGNATURES[index], json_length(Some(0)));
    let data = body(data);
    let Some(inputs) = decoded(&data, &|limits, budget| v2::decode(signature, &headers, &data, limits, budget)) else {
        return;
    };
    signature.check_inputs(&inputs).expect("an input of the signature");
    let (_, tensor) = inputs.iter().next().expect("one input");
    let contents = tensor.bytes().or_else(|| tensor.elements()?.first());
    assert_eq!(contents, Some(&data));
    let again = v2::decode(signature, &headers, &data, &Limits::default(), &mut Unbounded).expect("as before");
    assert!(again.ask.binary, "bytes are answered by bytes");
}
