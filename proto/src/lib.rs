//! The gRPC protocols that Corymb speaks: types generated from the `.proto` files beside this crate, and with the feature
//! `client` the clients.

/// What the generated types have in common: how they are encoded and decoded.
pub use prost::Message;

/// The Open Inference Protocol and Triton's additions, package `inference`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// Knative's statistics of a pod, package `metrics`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod knative {
    include!(concat!(env!("OUT_DIR"), "/metrics.rs"));
}

/// The encoded `FileDescriptorSet` of all packages with services, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use super::Message;
    use super::inference::model_infer_request::InferInputTensor;
    use super::inference::{InferTensorContents, ModelInferRequest};
    use super::knative::Stat;

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

    #[test]
    fn numbers_of_knatives_message_are_the_published_ones() {
        let stat = Stat {
            pod_name: "p".to_owned(),
            average_concurrent_requests: 2.0,
            average_proxied_concurrent_requests: 2.0,
            request_count: 2.0,
            proxied_request_count: 2.0,
            process_uptime: 2.0,
            timestamp: 7,
        };
        let double = |number: u8| [number << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0x40].to_vec();
        let expected = [vec![0x0a, 1, b'p'], (2..=6).flat_map(double).collect(), vec![0x38, 7]];
        assert_eq!(stat.encode_to_vec(), expected.concat());
    }
}
