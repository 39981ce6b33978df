//! V1's status and metadata: TensorFlow Serving's answers, with KServe's members beside them.

use axum::extract::State;
use axum::response::Response;
use corymb_core::{Code, DType, Dim, TensorSpec};
use corymb_engine::{State as VersionState, VersionStatus};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::reply::json_response;
use crate::status::ServerError;
use crate::target::Target;

/// `GET /v1/models`, as KServe answers it.
pub(crate) async fn list(State(app): State<App>) -> Response {
    // What was unloaded is there no more.
    let is_there = |status: &VersionStatus| status.state != VersionState::Gone;
    let models = app.engine.models().into_iter();
    let models = models.filter(|model| app.would_load(&model.name) || model.versions.iter().any(is_there));
    let names: Vec<String> = models.map(|model| model.name).collect();
    json_response(StatusCode::OK, &json!({ "models": names }))
}

/// `GET /v1/models/M[/versions/V]`: one object with TensorFlow Serving's `model_version_status` and KServe's `name` and
/// `ready`. Its status is 503 while the model, or the version named, does not answer, as KServe has it.
pub(crate) fn status(app: &App, target: Target) -> Result<Response, ServerError> {
    let target = target.of_v1();
    let model = app.engine.status(&target.model)?;
    let unready = app.engine.describe(&target.model, target.version.as_deref()).err();
    let unready = unready.filter(|_| !app.would_load(&target.model));
    let failure = app.load_failure(&target.model);
    if let Some(error) = unready.as_ref().filter(|error| error.code() == Code::NotFound && failure.is_none()) {
        return Err(error.clone().into());
    }
    let versions = model.versions.iter().filter(|status| target.version.as_ref().is_none_or(|v| *v == status.version));
    let versions: Vec<Value> = versions.map(version_status).collect();
    let mut object = json!({ "name": model.name, "ready": unready.is_none(), "model_version_status": versions });
    match unready {
        None => Ok(json_response(StatusCode::OK, &object)),
        Some(error) => {
            object["error"] = failure.map_or_else(|| error.to_string(), |failure| failure.message).into();
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
pub(crate) async fn metadata(
    State(app): State<App>,
    headers: HeaderMap,
    target: Target,
) -> Result<Response, ServerError> {
    let target = target.of_v1();
    let _waiting = app.loaded_in_time(&target.model, &headers).await?;
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
