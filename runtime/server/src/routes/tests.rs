//! The REST surface as a client sees it, on engines whose models are a few lines each.

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use corymb_core::{
    Availability, Backend, BackendError, DType, Device, Dim, Instance, LoadOptions, Model, ModelFiles, ModelInfo,
    Profile, RowAnalysis, RunOptions, Signature, Tensor, TensorSpec, Tensors,
};
use corymb_engine::{Engine, EngineOptions};
use corymb_listener::Drain;
use corymb_repository::{ModelFolder, embedded};
use corymb_wire::raw::JSON_LENGTH;
use http::HeaderValue;
use http::header::{ALLOW, CONTENT_TYPE};
use opentelemetry::metrics::noop::NoopMeterProvider;
use serde_json::{Value, json};

use super::rest::router;
use super::*;
use crate::ServerOptions;

type Run = fn(&Tensors) -> Tensors;

/// A model that is a signature and a function.
#[derive(Clone)]
struct Fake {
    signature: Signature,
    run: Run,
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: "1".into(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, _: &ModelFiles, _: &LoadOptions) -> Result<ModelInfo, BackendError> {
        let signature = self.signature.clone();
        Ok(ModelInfo {
            platform: "onnx_onnxv1",
            opset: Some(17),
            size: 1,
            signature,
            rows: RowAnalysis::default(),
            unsupported: Vec::new(),
        })
    }

    fn load(&self, _: &ModelFiles, _: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        Ok(Box::new(self.clone()))
    }
}

impl Model for Fake {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        Profile::whole()
    }

    fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(self.clone()))
    }
}

impl Instance for Fake {
    fn run(&mut self, batch: &[Tensors], _: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        Ok(batch.iter().map(self.run).collect())
    }
}

fn spec(name: &str, dtype: DType, tail: &[usize]) -> TensorSpec {
    let mut shape = vec![Dim::Symbol("N".into())];
    shape.extend(tail.iter().map(|size| Dim::Fixed(*size)));
    TensorSpec::new(name, dtype, shape)
}

/// Scores the first byte of each picture, and gives back its key.
fn flowers() -> Fake {
    let mut key = spec("key", DType::Bytes, &[]);
    key.optional = true;
    let run = |inputs: &Tensors| {
        let pictures = inputs.get("image_bytes").and_then(Tensor::elements).expect("checked");
        let rows = pictures.len();
        let scores: Vec<f32> = pictures.iter().flat_map(|picture| [f32::from(picture[0]) / 256.0, 0.5]).collect();
        let keys = inputs.get("key").and_then(Tensor::elements).map_or(vec![Bytes::new(); rows], <[Bytes]>::to_vec);
        Tensors::from_iter([
            ("scores", Tensor::from_slice([rows, 2], &scores).expect("valid")),
            ("prediction", Tensor::from_slice([rows], &vec![0_i64; rows]).expect("valid")),
            ("key", Tensor::from_elements([rows], keys).expect("valid")),
        ])
    };
    let outputs =
        vec![spec("scores", DType::Fp32, &[2]), spec("prediction", DType::Int64, &[]), spec("key", DType::Bytes, &[])];
    Fake { signature: Signature { inputs: vec![spec("image_bytes", DType::Bytes, &[]), key], outputs }, run }
}

/// Doubles `x`.
fn doubler() -> Fake {
    let run = |inputs: &Tensors| {
        let x = inputs.get("x").expect("checked");
        let y: Vec<f32> = x.as_slice::<f32>().expect("checked").iter().map(|x| x * 2.0).collect();
        Tensors::from_iter([("y", Tensor::from_slice(x.shape(), &y).expect("valid"))])
    };
    let signature =
        Signature { inputs: vec![spec("x", DType::Fp32, &[2])], outputs: vec![spec("y", DType::Fp32, &[2])] };
    Fake { signature, run }
}

fn folder(name: &str) -> ModelFolder {
    embedded(name, &[("model.onnx", Bytes::from_static(b"x"))]).expect("valid")
}

fn engine(fake: Fake) -> Engine {
    let options = EngineOptions { workers: 1, ..EngineOptions::default() };
    Engine::new(options, vec![Arc::new(fake)], None, Arc::new(NoopMeterProvider::new())).expect("threads")
}

async fn serving(fake: Fake) -> Router {
    let engine = engine(fake);
    engine.load(folder("m")).await.expect("loads");
    router(App::new(engine, ServerOptions::default(), Drain::new()))
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    fn json(&self) -> Value {
        assert_eq!(self.headers[CONTENT_TYPE], "application/json");
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

async fn send(router: &Router, method: &str, url: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(body.into()).expect("valid")).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn get_url(router: &Router, url: &str) -> Answer {
    send(router, "GET", url, &[], Body::empty()).await
}

async fn post_to(router: &Router, url: &str, body: impl Into<Body>) -> Answer {
    send(router, "POST", url, &[], body).await
}

#[tokio::test]
async fn the_flowers_sample_is_answered() {
    let router = serving(flowers()).await;
    let body = r#"{"instances":[{"image_bytes":{"b64":"/9g="},"key":"   1"}]}"#;
    let expected = r#"{"predictions":[{"scores":[0.99609375,0.5],"prediction":0,"key":"   1"}]}"#;
    for url in ["/v1/models/m:predict", "/v1/models/m/versions/1:predict", "/v1/models/m/versions/0:predict?a=b"] {
        // What `hey` sends.
        let answer = send(&router, "POST", url, &[("content-type", "text/html")], body).await;
        assert_eq!((answer.status, answer.text()), (200, expected), "{url}");
        assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    }
    let columns = r#"{"inputs":{"image_bytes":[{"b64":"/9g="}],"key":["   1"]}}"#;
    let expected = r#"{"outputs":{"scores":[[0.99609375,0.5]],"prediction":[0],"key":["   1"]}}"#;
    assert_eq!(post_to(&router, "/v1/models/m:predict", columns).await.text(), expected);
}

#[tokio::test]
async fn a_picture_is_a_request() {
    let router = serving(flowers()).await;
    let jpeg = &b"\xff\xd8\xff\xe0"[..];
    let expected = r#"{"predictions":[{"scores":[0.99609375,0.5],"prediction":0,"key":""}]}"#;
    for content_type in ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded"] {
        let headers = [("content-type", content_type)];
        let answer = send(&router, "POST", "/v1/models/m:predict", &headers, jpeg).await;
        assert_eq!((answer.status, answer.text()), (200, expected), "{content_type}");
    }
    let answer = send(&router, "POST", "/v2/models/m/infer", &[("content-type", "image/png")], jpeg).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([0.996_093_75, 0.5]));

    let router = serving(doubler()).await;
    let answer = post_to(&router, "/v2/models/m/infer", jpeg).await;
    assert_eq!(answer.status, 415);
    assert!(answer.json()["error"].as_str().expect("a text").ends_with("this one takes 'x' FP32 [N,2]"));
}

#[tokio::test]
async fn v2_answers_as_it_is_asked() {
    let router = serving(doubler()).await;
    let body = r#"{"id":"7","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2.5]}]}"#;
    let answer = post_to(&router, "/v2/models/m/infer", body).await;
    let expected = concat!(
        r#"{"id":"7","model_name":"m","model_version":"1","#,
        r#""outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[2.0,5.0]}]}"#
    );
    assert_eq!((answer.status, answer.text()), (200, expected));
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");

    // Binary in and out, unasked for JSON.
    let json = concat!(
        r#"{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","#,
        r#""parameters":{"binary_data_size":8}}]}"#
    );
    let mut body = json.as_bytes().to_vec();
    body.extend_from_slice(bytemuck::cast_slice(&[1.0_f32, 2.5]));
    let length = json.len().to_string();
    let headers = [(JSON_LENGTH.as_str(), length.as_str())];
    let answer = send(&router, "POST", "/v2/models/m/versions/1/infer", &headers, body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.headers[CONTENT_TYPE], "application/octet-stream");
    let json_len: usize = answer.headers[&JSON_LENGTH].to_str().expect("ASCII").parse().expect("a number");
    assert_eq!(answer.body[json_len..], *bytemuck::cast_slice::<f32, u8>(&[2.0, 5.0]));

    // Nothing but the data.
    let raw: Vec<u8> = bytemuck::cast_slice(&[1.0_f32, 2.5, 3.0, 4.0]).to_vec();
    let answer = send(&router, "POST", "/v2/models/m/infer", &[(JSON_LENGTH.as_str(), "0")], raw).await;
    let json_len: usize = answer.headers[&JSON_LENGTH].to_str().expect("ASCII").parse().expect("a number");
    assert_eq!(answer.body[json_len..], *bytemuck::cast_slice::<f32, u8>(&[2.0, 5.0, 6.0, 8.0]));

    let answer = send(&router, "POST", "/v2/models/m/infer", &[(JSON_LENGTH.as_str(), "9")], "{}").await;
    assert_eq!(answer.status, 400);
    let expected =
        json!({ "error": "header inference-header-content-length is '9'; expected 0 to 2, the body's length" });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn large_bodies_take_the_compute_pool() {
    let router = serving(doubler()).await;
    let rows = vec!["[1.25,-2.5]"; 50_000].join(",");
    let answer = post_to(&router, "/v1/models/m:predict", format!("{{\"instances\":[{rows}]}}")).await;
    assert_eq!(answer.status, 200);
    let expected = format!("{{\"predictions\":[{}]}}", vec!["[2.5,-5.0]"; 50_000].join(","));
    assert!(answer.text() == expected);
    let answer = post_to(&router, "/v1/models/m:predict", format!("{{\"instances\":[{rows},[1,]]}}")).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn refusals_have_their_status_and_text() {
    let router = serving(doubler()).await;
    let x = r#"{"instances":[[1,2]]}"#;
    let cases = [
        (
            "/v1/models/m:predict",
            r#"{"instances":[[1,2,3]]}"#,
            400,
            "model 'm': input 'x' has shape [1,3]; expected [N,2]",
        ),
        (
            "/v1/models/m:predict",
            r#"{"instances":[[1,"a"]]}"#,
            400,
            "instance 0, input 'x'[1]: expected FP32, found a text",
        ),
        ("/v1/models/m:predict", "", 400, "the body is empty; expected JSON"),
        ("/v1/models/m:classify", x, 501, "':classify' is not supported; use ':predict'"),
        ("/v1/models/m:guess", x, 404, "no such method ':guess'; there is ':predict'"),
        ("/v1/models/n:predict", x, 404, "unknown model 'n'; served are 'm'"),
        ("/v1/models/m/versions/2:predict", x, 404, "model 'm' has no version '2'; it has '1'"),
        ("/v2/models/n/infer", "{}", 404, "unknown model 'n'; served are 'm'"),
        ("/v2/models/m/infer", "{}", 400, "`inputs` is missing"),
        ("/v2/models/%ff/infer", "{}", 404, "no such URL: a name in it is not valid UTF-8"),
    ];
    for (url, body, status, message) in cases {
        let answer = post_to(&router, url, body).await;
        assert_eq!((answer.status, answer.json()), (status, json!({ "error": message })), "{url} {body}");
    }
    let answer = send(&router, "POST", "/v1/models/m:predict", &[("x-request-timeout", "5")], x).await;
    assert_eq!(answer.status, 400);
    // Names are percent-decoded.
    assert_eq!(post_to(&router, "/v1/models/%6d:predict", x).await.status, 200);
}

#[tokio::test]
async fn unknown_urls_and_wrong_methods_are_answered_in_json() {
    let router = serving(doubler()).await;
    for url in ["/x", "/v1/models/", "/v2/", "/v2/models/m/", "//", "/V2", "/v2/models"] {
        let answer = get_url(&router, url).await;
        assert_eq!(answer.status, 404, "{url}");
        let message = answer.json()["error"].as_str().expect("a text").to_owned();
        assert!(message.starts_with(&format!("no such URL '{url}'; ")), "{message}");
    }
    let cases = [
        ("GET", "/v1/models/m:predict", "POST"),
        ("GET", "/v1/models/m/versions/1:predict", "POST"),
        ("POST", "/v1/models/m", "GET,HEAD"),
        ("DELETE", "/v1/models/m", "GET,HEAD,POST"),
        ("GET", "/v2/models/m/infer", "POST"),
        ("POST", "/v2/health/live", "GET,HEAD"),
        ("POST", "/", "GET,HEAD"),
    ];
    for (method, url, allow) in cases {
        let answer = send(&router, method, url, &[], Body::empty()).await;
        assert_eq!((answer.status, &answer.headers[ALLOW]), (405, &HeaderValue::from_static(allow)), "{method} {url}");
        assert_eq!(answer.json(), json!({ "error": format!("method {method} is not allowed for '{url}'") }));
    }
    for url in ["/", "/v2/health/live", "/v2/health/ready", "/v1/models/m", "/v2/models/m/ready"] {
        let answer = send(&router, "HEAD", url, &[], Body::empty()).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{url}");
    }
}

#[tokio::test]
async fn health_and_metadata_are_what_clients_parse() {
    let router = serving(flowers()).await;
    assert_eq!(get_url(&router, "/").await.text(), r#"{"status":"alive"}"#);
    assert_eq!(get_url(&router, "/v1/models").await.json(), json!({ "models": ["m"] }));
    assert_eq!(get_url(&router, "/v2/health/live").await.text(), r#"{"live":true}"#);
    assert_eq!(get_url(&router, "/v2/health/ready?x").await.text(), r#"{"ready":true}"#);
    assert_eq!(get_url(&router, "/v2/models/m/ready").await.json(), json!({ "name": "m", "ready": true }));
    assert_eq!(get_url(&router, "/v2").await.json()["name"], "corymb");

    let available = json!([{
        "version": "1", "state": "AVAILABLE", "status": { "error_code": "OK", "error_message": "" }
    }]);
    let expected = json!({ "name": "m", "ready": true, "model_version_status": available });
    for url in ["/v1/models/m", "/v1/models/m/versions/1", "/v1/models/m/versions/0"] {
        assert_eq!(get_url(&router, url).await.json(), expected, "{url}");
    }
    assert_eq!(get_url(&router, "/v1/models/m/versions/9").await.status, 404);
    assert_eq!(get_url(&router, "/v1/models/n").await.status, 404);
    assert_eq!(get_url(&router, "/v2/models/m/versions/9/ready").await.status, 404);

    let metadata = get_url(&router, "/v1/models/m/metadata").await.json();
    assert_eq!(metadata["model_spec"], json!({ "name": "m", "signature_name": "", "version": "1" }));
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    let dims = json!([{ "size": "-1", "name": "N" }, { "size": "2", "name": "" }]);
    let scores =
        json!({ "dtype": "DT_FLOAT", "tensor_shape": { "dim": dims, "unknown_rank": false }, "name": "scores" });
    assert_eq!(signature["outputs"]["scores"], scores);
    assert_eq!(signature["inputs"]["image_bytes"]["dtype"], "DT_STRING");

    let metadata = get_url(&router, "/v2/models/m").await.json();
    assert_eq!(metadata["versions"], json!(["1"]));
    let inputs = json!([
        { "name": "image_bytes", "datatype": "BYTES", "shape": [-1] },
        { "name": "key", "datatype": "BYTES", "shape": [-1], "parameters": { "optional": true } },
    ]);
    assert_eq!(metadata["inputs"], inputs);
    assert_eq!(metadata["outputs"][0], json!({ "name": "scores", "datatype": "FP32", "shape": [-1, 2] }));
    let rows = "the graph was not looked at";
    let choice = "the best that is usable";
    let mut parameters =
        json!({ "backend": "fake", "device": "cpu", "choice": choice, "rows": "unknown", "rows_advice": rows });
    (parameters["max_batch_size"], parameters["instances"]) = (json!("1"), json!("1"));
    assert_eq!(metadata["parameters"], parameters);
    assert_eq!(get_url(&router, "/v2/models/m/versions/1").await.json(), metadata);

    let index = json!([{ "name": "m", "version": "1", "state": "READY", "reason": "" }]);
    for body in ["", "{}", r#"{"ready":true}"#] {
        assert_eq!(post_to(&router, "/v2/repository/index", body).await.json(), index, "{body}");
    }
    assert_eq!(post_to(&router, "/v2/repository/index", "{").await.status, 400);
}

#[tokio::test]
async fn a_loading_model_is_there_but_not_ready() {
    let engine = engine(doubler());
    engine.announce(&[folder("m")]);
    let router = router(App::new(engine.clone(), ServerOptions::default(), Drain::new()));
    let answer = get_url(&router, "/v1/models/m").await;
    let expected = json!({
        "name": "m",
        "ready": false,
        "model_version_status": [{
            "version": "1", "state": "LOADING", "status": { "error_code": "OK", "error_message": "" }
        }],
        "error": "model 'm' is not ready: it is loading",
    });
    assert_eq!((answer.status, answer.json()), (503, expected));
    let answer = get_url(&router, "/v2/health/ready").await;
    assert_eq!((answer.status, answer.json()["ready"].clone()), (503, json!(false)));
    let answer = get_url(&router, "/v2/models/m/ready").await;
    assert_eq!((answer.status, answer.json()["ready"].clone()), (503, json!(false)));
    assert_eq!(get_url(&router, "/v2/health/live").await.status, 200);
    let x = r#"{"instances":[[1,2]]}"#;
    assert_eq!(post_to(&router, "/v1/models/m:predict", x).await.status, 503);
    let index = post_to(&router, "/v2/repository/index", "{}").await.json();
    assert_eq!(index, json!([{ "name": "m", "version": "1", "state": "LOADING", "reason": "" }]));
    assert_eq!(post_to(&router, "/v2/repository/index", r#"{"ready":true}"#).await.json(), json!([]));

    // Whoever says how long it waits is kept waiting for it.
    let waiting = tokio::spawn(async move {
        let headers = [("x-request-timeout", "60s")];
        send(&router, "POST", "/v1/models/m:predict", &headers, x).await
    });
    engine.load(folder("m")).await.expect("loads");
    assert_eq!(waiting.await.expect("no panic").text(), r#"{"predictions":[[2.0,4.0]]}"#);
}

#[test]
fn the_short_way_finds_what_the_router_finds() {
    let target = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("valid");
        Target::of_v2_infer(&request).map(|target| (target.model, target.version))
    };
    let named = |model: &str, version: Option<&str>| Some((model.to_owned(), version.map(str::to_owned)));
    assert_eq!(target("POST", "/v2/models/m/infer"), named("m", None));
    assert_eq!(target("POST", "/v2/models/m/infer?query"), named("m", None));
    assert_eq!(target("POST", "/v2/models/m/versions/3/infer"), named("m", Some("3")));
    assert_eq!(target("POST", "/v2/models/versions/infer"), named("versions", None));
    for others in [
        "/v2/models//infer",
        "/v2/models/m%20n/infer",
        "/v2/models/m/n/infer",
        "/v2/models/m/versions//infer",
        "/v2/models/m/versions/3/4/infer",
        "/v2/models/m/infer/",
        "/v2/models/m",
        "/v2/models/infer",
    ] {
        assert_eq!(target("POST", others), None, "{others}");
    }
    assert_eq!(target("GET", "/v2/models/m/infer"), None);
}

#[tokio::test]
async fn what_holds_a_request_stays_small() {
    let engine = crate::fake::engine(EngineOptions::default()).await;
    let routes = Routes::new(&App::new(engine, ServerOptions::default(), Drain::new()));
    // It is copied on its way to the task that drives it. Wrappers that held what they wrap twice once made it 88 KB.
    let size = size_of_val(&routes.answer(Request::new(Body::empty()), None));
    assert!(size <= 24 << 10, "{size} bytes");
}
