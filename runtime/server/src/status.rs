//! The one table from [`Code`] to the statuses of HTTP and gRPC, and the error that every handler answers with.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use corymb_core::{Code, SignatureError, TensorError};
use corymb_engine::EngineError;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

/// A code's status on both wires.
pub(crate) struct Statuses {
    pub(crate) http: StatusCode,
    pub(crate) grpc: tonic::Code,
}

/// The caller closed the connection first; nginx's number, which the `http` crate does not name.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The table.
pub(crate) fn statuses(code: Code) -> Statuses {
    use tonic::Code as Grpc;
    let (http, grpc) = match code {
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, Grpc::InvalidArgument),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, Grpc::Unauthenticated),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, Grpc::PermissionDenied),
        Code::NotFound => (StatusCode::NOT_FOUND, Grpc::NotFound),
        Code::AlreadyExists => (StatusCode::CONFLICT, Grpc::AlreadyExists),
        Code::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Grpc::ResourceExhausted),
        Code::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Grpc::InvalidArgument),
        Code::Overloaded => (StatusCode::TOO_MANY_REQUESTS, Grpc::ResourceExhausted),
        Code::Cancelled => (client_closed_request(), Grpc::Cancelled),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Grpc::Internal),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, Grpc::Unimplemented),
        Code::NotReady | Code::Draining => (StatusCode::SERVICE_UNAVAILABLE, Grpc::Unavailable),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Grpc::DeadlineExceeded),
    };
    Statuses { http, grpc }
}

/// Why a request is refused, whatever protocol it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) code: Code,
    /// Shown to the caller.
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
    /// For the log only.
    pub(crate) details: Option<String>,
}

impl ServerError {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None, details: None }
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(crate) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::TooLarge, message)
    }

    pub(crate) fn unsupported_media_type(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::UnsupportedMediaType, message)
    }

    pub(crate) fn unimplemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    pub(crate) fn internal(details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..Self::new(Code::Internal, "internal error") }
    }

    /// The same refusal with a text for the log.
    #[must_use]
    pub(crate) fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServerError {}

impl From<EngineError> for ServerError {
    fn from(error: EngineError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string().into(),
            retry_after: error.retry_after(),
            details: error.details(),
        }
    }
}

impl From<corymb_core::Error> for ServerError {
    fn from(error: corymb_core::Error) -> Self {
        Self { code: error.code, message: error.message.into(), retry_after: error.retry_after, details: error.details }
    }
}

impl From<SignatureError> for ServerError {
    fn from(error: SignatureError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<TensorError> for ServerError {
    fn from(error: TensorError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Rides in a response's extensions to the one place that logs: the refusal that it speaks of.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
    pub(crate) details: Option<String>,
}

impl ServerError {
    fn refusal(self) -> Refusal {
        Refusal { code: self.code, message: self.message, details: self.details }
    }

    /// The refusal as the trailers that end a stream.
    pub(crate) fn into_trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        if tonic::Status::from(self).add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", (tonic::Code::Internal as i32).into());
        }
        trailers
    }

    /// The refusal as gRPC's "trailers only" response.
    pub(crate) fn into_grpc(self) -> Response {
        let status = tonic::Status::from(self.clone());
        let mut response = status.into_http();
        response.extensions_mut().insert(self.refusal());
        response
    }
}

impl IntoResponse for ServerError {
    fn into_response(self) -> Response {
        let body = corymb_wire::refusal::encode(&self.message);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = statuses(self.code).http;
        // Exactly so, without a charset: KServe's client shows the text under no other type.
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        response.extensions_mut().insert(self.refusal());
        response
    }
}

impl From<ServerError> for tonic::Status {
    fn from(error: ServerError) -> Self {
        let mut status = Self::new(statuses(error.code).grpc, error.message);
        if let Some(wait) = error.retry_after {
            status.metadata_mut().insert("retry-after", seconds(wait).into());
        }
        status
    }
}

/// Whole seconds, at least one: the header has no smaller unit.
fn seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_designs() {
        let expected = [
            (Code::InvalidArgument, 400, tonic::Code::InvalidArgument),
            (Code::Unauthenticated, 401, tonic::Code::Unauthenticated),
            (Code::PermissionDenied, 403, tonic::Code::PermissionDenied),
            (Code::NotFound, 404, tonic::Code::NotFound),
            (Code::AlreadyExists, 409, tonic::Code::AlreadyExists),
            (Code::TooLarge, 413, tonic::Code::ResourceExhausted),
            (Code::UnsupportedMediaType, 415, tonic::Code::InvalidArgument),
            (Code::Overloaded, 429, tonic::Code::ResourceExhausted),
            (Code::Cancelled, 499, tonic::Code::Cancelled),
            (Code::Internal, 500, tonic::Code::Internal),
            (Code::Unimplemented, 501, tonic::Code::Unimplemented),
            (Code::NotReady, 503, tonic::Code::Unavailable),
            (Code::Draining, 503, tonic::Code::Unavailable),
            (Code::DeadlineExceeded, 504, tonic::Code::DeadlineExceeded),
        ];
        for (code, http, grpc) in expected {
            let row = statuses(code);
            assert_eq!((row.http.as_u16(), row.grpc), (http, grpc), "{code:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_one_json_object() {
        let error = ServerError {
            retry_after: Some(Duration::from_millis(1200)),
            details: Some("secret".to_owned()),
            ..ServerError::new(Code::Overloaded, "no \"room\"")
        };
        let response = error.clone().into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let body = axum::body::to_bytes(response.into_body(), 1024).await.expect("a body");
        assert_eq!(body, r#"{"error":"no \"room\""}"#);

        let response = error.into_grpc();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "8");
        assert_eq!(response.headers()["retry-after"], "2");
    }
}
