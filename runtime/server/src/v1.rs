//! V1 REST: TensorFlow Serving's URLs and answers, with KServe's members beside them.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use corymb_core::{Code, DType, Dim, Error, Signature, TensorSpec};
use corymb_engine::{Protocol, State as VersionState, VersionStatus};
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::json::v1::{Form, decode, encode};
use crate::json::v2_reply::Encoded;
use crate::predict::{Decoded, Wire, predict};
use crate::raw;
use crate::routes::{Target, json_response, method_not_allowed};
use crate::status::ServerError;

/// `GET /v1/models`, as KServe answers it.
pub(crate) async fn list(State(app): State<App>) -> Response {
    // What was unloaded is there no more.
    let is_there = |status: &VersionStatus| status.state != VersionState::Gone;
    let models = app.engine.models().into_iter().filter(|model| model.versions.iter().any(is_there));
    let names: Vec<String> = models.map(|model| model.name).collect();
    json_response(StatusCode::OK, &json!({ "models": names }))
}

/// `GET /v1/models/M[/versions/V]`: one object with TensorFlow Serving's `model_version_status` and KServe's `name` and
/// `ready`. Its status is 503 while the model, or the version named, does not answer, as KServe has it.
pub(crate) async fn status(
    State(app): State<App>,
    target: Target,
    request: Request<Body>,
) -> Result<Response, ServerError> {
    let named = target.version.as_deref().unwrap_or(&target.model);
    if verb(named).is_some() {
        return Ok(method_not_allowed(request.method(), request.uri().path(), Some("POST")));
    }
    let target = serving(target);
    let model = app.engine.status(&target.model)?;
    let unready = app.engine.describe(&target.model, target.version.as_deref()).err();
    if let Some(error) = unready.as_ref().filter(|error| error.code() == Code::NotFound) {
        return Err(error.clone().into());
    }
    let versions = model.versions.iter().filter(|status| target.version.as_ref().is_none_or(|v| *v == status.version));
    let versions: Vec<Value> = versions.map(version_status).collect();
    let mut object = json!({ "name": model.name, "ready": unready.is_none(), "model_version_status": versions });
    match unready {
        None => Ok(json_response(StatusCode::OK, &object)),
        Some(error) => {
            object["error"] = error.to_string().into();
            Ok(json_response(StatusCode::SERVICE_UNAVAILABLE, &object))
        }
    }
}

/// The reason of a failure may name files of the server: it stands in the log.
fn version_status(status: &VersionStatus) -> Value {
    let (state, code, message) = match &status.state {
        VersionState::Loading | VersionState::WarmingUp => ("LOADING", "OK", ""),
        VersionState::Ready => ("AVAILABLE", "OK", ""),
        VersionState::Draining => ("UNLOADING", "OK", ""),
        VersionState::Gone => ("END", "OK", ""),
        VersionState::Failed(_) => ("END", "INTERNAL", "the version failed to load"),
    };
    let outcome = json!({ "error_code": code, "error_message": message });
    json!({ "version": status.version, "state": state, "status": outcome })
}

/// `GET /v1/models/M[/versions/V]/metadata`: TensorFlow Serving's `GetModelMetadata`.
pub(crate) async fn metadata(State(app): State<App>, target: Target) -> Result<Response, ServerError> {
    let target = serving(target);
    let model = app.engine.describe(&target.model, target.version.as_deref())?;
    let signature = json!({
        "inputs": tensor_infos(&model.signature.inputs),
        "outputs": tensor_infos(&model.signature.outputs),
        "method_name": "tensorflow/serving/predict",
    });
    let object = json!({
        "model_spec": { "name": model.name, "signature_name": "", "version": model.version },
        "metadata": { "signature_def": { "signature_def": { "serving_default": signature } } },
    });
    Ok(json_response(StatusCode::OK, &object))
}

fn tensor_infos(specs: &[TensorSpec]) -> Map<String, Value> {
    specs.iter().map(|spec| (spec.name.clone(), tensor_info(spec))).collect()
}

fn tensor_info(spec: &TensorSpec) -> Value {
    let dims = spec.shape.iter().map(|dim| {
        // int64 is text in protobuf's JSON.
        let (size, name) = match dim {
            Dim::Fixed(size) => (size.to_string(), ""),
            Dim::Symbol(name) => ("-1".to_owned(), &**name),
            Dim::Unknown => ("-1".to_owned(), ""),
        };
        json!({ "size": size, "name": name })
    });
    let shape = json!({ "dim": dims.collect::<Vec<_>>(), "unknown_rank": false });
    json!({ "dtype": tensorflow_name(spec.dtype), "tensor_shape": shape, "name": spec.name })
}

fn tensorflow_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::Uint8 => "DT_UINT8",
        DType::Uint16 => "DT_UINT16",
        DType::Uint32 => "DT_UINT32",
        DType::Uint64 => "DT_UINT64",
        DType::Int8 => "DT_INT8",
        DType::Int16 => "DT_INT16",
        DType::Int32 => "DT_INT32",
        DType::Int64 => "DT_INT64",
        DType::Fp16 => "DT_HALF",
        DType::Bf16 => "DT_BFLOAT16",
        DType::Fp32 => "DT_FLOAT",
        DType::Fp64 => "DT_DOUBLE",
        DType::Bytes => "DT_STRING",
    }
}

/// `POST /v1/models/M[/versions/V]:predict`, and the verbs that are known but not offered.
pub(crate) async fn act(
    State(app): State<App>,
    mut target: Target,
    request: Request<Body>,
) -> Result<Response, ServerError> {
    let last = target.version.as_mut().unwrap_or(&mut target.model);
    let verb = verb(last).map(|(name, verb)| (name.to_owned(), verb.to_owned()));
    let Some((name, verb)) = verb else {
        return Ok(method_not_allowed(request.method(), request.uri().path(), Some("GET,HEAD")));
    };
    match verb.as_str() {
        "predict" => {
            *last = name;
            predict::<V1>(&app, &serving(target), request).await
        }
        "classify" | "regress" | "explain" => {
            Err(ServerError::unimplemented(format!("':{verb}' is not supported; use ':predict'")))
        }
        _ => Err(ServerError::not_found(format!("no such method ':{verb}'; there is ':predict'"))),
    }
}

/// `m:predict` as `m` and `predict`.
fn verb(segment: &str) -> Option<(&str, &str)> {
    segment.rsplit_once(':')
}

/// Version 0 is how TensorFlow Serving's clients say "the latest".
fn serving(target: Target) -> Target {
    let version = target.version.filter(|version| version != "0" && version != "latest");
    Target { version, ..target }
}

struct V1;

impl Wire for V1 {
    const PROTOCOL: Protocol = Protocol::V1;
    type Ask = Form;

    fn decode(signature: &Signature, headers: &HeaderMap, body: &Bytes) -> Result<Decoded<Form>, Error> {
        if raw::is_picture(headers, body) {
            return Ok(Decoded::of(raw::inputs(signature, body)?, Form::Rows(1)));
        }
        let (inputs, form) = decode(signature, body)?;
        Ok(Decoded::of(inputs, form))
    }

    fn encode(signature: &Signature, form: &Form, response: &corymb_core::Response) -> Result<Encoded, Error> {
        Ok(Encoded { body: encode(signature, *form, &response.outputs)?, json_len: None })
    }
}
