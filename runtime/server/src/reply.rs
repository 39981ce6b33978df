//! Small answers of REST.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;

use crate::status::ServerError;

/// A JSON document.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
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

/// The beginning of a text from outside. Paths and methods are ASCII.
pub(crate) fn shortened(text: &str) -> &str {
    text.get(..200).unwrap_or(text)
}
