//! V2's metadata of the server and of its models.

use axum::extract::State;
use axum::response::Response;
use corymb_wire::v2::encode_spec;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::app::{App, EXTENSIONS, NAME};
use crate::reply::json_response;
use crate::status::ServerError;
use crate::target::Target;

/// `GET /v2`.
pub(crate) async fn server(State(app): State<App>) -> Response {
    let object = json!({ "name": NAME, "version": app.options.version, "extensions": EXTENSIONS });
    json_response(StatusCode::OK, &object)
}

/// `GET /v2/models/M[/versions/V]`. What the protocol has no member for stands in `parameters`.
pub(crate) async fn metadata(
    State(app): State<App>,
    headers: HeaderMap,
    target: Target,
) -> Result<Response, ServerError> {
    let _waiting = app.loaded_in_time(&target.model, &headers).await?;
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
        "inputs": model.signature.inputs.iter().map(encode_spec).collect::<Vec<_>>(),
        "outputs": model.signature.outputs.iter().map(encode_spec).collect::<Vec<_>>(),
        "parameters": parameters,
    });
    Ok(json_response(StatusCode::OK, &object))
}
