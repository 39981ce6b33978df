//! Tensors as a request of each protocol.

use anyhow::bail;
use bytes::Bytes;
use corymb_core::Tensors;
use corymb_loadtest::Call;
use corymb_wire::picture::media_type;
use corymb_wire::raw::JSON_LENGTH;
use corymb_wire::{Encoded, grpc, v1, v2};

use super::Protocol;

/// The request, and the size of its body.
pub(super) fn encode(protocol: Protocol, model: &str, inputs: &Tensors) -> anyhow::Result<(Call, usize)> {
    let infer = format!("/v2/models/{model}/infer");
    let rest = |url: &str, encoded: Encoded| {
        let bytes = encoded.body.len();
        let length = encoded.json_len.map(|length| length.to_string());
        let mut headers = vec![("content-type", encoded.content_type())];
        headers.extend(length.as_deref().map(|length| (JSON_LENGTH.as_str(), length)));
        Ok((Call::rest(url, &headers, Some(encoded.body))?, bytes))
    };
    match protocol {
        Protocol::V1 => rest(&format!("/v1/models/{model}:predict"), v1::encode_request(inputs)?),
        Protocol::V2 => rest(&infer, v2::encode_request(inputs, v2::Binary::default())?),
        // A client that sends bytes reads bytes.
        Protocol::V2Binary => rest(&infer, v2::encode_request(inputs, v2::Binary { inputs: true, outputs: true })?),
        Protocol::Picture => {
            let mut all = inputs.iter();
            let one = match (all.next(), all.next()) {
                (Some((_, tensor)), None) => tensor.elements().filter(|elements| elements.len() == 1),
                _ => None,
            };
            let typed = one.and_then(|elements| Some((media_type(&elements[0])?, elements[0].clone())));
            let Some((media_type, body)) = typed else {
                bail!("a picture as the body is one JPEG, PNG or WebP for one BYTES input");
            };
            let bytes = body.len();
            Ok((Call::rest(&infer, &[("content-type", media_type)], Some(body))?, bytes))
        }
        Protocol::Grpc => {
            let request = grpc::request(model, inputs);
            let bytes = request.raw_input_contents.iter().map(Bytes::len).sum();
            Ok((Call::grpc(request), bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::Tensor;

    use super::*;

    #[test]
    fn a_picture_is_one_element_of_a_known_kind() {
        let jpeg = Tensor::from_elements([1], vec![Bytes::from_static(&[0xff, 0xd8, 0xff, 0])]).expect("valid");
        let picture = Tensors::from_iter([("i", jpeg.clone())]);
        assert_eq!(encode(Protocol::Picture, "m", &picture).expect("valid").1, 4);
        let two = Tensors::from_iter([("i", jpeg.clone()), ("j", jpeg)]);
        assert!(encode(Protocol::Picture, "m", &two).is_err());
        let text = Tensor::from_elements([1], vec![Bytes::from_static(b"a")]).expect("valid");
        assert!(encode(Protocol::Picture, "m", &Tensors::from_iter([("i", text)])).is_err());
    }
}
