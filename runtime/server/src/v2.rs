//! V2 REST: the Open Inference Protocol's URLs.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use corymb_core::{Code, Error, Signature, TensorSpec};
use corymb_engine::Protocol;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, EXTENSIONS, NAME};
use crate::binary::{self, Parts};
use crate::json::v2::{Ask, decode};
use crate::json::v2_reply::{Encoded, encode};
use crate::predict::{self, Decoded, Wire};
use crate::raw;
use crate::routes::{Target, json_response};
use crate::status::ServerError;

/// `GET /v2`.
pub(crate) async fn server(State(app): State<App>) -> Response {
    let object = json!({ "name": NAME, "version": app.options.version, "extensions": EXTENSIONS });
    json_response(StatusCode::OK, &object)
}

/// `GET /v2/health/live`: whoever can answer lives.
pub(crate) async fn live() -> Response {
    json_response(StatusCode::OK, &json!({ "live": true }))
}

/// `GET /v2/health/ready`. Triton's clients read the status, KServe's the body.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    if app.ready() {
        return json_response(StatusCode::OK, &json!({ "ready": true }));
    }
    let object = json!({ "ready": false, "error": "the server is not ready" });
    json_response(StatusCode::SERVICE_UNAVAILABLE, &object)
}

/// `GET /v2/models/M[/versions/V]/ready`: 503 while it does not answer.
pub(crate) async fn model_ready(State(app): State<App>, target: Target) -> Result<Response, ServerError> {
    match app.engine.describe(&target.model, target.version.as_deref()) {
        Ok(model) => Ok(json_response(StatusCode::OK, &json!({ "name": model.name, "ready": true }))),
        Err(error) if error.code() == Code::NotFound => Err(error.into()),
        Err(error) => {
            let object = json!({ "name": target.model, "ready": false, "error": error.to_string() });
            Ok(json_response(StatusCode::SERVICE_UNAVAILABLE, &object))
        }
    }
}

/// `GET /v2/models/M[/versions/V]`. What the protocol has no member for stands in `parameters`.
pub(crate) async fn metadata(State(app): State<App>, target: Target) -> Result<Response, ServerError> {
    let model = app.engine.describe(&target.model, target.version.as_deref())?;
    let mut parameters = json!({ "backend": model.backend, "device": model.device });
    for (name, words) in model.remarks {
        parameters[name] = words.into();
    }
    if !model.shares.is_empty() {
        parameters["weights"] = model.shares.into_iter().collect::<Value>();
    }
    let object = json!({
        "name": model.name,
        "versions": model.versions,
        "platform": model.platform,
        "inputs": model.signature.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": model.signature.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "parameters": parameters,
    });
    Ok(json_response(StatusCode::OK, &object))
}

fn tensor(spec: &TensorSpec) -> Value {
    let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    let shape: Vec<i64> = spec.shape.iter().map(|dim| dim.fixed().map_or(-1, size)).collect();
    let mut object = json!({ "name": spec.name, "datatype": spec.dtype.name(), "shape": shape });
    if spec.optional {
        object["parameters"]["optional"] = true.into();
    }
    if let Some(media_type) = &spec.media_type {
        object["parameters"]["media_type"] = media_type.as_str().into();
    }
    object
}

/// `POST /v2/models/M[/versions/V]/infer`.
pub(crate) async fn infer(State(app): State<App>, target: Target, request: Request<Body>) -> Response {
    predict(&app, &target, request).await
}

/// The same for who has no router.
pub(crate) async fn predict(app: &App, target: &Target, request: Request<Body>) -> Response {
    predict::predict::<V2>(app, target, request).await.into_response()
}

struct V2;

impl Wire for V2 {
    const PROTOCOL: Protocol = Protocol::V2;
    type Ask = Ask;

    fn decode(signature: &Signature, headers: &HeaderMap, body: &Bytes) -> Result<Decoded<Ask>, Error> {
        if raw::is_picture(headers, body) {
            return Ok(Decoded::of(raw::inputs(signature, body)?, Ask::default()));
        }
        match binary::split(headers, body)? {
            // Whoever sends bytes alone reads bytes.
            Parts::Raw(body) => {
                let input = binary::raw_input(signature, &body)?;
                Ok(Decoded::of([input].into_iter().collect(), Ask { binary: true, ..Ask::default() }))
            }
            Parts::Json(json, binary) => {
                let request = decode(signature, &json, &binary)?;
                Ok(Decoded {
                    id: request.ask.id.clone(),
                    inputs: request.inputs,
                    parameters: request.parameters,
                    outputs: request.ask.outputs.iter().map(|output| output.name.clone()).collect(),
                    timeout: request.timeout,
                    ask: request.ask,
                })
            }
        }
    }

    fn encode(_: &Signature, ask: &Ask, response: &corymb_core::Response) -> Result<Encoded, Error> {
        encode(ask, response)
    }
}
