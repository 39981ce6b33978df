//! What the server pushes by OTLP: seen by the real Collector, agreeing with the page, and never in the way of serving.

mod agreement;
mod outage;
mod received;
mod refused;

use std::process::Command;

use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use tonic::transport::Channel;

use crate::collector::binary;
use crate::harness::{LIMIT, picture, root};

const PREDICT: &str = "/v1/models/flowers-sample:predict";

/// Soon enough for a test.
const SOON: [(&str, &str); 3] =
    [("OTEL_METRIC_EXPORT_INTERVAL", "300"), ("OTEL_BSP_SCHEDULE_DELAY", "100"), ("OTEL_BLRP_SCHEDULE_DELAY", "100")];

/// One picture by gRPC, in the trace of that `traceparent`.
pub(crate) fn grpc_picture(url: String, traceparent: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("connects");
        let mut client = GrpcInferenceServiceClient::new(channel);
        let image = picture();
        let element = [&u32::try_from(image.len()).expect("short").to_le_bytes()[..], &image].concat();
        let mut request = tonic::Request::new(ModelInferRequest {
            model_name: "flowers-sample".to_owned(),
            inputs: vec![InferInputTensor {
                name: "image_bytes".to_owned(),
                datatype: "BYTES".to_owned(),
                shape: vec![1],
                ..Default::default()
            }],
            raw_input_contents: vec![element.into()],
            ..Default::default()
        });
        request.set_timeout(LIMIT);
        request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
        client.model_infer(request).await.expect("answered");
    });
}

#[test]
fn the_collector_accepts_its_configuration() {
    let Some(binary) = binary() else { return };
    let config = root().join("deploy/telemetry/collector.yaml");
    let checked = Command::new(binary).arg("validate").arg("--config").arg(config).output().expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
