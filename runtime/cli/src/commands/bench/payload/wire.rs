//! Tensors as a request of each protocol.

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corymb_core::{DType, Tensor};
use corymb_load::Call;
use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use serde_json::{Value, json};

use super::{Inputs, Protocol};
use crate::media_type::picture;

/// The request, and the size of its body.
pub(super) fn encode(protocol: Protocol, model: &str, inputs: &Inputs) -> anyhow::Result<(Call, usize)> {
    let infer = format!("/v2/models/{model}/infer");
    let json_headers = [("content-type", "application/json")];
    let rest = |url: &str, headers: &[(&str, &str)], body: Bytes| {
        let bytes = body.len();
        Ok((Call::rest(url, headers, Some(body))?, bytes))
    };
    match protocol {
        Protocol::V1 => rest(&format!("/v1/models/{model}:predict"), &json_headers, v1(inputs)?.to_string().into()),
        Protocol::V2 => rest(&infer, &json_headers, v2(inputs)?.to_string().into()),
        Protocol::V2Binary => {
            let (header, body) = v2_binary(inputs);
            let length = header.to_string();
            let headers =
                [("content-type", "application/octet-stream"), ("inference-header-content-length", length.as_str())];
            rest(&infer, &headers, body)
        }
        Protocol::Picture => {
            let one = match inputs.as_slice() {
                [(_, tensor)] => tensor.elements().filter(|elements| elements.len() == 1).map(|all| all[0].clone()),
                _ => None,
            };
            let typed = one.and_then(|body| Some((picture(&body)?, body)));
            let Some((media_type, body)) = typed else {
                bail!("a picture as the body is one JPEG, PNG or WebP for one BYTES input");
            };
            rest(&infer, &[("content-type", media_type)], body)
        }
        Protocol::Grpc => {
            let request = grpc(model, inputs);
            let bytes = request.raw_input_contents.iter().map(Bytes::len).sum();
            Ok((Call::grpc(request), bytes))
        }
    }
}

/// Rows where every input has as many, columns where not.
fn v1(inputs: &Inputs) -> anyhow::Result<Value> {
    let columns: Vec<(&str, Value)> =
        inputs.iter().map(|(name, tensor)| Ok((name.as_str(), nested(tensor)?))).collect::<anyhow::Result<_>>()?;
    let rows: Vec<Option<usize>> = inputs.iter().map(|(_, tensor)| tensor.rows()).collect();
    match rows.first() {
        Some(&Some(count)) if rows.iter().all(|rows| *rows == Some(count)) => {
            let row = |row: usize| match columns.as_slice() {
                [(_, column)] => column[row].clone(),
                several => several.iter().map(|(name, column)| ((*name).to_owned(), column[row].clone())).collect(),
            };
            Ok(json!({"instances": (0..count).map(row).collect::<Vec<Value>>()}))
        }
        _ => Ok(json!({"inputs": columns.into_iter().collect::<std::collections::BTreeMap<_, _>>()})),
    }
}

/// Lists in lists, as deep as the tensor has dimensions.
fn nested(tensor: &Tensor) -> anyhow::Result<Value> {
    let mut level = match tensor.elements() {
        Some(elements) => elements.iter().map(|bytes| json!({"b64": STANDARD.encode(bytes)})).collect(),
        None => numbers(tensor)?,
    };
    for &size in tensor.shape().iter().skip(1).rev() {
        level = level.chunks(size.max(1)).map(|chunk| Value::from(chunk.to_vec())).collect();
    }
    Ok(if tensor.shape().is_empty() { level.pop().unwrap_or_default() } else { Value::from(level) })
}

fn v2(inputs: &Inputs) -> anyhow::Result<Value> {
    let inputs = inputs.iter().map(|(name, tensor)| {
        let mut input = json!({"name": name, "datatype": tensor.dtype().name(), "shape": tensor.shape()});
        input["data"] = match tensor.elements() {
            None => numbers(tensor)?.into(),
            Some(elements) => {
                let texts: Option<Vec<&str>> = elements.iter().map(|bytes| std::str::from_utf8(bytes).ok()).collect();
                match texts {
                    Some(texts) => texts.into(),
                    None => {
                        input["parameters"]["content_type"] = "base64".into();
                        elements.iter().map(|bytes| STANDARD.encode(bytes)).collect::<Vec<_>>().into()
                    }
                }
            }
        };
        Ok(input)
    });
    Ok(json!({"inputs": inputs.collect::<anyhow::Result<Vec<Value>>>()?}))
}

/// Row-major elements, little endian; BYTES elements each behind their length.
fn raw(tensor: &Tensor) -> Bytes {
    match (tensor.bytes(), tensor.elements()) {
        (Some(bytes), _) => bytes.clone(),
        (None, Some(elements)) => {
            let each = elements.iter().flat_map(|bytes| [(bytes.len() as u32).to_le_bytes().to_vec(), bytes.to_vec()]);
            each.collect::<Vec<_>>().concat().into()
        }
        (None, None) => Bytes::new(),
    }
}

/// The length of the JSON, and it with the tensors behind it.
fn v2_binary(inputs: &Inputs) -> (usize, Bytes) {
    let mut body = Vec::new();
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|(name, tensor)| {
            let raw = raw(tensor);
            body.extend_from_slice(&raw);
            json!({
                "name": name,
                "datatype": tensor.dtype().name(),
                "shape": tensor.shape(),
                "parameters": {"binary_data_size": raw.len()},
            })
        })
        .collect();
    // Whoever sends bytes reads bytes.
    let header = json!({"inputs": inputs, "parameters": {"binary_data_output": true}}).to_string();
    (header.len(), [header.as_bytes(), &body].concat().into())
}

fn grpc(model: &str, inputs: &Inputs) -> ModelInferRequest {
    let described = inputs.iter().map(|(name, tensor)| InferInputTensor {
        name: name.clone(),
        datatype: tensor.dtype().name().to_owned(),
        shape: tensor.shape().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        ..InferInputTensor::default()
    });
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: described.collect(),
        raw_input_contents: inputs.iter().map(|(_, tensor)| raw(tensor)).collect(),
        ..ModelInferRequest::default()
    }
}

fn numbers(tensor: &Tensor) -> anyhow::Result<Vec<Value>> {
    macro_rules! values {
        ($element:ty) => {
            tensor.as_slice::<$element>().unwrap_or_default().iter().map(|value| json!(value)).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::Bool => tensor.bytes().into_iter().flatten().map(|value| json!(*value != 0)).collect(),
        DType::Uint8 => values!(u8),
        DType::Uint16 => values!(u16),
        DType::Uint32 => values!(u32),
        DType::Uint64 => values!(u64),
        DType::Int8 => values!(i8),
        DType::Int16 => values!(i16),
        DType::Int32 => values!(i32),
        DType::Int64 => values!(i64),
        DType::Fp32 => values!(f32),
        DType::Fp64 => values!(f64),
        half @ (DType::Fp16 | DType::Bf16) => {
            bail!("{} is not sent as JSON from here; take --protocol v2-binary or grpc", half.name())
        }
        DType::Bytes => bail!("BYTES is not a number"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Inputs {
        let numbers = Tensor::from_slice([2, 2], &[1.5_f32, 2.0, 3.0, 4.0]).expect("valid");
        let bytes = Tensor::from_elements([2], vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")]);
        vec![("x".to_owned(), numbers), ("b".to_owned(), bytes.expect("valid"))]
    }

    #[test]
    fn v1_has_rows_where_it_can() {
        let expected = json!({"instances": [
            {"x": [1.5, 2.0], "b": {"b64": "YQ=="}},
            {"x": [3.0, 4.0], "b": {"b64": "/w=="}},
        ]});
        assert_eq!(v1(&rows()).expect("valid"), expected);
        let alone = vec![rows().remove(0)];
        assert_eq!(v1(&alone).expect("valid"), json!({"instances": [[1.5, 2.0], [3.0, 4.0]]}));
        let uneven = vec![rows().remove(0), ("s".to_owned(), Tensor::from_slice(Vec::new(), &[7_i64]).expect("valid"))];
        assert_eq!(v1(&uneven).expect("valid"), json!({"inputs": {"x": [[1.5, 2.0], [3.0, 4.0]], "s": 7}}));
    }

    #[test]
    fn v2_is_flat_and_its_bytes_are_said_to_be_base64() {
        let value = v2(&rows()).expect("valid");
        assert_eq!(
            value["inputs"][0],
            json!({"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.5, 2.0, 3.0, 4.0]})
        );
        assert_eq!(value["inputs"][1]["parameters"]["content_type"], "base64");
        assert_eq!(value["inputs"][1]["data"], json!(["YQ==", "/w=="]));
    }

    #[test]
    fn binary_tensors_follow_the_json_and_are_those_of_grpc() {
        let (header, body) = v2_binary(&rows());
        let json: Value = serde_json::from_slice(&body[..header]).expect("JSON");
        assert_eq!(json["inputs"][0]["parameters"]["binary_data_size"], 16);
        let request = grpc("m", &rows());
        assert_eq!(body[header..], request.raw_input_contents.concat());
        assert_eq!(request.raw_input_contents[1], &b"\x01\0\0\0a\x01\0\0\0\xff"[..]);
        assert_eq!(request.inputs[1].shape, [2]);
    }

    #[test]
    fn a_picture_is_one_element_of_a_known_kind() {
        let jpeg = Tensor::from_elements([1], vec![Bytes::from_static(&[0xff, 0xd8, 0xff, 0])]).expect("valid");
        assert_eq!(encode(Protocol::Picture, "m", &vec![("i".to_owned(), jpeg)]).expect("valid").1, 4);
        assert!(encode(Protocol::Picture, "m", &rows()).is_err());
    }
}
