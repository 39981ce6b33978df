//! Every REST URL, and what is answered where there is none.

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{ALLOW, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::status::ServerError;
use crate::{repository, v1, v2};

/// All of V1 and V2. Query strings are ignored, and so are content types, except where a picture is the body.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(alive))
        .route("/v1/models", get(v1::list))
        .route("/v1/models/{model}", get(v1::status).post(v1::act))
        .route("/v1/models/{model}/metadata", get(v1::metadata))
        .route("/v1/models/{model}/versions/{version}", get(v1::status).post(v1::act))
        .route("/v1/models/{model}/versions/{version}/metadata", get(v1::metadata))
        .route("/v2", get(v2::server))
        .route("/v2/health/live", get(v2::live))
        .route("/v2/health/ready", get(v2::ready))
        .route("/v2/repository/index", post(repository::rest_index))
        .route("/v2/repository/models/{model}/load", post(repository::rest_load))
        .route("/v2/repository/models/{model}/unload", post(repository::rest_unload))
        .route("/v2/models/{model}", get(v2::metadata))
        .route("/v2/models/{model}/ready", get(v2::model_ready))
        .route("/v2/models/{model}/infer", post(v2::infer))
        .route("/v2/models/{model}/versions/{version}", get(v2::metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(v2::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(v2::infer))
        .fallback(no_such_url)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// What a URL names, percent-decoded.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) model: String,
    /// None for the one that serves.
    pub(crate) version: Option<String>,
}

/// The target of a V2 prediction whose names stand in the URL as they are, found as the router would find it.
pub(crate) fn v2_infer(request: &Request<Body>) -> Option<Target> {
    let names = request.uri().path().strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    if request.method() != Method::POST || names.contains('%') {
        return None;
    }
    let name = |name: &str| (!name.is_empty() && !name.contains('/')).then(|| name.to_owned());
    match names.split_once("/versions/") {
        None => Some(Target { model: name(names)?, version: None }),
        Some((model, version)) => Some(Target { model: name(model)?, version: Some(name(version)?) }),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ServerError::not_found("no such URL: a name in it is not valid UTF-8"))?;
        let named =
            |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned());
        Ok(Self { model: named("model").unwrap_or_default(), version: named("version") })
    }
}

/// V1's liveness, as KServe's client asks for it.
async fn alive() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "alive" }))
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

/// 405; `allow` where the router does not know it.
pub(crate) fn method_not_allowed(method: &Method, path: &str, allow: Option<&'static str>) -> Response {
    let message = format!("method {} is not allowed for '{}'", shortened(method.as_str()), shortened(path));
    let mut response = ServerError::invalid(message).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// A small answer.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The beginning of a text from outside. Paths and methods are ASCII.
fn shortened(text: &str) -> &str {
    text.get(..200).unwrap_or(text)
}

#[cfg(test)]
mod tests;
