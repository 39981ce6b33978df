//! The gRPC protocols that Corymb speaks: types and clients generated from the `.proto` files beside this crate.

/// The Open Inference Protocol and Triton's additions, package `inference`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The encoded `FileDescriptorSet` of all packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::inference::model_infer_request::InferInputTensor;
    use super::inference::{InferTensorContents, ModelInferRequest};

    #[test]
    fn numbers_on_the_wire_are_the_published_ones() {
        let request = ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: vec![InferInputTensor {
                name: "x".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1],
                contents: Some(InferTensorContents { fp32_contents: vec![1.0], ..Default::default() }),
                ..Default::default()
            }],
            raw_input_contents: vec![vec![7].into()],
            ..Default::default()
        };
        let expected = [
            &[0x0a, 1, b'm'][..],
            &[0x2a, 20, 0x0a, 1, b'x', 0x12, 4, b'F', b'P', b'3', b'2', 0x1a, 1, 1, 0x2a, 6, 0x32, 4, 0, 0, 0x80, 0x3f],
            &[0x3a, 1, 7],
        ];
        assert_eq!(request.encode_to_vec(), expected.concat());
    }
}
