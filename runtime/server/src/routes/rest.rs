//! Every REST URL, and what is answered where there is none.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::Request;

use crate::app::App;
use crate::reply::{method_not_allowed, shortened};
use crate::status::ServerError;
use crate::target::Target;
use crate::{admin, health, metadata, predict};

/// All of V1 and V2. Query strings are ignored, and so are content types, except where a picture is the body.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(health::rest::alive))
        .route("/v1/models", get(metadata::v1::list))
        .route("/v1/models/{model}", get(v1_status).post(v1_act))
        .route("/v1/models/{model}/metadata", get(metadata::v1::metadata))
        .route("/v1/models/{model}/versions/{version}", get(v1_status).post(v1_act))
        .route("/v1/models/{model}/versions/{version}/metadata", get(metadata::v1::metadata))
        .route("/v2", get(metadata::v2::server))
        .route("/v2/health/live", get(health::rest::live))
        .route("/v2/health/ready", get(health::rest::ready))
        .route("/v2/repository/index", post(admin::rest::repository_index))
        .route("/v2/repository/models/{model}/load", post(admin::rest::model_load))
        .route("/v2/repository/models/{model}/unload", post(admin::rest::model_unload))
        .route("/v2/models/{model}", get(metadata::v2::metadata))
        .route("/v2/models/{model}/ready", get(health::rest::model_ready))
        .route("/v2/models/{model}/infer", post(v2_infer))
        .route("/v2/models/{model}/versions/{version}", get(metadata::v2::metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(health::rest::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(v2_infer))
        .fallback(no_such_url)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// `GET` of a model's status; the URLs with a verb take `POST` only.
async fn v1_status(State(app): State<App>, target: Target, request: Request<Body>) -> Result<Response, ServerError> {
    let named = target.version.as_deref().unwrap_or(&target.model);
    if verb(named).is_some() {
        return Ok(method_not_allowed(request.method(), request.uri().path(), Some("POST")));
    }
    metadata::v1::status(&app, target)
}

/// `POST /v1/models/M[/versions/V]:predict`, and the verbs that are known but not offered.
async fn v1_act(State(app): State<App>, mut target: Target, request: Request<Body>) -> Response {
    let last = target.version.as_mut().unwrap_or(&mut target.model);
    let verb = verb(last).map(|(name, verb)| (name.to_owned(), verb.to_owned()));
    let Some((name, verb)) = verb else {
        return method_not_allowed(request.method(), request.uri().path(), Some("GET,HEAD"));
    };
    match verb.as_str() {
        "predict" => {
            *last = name;
            predict::v1(&app, target, request).await
        }
        "classify" | "regress" | "explain" => {
            ServerError::unimplemented(format!("':{verb}' is not supported; use ':predict'")).into_response()
        }
        _ => ServerError::not_found(format!("no such method ':{verb}'; there is ':predict'")).into_response(),
    }
}

/// `m:predict` as `m` and `predict`.
fn verb(segment: &str) -> Option<(&str, &str)> {
    segment.rsplit_once(':')
}

async fn v2_infer(State(app): State<App>, target: Target, request: Request<Body>) -> Response {
    predict::v2(&app, target, request).await
}

async fn no_such_url(request: Request<Body>) -> ServerError {
    let path = request.uri().path();
    ServerError::not_found(format!(
        "no such URL '{}'; predictions are made at /v1/models/NAME:predict and /v2/models/NAME/infer",
        shortened(path)
    ))
}

/// The router adds `Allow`.
async fn wrong_method(request: Request<Body>) -> Response {
    method_not_allowed(request.method(), request.uri().path(), None)
}
