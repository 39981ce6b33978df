//! Liveness and readiness by REST.

use axum::extract::State;
use axum::response::Response;
use corymb_core::Code;
use http::StatusCode;
use serde_json::json;

use crate::app::App;
use crate::reply::json_response;
use crate::status::ServerError;
use crate::target::Target;

/// `GET /`: V1's liveness, as KServe's client asks for it.
pub(crate) async fn alive() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "alive" }))
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
        // A request would be answered, once it is loaded.
        Err(_) if app.would_load(&target.model) => {
            Ok(json_response(StatusCode::OK, &json!({ "name": target.model, "ready": true })))
        }
        Err(error) => {
            let reason = match app.load_failure(&target.model) {
                Some(failure) => failure.message,
                None if error.code() == Code::NotFound => return Err(error.into()),
                None => error.to_string(),
            };
            let object = json!({ "name": target.model, "ready": false, "error": reason });
            Ok(json_response(StatusCode::SERVICE_UNAVAILABLE, &object))
        }
    }
}
