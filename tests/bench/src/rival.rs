//! `rival`: what a user would write by hand instead of a model server, for the one model `y = x + 1`: an axum handler for
//! V2 REST, JSON and binary, and a tonic service for V2 gRPC. Nothing is counted, bounded, logged or checked.

use std::convert::Infallible;
use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use corymb_proto::inference::model_infer_response::InferOutputTensor;
use corymb_proto::inference::{ModelInferRequest, ModelInferResponse};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

use crate::process::cpu_of;

const JSON_LENGTH: &str = "inference-header-content-length";

/// The handlers in a process of their own. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Rival {
    child: Child,
    pub(crate) rest: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

impl Rival {
    /// This program again, as `rival`.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.arg("rival").env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the rival")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).context("the rival's addresses")?;
        }
        let mut addresses = line.split_whitespace().filter_map(|address| address.parse().ok());
        match (addresses.next(), addresses.next()) {
            (Some(rest), Some(grpc)) => Ok(Self { child, rest, grpc }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                anyhow::bail!("the rival says '{line}' where its addresses should be")
            }
        }
    }

    /// CPU time of all threads so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.child.id())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed. The first line on standard output has the two addresses: REST, gRPC.
pub(crate) fn run() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    runtime.block_on(async {
        let rest = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
        println!("{} {}", rest.local_addr()?, grpc.local_addr()?);
        std::io::stdout().flush()?;
        let router = Router::new().route("/v2/models/{model}/infer", post(infer));
        let rest = axum::serve(axum::serve::ListenerExt::tap_io(rest, |stream| drop(stream.set_nodelay(true))), router);
        let incoming = tonic::transport::server::TcpIncoming::from(grpc).with_nodelay(Some(true));
        let grpc = tonic::transport::Server::builder().add_service(AddOne).serve_with_incoming(incoming);
        tokio::select! {
            ended = async { rest.await } => ended.context("serve REST"),
            ended = grpc => ended.context("serve gRPC"),
        }
    })
}

#[derive(Deserialize)]
struct InferRequest {
    inputs: Vec<InputTensor>,
}

#[derive(Deserialize)]
struct InputTensor {
    shape: Vec<i64>,
    #[serde(default)]
    data: Vec<f32>,
}

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    model_version: &'a str,
    outputs: [OutputTensor<'a>; 1],
}

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

async fn infer(Path(model): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let json_length = headers.get(JSON_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    answer(&model, json_length, &body).unwrap_or_else(|error| {
        (StatusCode::BAD_REQUEST, serde_json::json!({ "error": error.to_string() }).to_string()).into_response()
    })
}

fn answer(model: &str, json_length: Option<usize>, body: &[u8]) -> anyhow::Result<Response> {
    let (json, binary) = body.split_at_checked(json_length.unwrap_or(body.len())).context("a short body")?;
    let request: InferRequest = serde_json::from_slice(json)?;
    let input = request.inputs.first().context("no input")?;
    let json = |data: Option<&[f32]>, parameters: Option<BinarySize>| {
        let output = OutputTensor { name: "y", datatype: "FP32", shape: &input.shape, data, parameters };
        serde_json::to_vec(&InferResponse { model_name: model, model_version: "1", outputs: [output] })
    };
    if json_length.is_none() {
        let sums: Vec<f32> = input.data.iter().map(|value| value + 1.0).collect();
        let body = json(Some(&sums), None)?;
        return Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response());
    }
    let sums = add_one(binary);
    let mut body = json(None, Some(BinarySize { binary_data_size: sums.len() }))?;
    let length = HeaderValue::from(body.len());
    body.extend_from_slice(&sums);
    let octets = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, octets), (JSON_LENGTH.parse()?, length)], body).into_response())
}

fn add_one(raw: &[u8]) -> Vec<u8> {
    let (floats, _) = raw.as_chunks::<4>();
    floats.iter().flat_map(|&bytes| (f32::from_le_bytes(bytes) + 1.0).to_le_bytes()).collect()
}

/// What tonic generates for a service, for its one method.
#[derive(Clone, Debug)]
struct AddOne;

impl NamedService for AddOne {
    const NAME: &'static str = "inference.GRPCInferenceService";
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl UnaryService<ModelInferRequest> for AddOne {
    type Response = ModelInferResponse;
    type Future = Boxed<Result<tonic::Response<ModelInferResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<ModelInferRequest>) -> Self::Future {
        Box::pin(async move {
            let mut request = request.into_inner();
            let raw = request.raw_input_contents.first();
            let sums = add_one(raw.ok_or_else(|| tonic::Status::invalid_argument("no raw input"))?);
            let shape = request.inputs.first_mut().map(|input| std::mem::take(&mut input.shape)).unwrap_or_default();
            let (name, datatype) = ("y".to_owned(), "FP32".to_owned());
            Ok(tonic::Response::new(ModelInferResponse {
                model_name: request.model_name,
                model_version: "1".to_owned(),
                id: request.id,
                outputs: vec![InferOutputTensor { name, datatype, shape, ..Default::default() }],
                raw_output_contents: vec![sums.into()],
                ..Default::default()
            }))
        })
    }
}

impl<B> tower::Service<axum::http::Request<B>> for AddOne
where
    B: axum::body::HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = axum::http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        Box::pin(async move {
            if request.uri().path() != "/inference.GRPCInferenceService/ModelInfer" {
                return Ok(tonic::Status::unimplemented("unknown method").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).unary(AddOne, request).await)
        })
    }
}
