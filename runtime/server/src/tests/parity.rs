//! Every protocol does the same with a prediction: the same limits, the same class of error, the same meaning of each stage.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Error, Request, Response, Tensor, Tensors};
use corymb_engine::{EngineOptions, Protocol};
use corymb_listener::ListenerOptions;
use corymb_metrics::{Metrics, MetricsBuilder};
use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_wire::raw::JSON_LENGTH;
use corymb_wire::{Encoded, Limits, grpc, v1, v2};
use futures::stream;
use tonic::Code;

use super::client::Channel;
use super::{Running, start_on};
use crate::fake::{self, MODEL, SLEEP};
use crate::{ServerOptions, Tap};

/// More than what is decoded and encoded where it is.
const LARGE: usize = 300 * 1024;

/// One way to send a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    V1,
    V2,
    V2Binary,
    Grpc,
    Stream,
}

const WAYS: [Way; 5] = [Way::V1, Way::V2, Way::V2Binary, Way::Grpc, Way::Stream];

/// How it ended: HTTP's status, gRPC's code, or for a stream whether there was an answer.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Http(u16),
    Grpc(Code),
    Stream(bool),
}

impl Way {
    /// What the way shows of a refusal.
    fn end(self, http: u16, grpc: Code) -> End {
        match self {
            Self::V1 | Self::V2 | Self::V2Binary => End::Http(http),
            Self::Grpc => End::Grpc(grpc),
            Self::Stream => End::Stream(grpc == Code::Ok),
        }
    }

    async fn send(self, server: &Running, model: &str, inputs: &Tensors) -> End {
        self.send_within(server, model, inputs, None).await
    }

    /// Sends a request that may take `limit`.
    async fn send_within(self, server: &Running, model: &str, inputs: &Tensors, limit: Option<Duration>) -> End {
        let infer = format!("/v2/models/{model}/infer");
        let encoded = match self {
            Self::V1 => return rest(server, &format!("/v1/models/{model}:predict"), v1_columns(inputs), limit).await,
            Self::V2 => v2::encode_request(inputs, v2::Binary::default()),
            Self::V2Binary => v2::encode_request(inputs, v2::Binary { inputs: true, outputs: true }),
            Self::Grpc | Self::Stream => return self.call(server, grpc::request(model, inputs), limit).await,
        };
        rest(server, &infer, encoded.expect("written"), limit).await
    }

    async fn call(self, server: &Running, message: ModelInferRequest, limit: Option<Duration>) -> End {
        let channel = Channel::to(server).await;
        let origin = channel.origin();
        let mut client =
            GrpcInferenceServiceClient::with_origin(channel, origin).max_decoding_message_size(64 * 1024 * 1024);
        if self == Self::Stream {
            let mut request = tonic::Request::new(stream::iter([message]));
            request.metadata_mut().extend_timeout(limit);
            let mut answers = client.model_stream_infer(request).await.expect("a stream").into_inner();
            return End::Stream(matches!(answers.message().await, Ok(Some(answer)) if answer.error_message.is_empty()));
        }
        let mut request = tonic::Request::new(message);
        request.metadata_mut().extend_timeout(limit);
        End::Grpc(client.model_infer(request).await.map_or_else(|status| status.code(), |_| Code::Ok))
    }
}

trait ExtendTimeout {
    fn extend_timeout(&mut self, limit: Option<Duration>);
}

impl ExtendTimeout for tonic::metadata::MetadataMap {
    fn extend_timeout(&mut self, limit: Option<Duration>) {
        if let Some(limit) = limit {
            self.insert("grpc-timeout", format!("{}m", limit.as_millis()).parse().expect("ASCII"));
        }
    }
}

/// The client's encoder prefers rows, of which large tensors have many.
fn v1_columns(inputs: &Tensors) -> Encoded {
    let members: Vec<String> = inputs
        .iter()
        .map(|(name, tensor)| format!("\"{name}\":{}", v1::text_of(name, tensor).expect("written")))
        .collect();
    Encoded { body: format!("{{\"inputs\":{{{}}}}}", members.join(",")).into_bytes().into(), json_len: None }
}

async fn rest(server: &Running, path: &str, encoded: Encoded, limit: Option<Duration>) -> End {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n", encoded.body.len());
    if let Some(length) = encoded.json_len {
        head += &format!("{JSON_LENGTH}: {length}\r\n");
    }
    if let Some(limit) = limit {
        head += &format!("x-request-timeout: {}ms\r\n", limit.as_millis());
    }
    let mut connection = server.connect().await;
    connection.send(head + "\r\n").await;
    connection.send(encoded.body).await;
    End::Http(connection.answer().await.status)
}

fn bytes(elements: Vec<Bytes>) -> Tensors {
    let tensor = Tensor::from_elements([elements.len()], elements).expect("counted");
    Tensors::from_iter([("bytes", tensor)])
}

fn numbers(count: usize) -> Tensors {
    Tensors::from_iter([("uint8", Tensor::from_slice([count], &vec![7_u8; count]).expect("counted"))])
}

fn sleep(time: Duration) -> Tensors {
    let millis = i32::try_from(time.as_millis()).expect("short");
    Tensors::from_iter([(SLEEP, Tensor::from_slice([1], &[millis]).expect("counted"))])
}

async fn start(engine: EngineOptions, options: ServerOptions) -> Running {
    start_on(fake::engine(engine).await, options, ListenerOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_answers_and_refuses_alike() {
    let small = EngineOptions { pool: corymb_core::MemoryPool::fixed(100_000), ..EngineOptions::default() };
    let taken = corymb_core::MemoryPool::fixed(100_000);
    let mut others = taken.holder();
    others.grow(87_000).expect("room");
    let crowded = EngineOptions { pool: taken, ..EngineOptions::default() };
    let full = EngineOptions { max_in_flight: 0, ..EngineOptions::default() };
    let open = EngineOptions::default;
    let decoded = Limits { decoded: 10_000, ..Limits::default() };
    let elements = Limits { elements: 500, ..Limits::default() };
    let of = |limits| ServerOptions { limits, ..ServerOptions::default() };
    let short = ServerOptions { max_body: 1000, ..ServerOptions::default() };
    let wrong = Tensors::from_iter([("fp64", Tensor::from_slice([1, 1], &[1.0_f64]).expect("counted"))]);
    let unknown = Tensors::from_iter([("nope", Tensor::from_slice([1], &[1.0_f64]).expect("counted"))]);
    let many = bytes(vec![Bytes::new(); 1000]);
    let default = ServerOptions::default;
    let cases = [
        ("a good request", open(), default(), MODEL, numbers(3), 200, Code::Ok),
        ("an unknown model", open(), default(), "other", numbers(3), 404, Code::NotFound),
        ("an unknown input", open(), default(), MODEL, unknown, 400, Code::InvalidArgument),
        ("a wrong rank", open(), default(), MODEL, wrong, 400, Code::InvalidArgument),
        ("a body beyond the limit", open(), short, MODEL, numbers(2000), 413, Code::ResourceExhausted),
        ("tensors beyond the limit", open(), of(decoded), MODEL, many.clone(), 413, Code::ResourceExhausted),
        ("elements beyond the limit", open(), of(elements), MODEL, many, 413, Code::ResourceExhausted),
        (
            "elements beyond the budget",
            small.clone(),
            default(),
            MODEL,
            bytes(vec![Bytes::new(); 10_000]),
            413,
            Code::ResourceExhausted,
        ),
        ("a body beyond the budget", small, default(), MODEL, numbers(200_000), 413, Code::ResourceExhausted),
        (
            "a body where others hold the memory",
            crowded,
            default(),
            MODEL,
            numbers(20_000),
            429,
            Code::ResourceExhausted,
        ),
        ("a full server", full, default(), MODEL, numbers(3), 429, Code::ResourceExhausted),
    ];
    for (case, engine, options, model, inputs, http, code) in cases {
        let server = start(engine, options).await;
        for way in WAYS {
            assert_eq!(way.send(&server, model, &inputs).await, way.end(http, code), "{case} by {way:?}");
        }
        assert_eq!(server.stop().await.cut, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_keeps_to_the_callers_deadline() {
    let server = start(EngineOptions::default(), ServerOptions::default()).await;
    for way in WAYS {
        let end =
            way.send_within(&server, MODEL, &sleep(Duration::from_secs(2)), Some(Duration::from_millis(50))).await;
        assert_eq!(end, way.end(504, Code::DeadlineExceeded), "{way:?}");
    }
    assert_eq!(server.stop().await.cut, 0);
}

/// Count and seconds of each stage, as the metrics page has them.
struct Stages(Metrics);

const STAGES: [&str; 4] = ["decode", "queue", "infer", "encode"];

impl Stages {
    fn read(&self, of: &str) -> [f64; STAGES.len()] {
        let page = self.0.page();
        STAGES.map(|stage| {
            let is_wanted = |line: &&str| {
                line.starts_with(&format!("corymb_stage_duration_seconds_{of}{{"))
                    && line.contains(&format!("stage=\"{stage}\""))
            };
            let line = page.lines().find(is_wanted);
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
        })
    }
}

/// A server with one worker, and what it measures.
async fn measured() -> (Running, Stages) {
    let metrics = MetricsBuilder::default().build().expect("a page");
    let engine = fake::engine_with(EngineOptions::default(), 1, Arc::new(metrics.clone())).await;
    let server = start_on(engine, ServerOptions::default(), ListenerOptions::default()).await;
    (server, Stages(metrics))
}

fn difference<const N: usize>(after: [f64; N], before: [f64; N]) -> [f64; N] {
    std::array::from_fn(|index| after[index] - before[index])
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_are_counted_alike() {
    let (server, stages) = measured().await;
    let text = Bytes::from(vec![b'a'; LARGE]);
    for (case, inputs, expected) in [
        ("small", numbers(3), [1.0, 1.0, 1.0, 1.0]),
        // Before each of decoding, the model and encoding it waits for the worker.
        ("large", bytes(vec![text]), [1.0, 3.0, 1.0, 1.0]),
    ] {
        for way in WAYS {
            let before = stages.read("count");
            assert_eq!(way.send(&server, MODEL, &inputs).await, way.end(200, Code::Ok), "{case} by {way:?}");
            assert_eq!(difference(stages.read("count"), before), expected, "{case} by {way:?}: {STAGES:?}");
        }
    }
    // Long to decode, and refused before the model: nothing else has its time.
    let rows = Tensor::from_elements([200_000, 1], vec![Bytes::new(); 200_000]).expect("counted");
    let wrong = Tensors::from_iter([("bytes", rows)]);
    for way in WAYS {
        let (count, sum) = (stages.read("count"), stages.read("sum"));
        assert_eq!(way.send(&server, MODEL, &wrong).await, way.end(400, Code::InvalidArgument), "{way:?}");
        assert_eq!(difference(stages.read("count"), count), [1.0, 1.0, 0.0, 0.0], "{way:?}: {STAGES:?}");
        let [decode, _, infer, encode] = difference(stages.read("sum"), sum);
        assert!(decode > 0.0 && infer == 0.0 && encode == 0.0, "{way:?}: {decode} s, {infer} s, {encode} s");
    }
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_worker_is_queue_and_neither_decoding_nor_encoding() {
    const BUSY: Duration = Duration::from_secs(3);
    let (server, stages) = measured().await;
    let inputs = bytes(vec![Bytes::from(vec![b'a'; LARGE])]);
    for way in WAYS {
        let before = stages.read("sum");
        // The only worker is busy when the large request comes.
        let mut busy = server.connect().await;
        busy.begin_sleep(BUSY).await;
        tokio::time::sleep(BUSY / 3).await;
        assert_eq!(way.send(&server, MODEL, &inputs).await, way.end(200, Code::Ok), "{way:?}");
        assert_eq!(busy.answer().await.status, 200);
        let [decode, queue, _, encode] = difference(stages.read("sum"), before);
        let half = BUSY.as_secs_f64() / 2.0;
        assert!(queue > half, "{way:?}: {queue} s in the queue");
        assert!(decode < half && encode < half, "{way:?}: {decode} s decoding, {encode} s encoding");
    }
    assert_eq!(server.stop().await.cut, 0);
}

/// Takes note of what passes.
#[derive(Default)]
struct Notes(Mutex<Vec<(u64, Option<Protocol>, Tensors)>>);

impl Tap for Notes {
    fn request(&self, number: u64, protocol: Protocol, request: &Request) {
        assert_eq!((&*request.model, request.version.as_deref()), (MODEL, Some("1")));
        self.0.lock().expect("not poisoned").push((number, Some(protocol), request.inputs.clone()));
    }

    fn answer(&self, number: u64, answer: Result<&Response, &Error>) {
        let outputs = answer.map(|response| response.outputs.clone()).unwrap_or_default();
        self.0.lock().expect("not poisoned").push((number, None, outputs));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_sees_each_request_and_its_answer() {
    let notes = Arc::new(Notes::default());
    let tap = Some(Arc::clone(&notes) as Arc<dyn Tap>);
    let server = start(EngineOptions::default(), ServerOptions { tap, ..ServerOptions::default() }).await;
    let inputs = numbers(3);
    for way in WAYS {
        assert_eq!(way.send(&server, MODEL, &inputs).await, way.end(200, Code::Ok), "{way:?}");
        let seen = std::mem::take(&mut *notes.0.lock().expect("not poisoned"));
        let [(asked, Some(protocol), given), (answered, None, outputs)] = seen.as_slice() else {
            panic!("{way:?}: {seen:?}");
        };
        let expected = match way {
            Way::V1 => Protocol::V1,
            Way::V2 | Way::V2Binary => Protocol::V2,
            Way::Grpc | Way::Stream => Protocol::V2Grpc,
        };
        assert_eq!((asked, *protocol, given, outputs), (answered, expected, &inputs, &inputs), "{way:?}");
    }
    let unfit = Tensors::from_iter([("fp64", Tensor::from_slice::<f64>([0, 1], &[]).expect("empty"))]);
    assert_eq!(Way::Grpc.send(&server, MODEL, &unfit).await, End::Grpc(Code::InvalidArgument));
    let seen = std::mem::take(&mut *notes.0.lock().expect("not poisoned"));
    assert_eq!((seen.len(), seen[1].2.len()), (2, 0), "a refusal of the engine is seen too");
    assert_eq!(server.stop().await.cut, 0);
}
