//! The gRPC service as its clients see it.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::DType;
use corymb_engine::EngineOptions;
use corymb_listener::ListenerOptions;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use corymb_proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest,
    ServerMetadataRequest, ServerReadyRequest,
};
use futures::stream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::client::Channel;
use super::{Running, start, start_listening, start_with, until};
use crate::ServerOptions;
use crate::fake::{MODEL, SLEEP};

type Client = GrpcInferenceServiceClient<Channel>;

async fn client(server: &Running) -> Client {
    over(Channel::to(server).await)
}

fn over(channel: Channel) -> Client {
    let origin = channel.origin();
    GrpcInferenceServiceClient::with_origin(channel, origin).max_decoding_message_size(64 * 1024 * 1024)
}

fn raw(dtype: DType, count: i64, data: &'static [u8]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: dtype.name().to_lowercase(),
        datatype: dtype.name().to_owned(),
        shape: vec![count],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from_static(data)],
        ..Default::default()
    }
}

fn typed(name: &str, dtype: DType, contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor {
        name: name.to_owned(),
        datatype: dtype.name().to_owned(),
        shape: vec![1],
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferRequest { model_name: MODEL.to_owned(), inputs: vec![input], ..Default::default() }
}

fn sleep(time: Duration) -> ModelInferRequest {
    let millis = i32::try_from(time.as_millis()).expect("short");
    typed(SLEEP, DType::Int32, InferTensorContents { int_contents: vec![millis], ..Default::default() })
}

fn large(bytes: usize) -> ModelInferRequest {
    let mut request = raw(DType::Uint8, i64::try_from(bytes).expect("fits"), &[]);
    request.raw_input_contents = vec![vec![7; bytes].into()];
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_models_describe_themselves() {
    let server = start(ServerOptions { version: "9.9".to_owned(), ..ServerOptions::default() }).await;
    let mut client = client(&server).await;
    assert!(client.server_live(ServerLiveRequest {}).await.expect("answered").into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.expect("answered").into_inner().ready);
    let metadata = client.server_metadata(ServerMetadataRequest {}).await.expect("answered").into_inner();
    assert_eq!((&*metadata.name, &*metadata.version), ("corymb", "9.9"));
    assert_eq!(metadata.extensions, ["binary_tensor_data", "model_repository", "parameters"]);

    let ready = async |name: &str, version: &str| {
        let question = ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        client.clone().model_ready(question).await.expect("answered").into_inner().ready
    };
    assert!(ready(MODEL, "").await && ready(MODEL, "1").await);
    assert!(!ready(MODEL, "2").await && !ready("other", "").await);

    let question = ModelMetadataRequest { name: MODEL.to_owned(), version: String::new() };
    let metadata = client.model_metadata(question).await.expect("answered").into_inner();
    assert_eq!(
        (&*metadata.name, &*metadata.versions, &*metadata.platform),
        (MODEL, &["1".to_owned()][..], "onnx_onnxv1")
    );
    assert_eq!(metadata.inputs[0].name, "bool");
    assert_eq!((&*metadata.inputs[0].datatype, &*metadata.inputs[0].shape), ("BOOL", &[-1][..]));
    assert_eq!(metadata.outputs.len(), metadata.inputs.len());
    let question = ModelMetadataRequest { name: "other".to_owned(), version: String::new() };
    assert_eq!(client.model_metadata(question).await.expect_err("unknown").code(), Code::NotFound);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dtype_goes_in_and_comes_out_raw() {
    let server = start(ServerOptions::default()).await;
    let mut client = client(&server).await;
    for dtype in DType::ALL {
        let data: &[u8] = match dtype.size() {
            Some(1) => &[1, 0],
            Some(2) => &[1, 2, 3, 4],
            Some(4) => &[1, 2, 3, 4, 5, 6, 7, 8],
            Some(_) => &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            None => &[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0],
        };
        let request = ModelInferRequest { id: format!("id-{dtype}"), ..raw(dtype, 2, data) };
        let answer = client.model_infer(request).await.expect("answered").into_inner();
        assert_eq!((&*answer.model_name, &*answer.model_version), (MODEL, "1"));
        assert_eq!(answer.id, format!("id-{dtype}"));
        assert_eq!((&*answer.outputs[0].datatype, &*answer.outputs[0].shape), (dtype.name(), &[2][..]));
        assert_eq!(answer.raw_output_contents, [data]);
    }
    // Typed contents are answered raw as well.
    let contents = InferTensorContents { fp64_contents: vec![1.5], ..Default::default() };
    let answer = client.model_infer(typed("fp64", DType::Fp64, contents)).await.expect("answered").into_inner();
    assert_eq!(answer.raw_output_contents, [&1.5_f64.to_le_bytes()[..]]);
    assert_eq!(answer.outputs[0].contents, None);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_outputs_that_are_named_come_back() {
    let server = start(ServerOptions::default()).await;
    let mut request = raw(DType::Uint8, 1, &[1]);
    let second = raw(DType::Int8, 1, &[2]);
    request.inputs.extend(second.inputs);
    request.raw_input_contents.extend(second.raw_input_contents);
    request.outputs = vec![InferRequestedOutputTensor { name: "int8".to_owned(), ..Default::default() }];
    let answer = client(&server).await.model_infer(request).await.expect("answered").into_inner();
    assert_eq!(answer.outputs.len(), 1);
    assert_eq!(answer.outputs[0].name, "int8");
    assert_eq!(answer.raw_output_contents, [&[2][..]]);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_tables_codes() {
    let server = start(ServerOptions { max_body: 100_000, ..ServerOptions::default() }).await;
    let mut client = client(&server).await;
    let mut refused = async |request: ModelInferRequest| client.model_infer(request).await.expect_err("refused");
    let good = raw(DType::Uint8, 1, &[1]);

    let status = refused(ModelInferRequest { model_name: "other".to_owned(), ..good.clone() }).await;
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("'other'"), "{}", status.message());
    let status = refused(ModelInferRequest { model_version: "7".to_owned(), ..good.clone() }).await;
    assert_eq!(status.code(), Code::NotFound);
    let status = refused(raw(DType::Fp64, 1, &[1])).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("'fp64'"), "{}", status.message());
    let status = refused(large(100_001)).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("at most 100000"), "{}", status.message());

    let parameter = |name: &str, choice| [(name.to_owned(), InferParameter { parameter_choice: Some(choice) })].into();
    let reserved = parameter("triton_enable_empty_final_response", ParameterChoice::BoolParam(true));
    let status = refused(ModelInferRequest { parameters: reserved, ..good.clone() }).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let timeout = parameter("timeout", ParameterChoice::Int64Param(20_000));
    let status = refused(ModelInferRequest { parameters: timeout, ..sleep(Duration::from_millis(500)) }).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{}", status.message());
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_timeout_is_honoured() {
    let server = start(ServerOptions::default()).await;
    let mut request = Request::new(sleep(Duration::from_millis(500)));
    // Not `set_timeout`, by which tonic's client would give up itself.
    request.metadata_mut().insert("grpc-timeout", "20m".parse().expect("a value"));
    let status = client(&server).await.model_infer(request).await.expect_err("too late");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{}", status.message());
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_is_mirrored() {
    let server = start(ServerOptions { max_body: 1_000_000, ..ServerOptions::default() }).await;
    let plain = client(&server).await;
    let mut packing =
        plain.clone().send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    let answer = packing.model_infer(large(900_000)).await.expect("answered");
    assert_eq!(answer.metadata().get("grpc-encoding").expect("named"), "gzip");
    assert_eq!(answer.into_inner().raw_output_contents[0].len(), 900_000);
    // What a message grows to is bounded too.
    let status = packing.model_infer(large(1_000_001)).await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted);

    let mut accepting = plain.accept_compressed(CompressionEncoding::Gzip);
    let answer = accepting.model_infer(large(900_000)).await.expect("answered");
    assert_eq!(answer.metadata().get("grpc-encoding"), None);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_predictions_and_answers_probes() {
    let options = EngineOptions { max_in_flight: 1, ..EngineOptions::default() };
    let server = start_with(options, ServerOptions::default()).await;
    let channel = Channel::to(&server).await;
    let mut busy = over(channel.clone());
    let slow = tokio::spawn(async move { busy.model_infer(sleep(Duration::from_millis(300))).await });
    until(|| server.engine.concurrency().in_flight() == 1).await;
    let mut client = over(channel);
    let refused = client.model_infer(raw(DType::Uint8, 1, &[1])).await.expect_err("no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.metadata().get("retry-after").expect("named"), "1");
    assert!(client.server_ready(ServerReadyRequest {}).await.expect("answered").into_inner().ready);
    slow.await.expect("no panic").expect("answered");

    // A caller that goes away gives its place back.
    let mut busy = client.clone();
    let gone = tokio::time::timeout(Duration::from_millis(50), busy.model_infer(sleep(Duration::from_secs(2)))).await;
    assert!(gone.is_err());
    while client.model_infer(raw(DType::Uint8, 1, &[1])).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_read_is_reset_alone() {
    let options = ServerOptions { body_timeout: Duration::from_millis(50), ..ServerOptions::default() };
    let server = start(options).await;
    let channel = Channel::to(&server).await;
    let mut deaf = over(channel.clone().without_reading());
    assert!(deaf.model_infer(large(1_000_000)).await.is_err());
    // The connection's own window is full of what was not read, so only small answers pass: trailers alone.
    let mut client = over(channel);
    let status = client.model_infer(ModelInferRequest::default()).await.expect_err("no model");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_request_and_survives_refusals() {
    let server = start(ServerOptions::default()).await;
    let wrong = ModelInferRequest { id: "b".to_owned(), ..raw(DType::Fp64, 1, &[1]) };
    let good = |id: &str| ModelInferRequest { id: id.to_owned(), ..raw(DType::Uint8, 1, &[1]) };
    let requests = stream::iter([good("a"), wrong, good("c")]);
    let mut client = client(&server).await;
    let mut answers = client.model_stream_infer(requests).await.expect("a stream").into_inner();
    let mut next = async || answers.message().await.expect("no error");

    let first = next().await.expect("an answer");
    let inner = first.infer_response.expect("an answer");
    assert_eq!((&*first.error_message, &*inner.id, inner.raw_output_contents.len()), ("", "a", 1));
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    assert_eq!(inner.parameters["triton_final_response"], last);
    let second = next().await.expect("an answer");
    assert!(second.error_message.contains("'fp64'"), "{}", second.error_message);
    assert_eq!(second.infer_response.expect("the id").id, "b");
    assert_eq!(next().await.and_then(|third| third.infer_response).expect("an answer").id, "c");
    assert_eq!(next().await, None);
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_does_not_hold_a_stopping_server() {
    let server =
        start_listening(ListenerOptions { drain_timeout: Duration::from_secs(60), ..ListenerOptions::default() }).await;
    let mut client = client(&server).await;
    let mut answers = client.model_stream_infer(stream::pending()).await.expect("a stream").into_inner();
    let stopping = tokio::spawn(server.stop());
    assert_eq!(answers.message().await.expect_err("ended").code(), Code::Unavailable);
    assert_eq!(stopping.await.expect("no panic").cut, 0);
}

/// The next message is always there, so that a stream that looked for it first would never end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_sends_ahead_ends_with_its_connection() {
    let age = Duration::from_millis(100);
    let options = ListenerOptions { max_connection_age: Some(age), drain_timeout: age, ..ListenerOptions::default() };
    let server = start_listening(options).await;
    let mut client = client(&server).await;
    let requests = stream::repeat(raw(DType::Uint8, 1, &[1]));
    let mut answers = client.model_stream_infer(requests).await.expect("a stream").into_inner();
    let mut answered = 0;
    let status = loop {
        match answers.message().await {
            Ok(answer) => answered += usize::from(answer.expect("not the end").error_message.is_empty()),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), answered > 0), (Code::Unavailable, true), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_readiness() {
    let options = ListenerOptions { drain_delay: Duration::from_secs(1), ..ListenerOptions::default() };
    let server = start_listening(options).await;
    let channel = Channel::to(&server).await;
    let origin = channel.origin();
    let mut client = HealthClient::with_origin(channel, origin);
    let name = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", MODEL, "inference.GRPCInferenceService"] {
        let answer = client.check(name(service)).await.expect("known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    assert_eq!(client.check(name("other")).await.expect_err("unknown").code(), Code::NotFound);

    let mut watch = client.watch(name("")).await.expect("a stream").into_inner();
    let mut next = async || watch.message().await.map(|answer| answer.map(|answer| answer.status()));
    assert_eq!(next().await.expect("no error"), Some(ServingStatus::Serving));
    let stopping = tokio::spawn(server.stop());
    assert_eq!(next().await.expect("no error"), Some(ServingStatus::NotServing));
    assert_eq!(next().await.expect("no error"), None);
    assert_eq!(stopping.await.expect("no panic").cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_are_unimplemented() {
    let server = start(ServerOptions::default()).await;
    let channel = Channel::to(&server).await;
    let origin = channel.origin();
    for path in ["/inference.GRPCInferenceService/ModelConfig", "/other.Service/Call"] {
        let mut grpc = tonic::client::Grpc::with_origin(channel.clone(), origin.clone());
        let codec = tonic_prost::ProstCodec::<ServerLiveRequest, ServerLiveRequest>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer: Result<_, Status> = grpc.unary(Request::new(ServerLiveRequest {}), path, codec).await;
        assert_eq!(answer.expect_err("unknown").code(), Code::Unimplemented);
    }
    assert_eq!(server.stop().await.cut, 0);
}
