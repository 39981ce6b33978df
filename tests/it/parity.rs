//! One picture through every protocol: the same scores to the last bit.

use base64::Engine as _;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use corymb_proto::inference::{InferTensorContents, ModelInferRequest};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::harness::{Server, picture, send};

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

const MODEL: &str = "flowers-sample";

/// Shortest decimal digits come back as the very bits that were printed.
fn bits(scores: &Value) -> Vec<u32> {
    let scores = scores.as_array().unwrap_or_else(|| panic!("a list, not {scores}"));
    scores.iter().map(|score| (score.to_string().parse::<f32>().expect("a number")).to_bits()).collect()
}

fn raw_bits(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four"))).collect()
}

fn output<'a>(json: &'a Value, name: &str) -> &'a Value {
    let outputs = json["outputs"].as_array().unwrap_or_else(|| panic!("outputs in {json}"));
    outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("{name} in {json}"))
}

/// A way to send a picture, and the scores that come back.
type Way = (&'static str, Vec<u32>);

/// One picture by every way.
fn all_ways(server: &Server, image: &[u8]) -> Vec<Way> {
    let mut ways = v1_ways(server, image);
    ways.extend(v2_ways(server, image));
    ways.push(("V2 binary", v2_binary(server, image)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    ways.extend(runtime.block_on(grpc_ways(server, image)));
    ways
}

fn post(server: &Server, path: &str, body: &Value) -> Value {
    server.post(path, "application/json", body.to_string().as_bytes()).json()
}

fn v1_ways(server: &Server, image: &[u8]) -> Vec<Way> {
    let b64 = base64(image);
    let v1 = format!("/v1/models/{MODEL}:predict");
    let rows = post(server, &v1, &json!({"instances": [{"image_bytes": {"b64": b64}, "key": "k"}]}));
    let bare = post(server, &v1, &json!({"instances": [{"b64": b64}]}));
    let columns = post(server, &v1, &json!({"inputs": {"image_bytes": [{"b64": b64}], "key": ["k"]}}));
    let raw = server.post(&v1, "image/jpeg", image).json();
    vec![
        ("V1 rows", bits(&rows["predictions"][0]["scores"])),
        ("V1 rows, bare", bits(&bare["predictions"][0]["scores"])),
        ("V1 columns", bits(&columns["outputs"]["scores"][0])),
        ("V1 raw picture", bits(&raw["predictions"][0]["scores"])),
    ]
}

fn v2_ways(server: &Server, image: &[u8]) -> Vec<Way> {
    let v2 = format!("/v2/models/{MODEL}/infer");
    let raw = server.post(&v2, "image/jpeg", image).json();
    let input = json!({"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [base64(image)],
        "parameters": {"content_type": "base64"}});
    let v2_json = post(server, &v2, &json!({"id": "7", "inputs": [input]}));
    assert_eq!(v2_json["id"], "7");
    vec![
        ("V2 raw picture", bits(&output(&raw, "scores")["data"])),
        ("V2 JSON", bits(&output(&v2_json, "scores")["data"])),
    ]
}

/// One BYTES element behind its length, as V2 has it in binary and in gRPC.
fn element(image: &[u8]) -> Vec<u8> {
    [&u32::try_from(image.len()).expect("short").to_le_bytes()[..], image].concat()
}

fn v2_binary(server: &Server, image: &[u8]) -> Vec<u32> {
    let element = element(image);
    let header = json!({
        "inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES",
            "parameters": {"binary_data_size": element.len()}}],
        "outputs": [{"name": "scores", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let length = header.len().to_string();
    let headers = [("inference-header-content-length", length.as_str()), ("content-type", "application/octet-stream")];
    let url = server.url(&format!("/v2/models/{MODEL}/infer"));
    let binary = send(&url, "POST", &headers, &[header.as_bytes(), &element].concat());
    assert_eq!(binary.status, 200, "{}", binary.text());
    let json_length: usize =
        binary.header("inference-header-content-length").expect("binary").parse().expect("a number");
    raw_bits(&binary.body[json_length..])
}

async fn grpc_ways(server: &Server, image: &[u8]) -> Vec<Way> {
    let channel = Channel::from_shared(server.url("")).expect("a URL").connect().await.expect("connects");
    let mut client = GrpcInferenceServiceClient::new(channel);
    let request = |contents: Option<InferTensorContents>, raw: Vec<Vec<u8>>| ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![InferInputTensor {
            name: "image_bytes".to_owned(),
            datatype: "BYTES".to_owned(),
            shape: vec![1],
            contents,
            ..Default::default()
        }],
        outputs: vec![InferRequestedOutputTensor { name: "scores".to_owned(), ..Default::default() }],
        raw_input_contents: raw.into_iter().map(Into::into).collect(),
        ..Default::default()
    };
    let contents = InferTensorContents { bytes_contents: vec![image.to_vec().into()], ..Default::default() };
    let typed = client.model_infer(request(Some(contents), vec![])).await.expect("answered").into_inner();
    let raw = client.model_infer(request(None, vec![element(image)])).await.expect("answered").into_inner();
    vec![
        ("V2 gRPC typed", raw_bits(&typed.raw_output_contents[0])),
        ("V2 gRPC raw", raw_bits(&raw.raw_output_contents[0])),
    ]
}

#[test]
fn every_protocol_gives_the_same_bits() {
    let server = Server::start(&[]);
    let ways = all_ways(&server, &picture());
    let (_, expected) = &ways[0];
    assert_eq!(expected.len(), 6);
    for (way, scores) in &ways {
        assert_eq!(scores, expected, "{way}");
    }
}
