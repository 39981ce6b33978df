//! Every way in which a request is refused, over every protocol: its log line and its span name the model that was asked for.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use corymb_proto::inference::{InferTensorContents, ModelMetadataRequest};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::SOON;
use crate::collector::{Collector, attribute};
use crate::harness::{LIMIT, Server, folder, root, send};

const MAX_BODY: usize = 64 << 10;

/// The ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    V1,
    V1Picture,
    V2,
    V2Binary,
    V2Picture,
    GrpcRaw,
    GrpcTyped,
    GrpcStream,
}

use Way::*;

const WAYS: [Way; 8] = [V1, V1Picture, V2, V2Binary, V2Picture, GrpcRaw, GrpcTyped, GrpcStream];
const REST: [Way; 5] = [V1, V1Picture, V2, V2Binary, V2Picture];

/// One request that is refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    what: &'static str,
    model: &'static str,
    /// Numbers of the input, of which the model takes two.
    numbers: usize,
    headers: &'static [(&'static str, &'static str)],
    /// How long the caller of gRPC waits.
    grpc_timeout: Option<Duration>,
    ways: &'static [Way],
}

const USUAL: Refused = Refused { what: "", model: "m", numbers: 2, headers: &[], grpc_timeout: None, ways: &WAYS };

/// A name that nobody should have to read, and what is shown of it.
const STRANGE: &str = "n\u{1b}\nä/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn shown(model: &str) -> String {
    let clean: String = model.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    let cut: String = clean.chars().take(128).collect();
    if cut == clean { clean } else { cut + "…" }
}

const REFUSALS: [Refused; 8] = [
    Refused { what: "an unknown model", model: "absent", ..USUAL },
    Refused { what: "a strange name", model: STRANGE, ..USUAL },
    Refused { what: "a model that was let go", model: "gone", ..USUAL },
    Refused { what: "wrong inputs", numbers: 3, ..USUAL },
    Refused { what: "a body that is too large", numbers: MAX_BODY / 4, ..USUAL },
    Refused {
        what: "no time left",
        headers: &[("x-request-timeout", "1us")],
        grpc_timeout: Some(Duration::from_nanos(1)),
        // A client of gRPC gives up by itself then, most often before the server has read whom it asks.
        ways: &REST,
        ..USUAL
    },
    Refused { what: "a time that is none", headers: &[("x-request-timeout", "soon")], ways: &REST, ..USUAL },
    Refused { what: "an unknown encoding", headers: &[("content-encoding", "br")], ways: &REST, ..USUAL },
];

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Refused {
    /// Whether it was refused.
    fn send(&self, server: &Server, way: Way, traceparent: &str) -> bool {
        let name = encoded(self.model);
        let floats = vec![1.0; self.numbers];
        let raw: Vec<u8> = vec![0; 4 * self.numbers];
        let v2 = |way: &str| format!("/v2/models/{name}/infer{way}");
        let rest = |path: &str, more: &[(&str, &str)], body: &[u8]| {
            let headers = [&[("traceparent", traceparent)], more, self.headers].concat();
            send(&server.url(path), "POST", &headers, body).status >= 400
        };
        let json = |data: Value| {
            let input = json!({"name": "x", "datatype": "FP32", "shape": [1, self.numbers]});
            let mut object = json!({"inputs": [input]});
            let name = if data.is_array() { "data" } else { "parameters" };
            object["inputs"][0][name] = data;
            object.to_string().into_bytes()
        };
        match way {
            V1 => {
                rest(&format!("/v1/models/{name}:predict"), &[], json!({"instances": [floats]}).to_string().as_bytes())
            }
            V1Picture => rest(&format!("/v1/models/{name}:predict"), &[("content-type", "image/png")], &raw),
            V2 => rest(&v2(""), &[], &json(json!(floats))),
            V2Binary => {
                let head = json(json!({"binary_data_size": raw.len()}));
                let length = head.len().to_string();
                rest(&v2(""), &[("inference-header-content-length", &length)], &[head, raw].concat())
            }
            V2Picture => rest(&v2("?query"), &[("content-type", "image/png")], &raw),
            GrpcRaw | GrpcTyped | GrpcStream => {
                let mut request = self.message(way == GrpcTyped);
                request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
                request.set_timeout(self.grpc_timeout.unwrap_or(LIMIT));
                grpc(server, request, way == GrpcStream)
            }
        }
    }

    fn message(&self, typed: bool) -> tonic::Request<ModelInferRequest> {
        let floats = vec![1.0; self.numbers];
        tonic::Request::new(ModelInferRequest {
            model_name: self.model.to_owned(),
            inputs: vec![InferInputTensor {
                name: "x".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, i64::try_from(self.numbers).expect("small")],
                contents: typed.then(|| InferTensorContents { fp32_contents: floats, ..Default::default() }),
                ..Default::default()
            }],
            raw_input_contents: if typed { Vec::new() } else { vec![vec![0; 4 * self.numbers].into()] },
            ..Default::default()
        })
    }
}

fn in_client<F: Future>(server: &Server, work: impl FnOnce(GrpcInferenceServiceClient<Channel>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(server.url("")).expect("a URL").connect().await.expect("connects");
        work(GrpcInferenceServiceClient::new(channel)).await
    })
}

fn grpc(server: &Server, request: tonic::Request<ModelInferRequest>, stream: bool) -> bool {
    in_client(server, |mut client| async move {
        if !stream {
            return client.model_infer(request).await.is_err();
        }
        let (metadata, extensions, message) = request.into_parts();
        let messages = tonic::Request::from_parts(metadata, extensions, futures::stream::iter([message]));
        match client.model_stream_infer(messages).await {
            Ok(answers) => match answers.into_inner().message().await {
                Ok(answer) => answer.is_some_and(|answer| !answer.error_message.is_empty()),
                Err(_) => true,
            },
            Err(_) => true,
        }
    })
}

fn models() -> tempfile::TempDir {
    let fixture = |path: &str| std::fs::read(root().join("tests/fixtures").join(path)).expect(path);
    let (identity, hostile) = (fixture("models/identity_fp32.onnx"), fixture("plugins/hostile.wasm"));
    folder(&[
        ("m/model.onnx", &identity),
        ("m/hostile.wasm", &hostile),
        ("m/model.toml", b"[plugin]\nfile = 'hostile.wasm'\n"),
        ("gone/model.onnx", &identity),
    ])
}

/// What was sent, by its trace: how, and the model that it named.
#[derive(Default)]
struct Sent(BTreeMap<String, (String, String)>);

impl Sent {
    /// The headers of the next one.
    fn next(&mut self, how: String, model: &str) -> String {
        let trace = format!("{:032x}", 0x1000 + self.0.len());
        let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
        self.0.insert(trace, (how, shown(model)));
        traceparent
    }

    fn refuse(&mut self, server: &Server, refused: &Refused) {
        for way in refused.ways {
            let how = format!("{}, {way:?}", refused.what);
            let traceparent = self.next(how.clone(), refused.model);
            assert!(refused.send(server, *way, &traceparent), "{how}: it was answered");
        }
    }

    /// URLs of a model that are refused by the router, or are no predictions.
    fn refuse_more(&mut self, server: &Server) {
        for (method, path, model) in [
            ("POST", "/v1/models/m:classify", "m"),
            ("POST", "/v1/models/m:unheard-of", "m"),
            ("POST", "/v1/models/m", "m"),
            ("GET", "/v2/models/m/infer", "m"),
            ("POST", "/v2/models/m/versions/7/infer", "m"),
            ("GET", "/v2/models/absent", "absent"),
            ("GET", "/v1/models/absent/metadata", "absent"),
            ("POST", "/v2/repository/models/absent/load", "absent"),
        ] {
            let traceparent = self.next(format!("{method} {path}"), model);
            let status = send(&server.url(path), method, &[("traceparent", &traceparent)], b"{}").status;
            assert!(status >= 400, "{method} {path}: {status}");
        }
        let traceparent = self.next("ModelMetadata".to_owned(), "absent");
        let mut question =
            tonic::Request::new(ModelMetadataRequest { name: "absent".to_owned(), version: String::new() });
        question.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
        in_client(server, |mut client| async move { client.model_metadata(question).await.expect_err("unknown") });
    }

    /// While one request has the only place: the name stands in the URL, or in the first bytes of a message that is not read.
    fn refuse_for_want_of_room(&mut self, server: &Server) {
        let traceparent = self.next("a caller that left".to_owned(), "m");
        let body = json!({"parameters": {"do": "loop", "timeout": 60_000_000},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]})
        .to_string();
        let mut holds = TcpStream::connect(&server.address).expect("connects");
        let length = body.len();
        let request = format!(
            "POST /v2/models/m/infer HTTP/1.1\r\nhost: here\r\ntraceparent: {traceparent}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        holds.write_all(request.as_bytes()).expect("sent");
        let page = || server.get("/metrics").text();
        while crate::signals::sample(&page(), "corymb_request_in_flight", &[r#"model="m""#]) != Some(1.0) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.refuse(server, &Refused { what: "no room", ..USUAL });
        self.refuse(server, &Refused { what: "no room for an unknown model", model: "absent", ..USUAL });
        drop(holds);
    }

    fn see(&self, models: &BTreeMap<String, Option<String>>, where_to: &str) {
        let wrong: Vec<String> = self
            .0
            .iter()
            .filter(|(trace, (_, model))| models.get(*trace).and_then(Option::as_ref) != Some(model))
            .map(|(trace, (how, model))| format!("{how}: {:?}, not {model}", models.get(trace)))
            .collect();
        assert!(wrong.is_empty(), "{where_to}, {} of {}:\n{}", wrong.len(), self.0.len(), wrong.join("\n"));
    }
}

#[test]
fn refused_requests_name_their_model() {
    let collector = Collector::start();
    let mut variables = Vec::from(SOON);
    variables.extend(collector.iter().map(|collector| ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http.as_str())));
    let models = models();
    let directory = models.path().to_string_lossy().into_owned();
    let max_body = MAX_BODY.to_string();
    let arguments = ["--model-dir", &directory, "--admin", "--max-body", &max_body, "--max-in-flight", "1"];
    let mut server = Server::start_with(&arguments, &variables);
    assert_eq!(server.post("/v2/repository/models/gone/unload", "application/json", b"").status, 200);
    let mut sent = Sent::default();
    REFUSALS.iter().for_each(|refused| sent.refuse(&server, refused));
    sent.refuse_more(&server);
    sent.refuse_for_want_of_room(&server);
    for (trace, (how, _)) in &sent.0 {
        let line = server.event(|event| event["trace_id"] == trace.as_str() && event["message"] == "request");
        assert_eq!(line["complete"] == true, how != "a caller that left", "{line}");
    }
    let page = server.get("/metrics").text();
    assert!(!page.contains("absent") && !page.contains("xxxx"), "names that were made up are in no series: {page}");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));

    let text = |value: &Value| value.as_str().map(str::to_owned);
    let lines = server.events().into_iter().filter(|event| event["message"] == "request");
    let lines = lines.filter_map(|event| Some((text(&event["trace_id"])?, text(&event["model"]))));
    sent.see(&lines.collect(), "lines of the log");
    let Some(collector) = collector else { return };
    let received = collector.received();
    let roots = received.spans().into_iter().filter(|span| span["parentSpanId"] == "00f067aa0ba902b7");
    let roots = roots.filter_map(|span| Some((text(&span["traceId"])?, attribute(span, "model"))));
    sent.see(&roots.collect(), "spans");
}
