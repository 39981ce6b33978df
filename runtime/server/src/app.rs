//! What every handler is given, and the one place that tells REST from gRPC.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use corymb_core::Code;
use corymb_engine::{Call, Engine, Permit, Protocol};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use tower::ServiceExt;

use crate::drain::{Drain, Phase};
use crate::options::{MetricsPage, ServerOptions};
use crate::status::ServerError;

/// The server's name in its own metadata, whatever the protocol.
pub(crate) const NAME: &str = "corymb";

/// The extensions of the Open Inference Protocol that are offered, as Triton names them.
pub(crate) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_repository", "parameters"];

/// The shared state of all handlers; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) drain: Drain,
}

impl App {
    pub(crate) fn new(engine: Engine, options: ServerOptions) -> Self {
        Self { engine, options: Arc::new(options), drain: Drain::new() }
    }

    /// Whether new requests should be sent here: the models are ready and the server is not stopping.
    pub(crate) fn ready(&self) -> bool {
        self.drain.phase() == Phase::Serving && self.engine.ready()
    }

    /// A place in the server for one request. Handlers that run models take it before they read the body.
    pub(crate) fn admit(&self) -> Result<Permit, ServerError> {
        Ok(self.engine.admit()?)
    }

    /// Finds the version that answers. While the model is loading, a request that says how long it can wait, waits.
    pub(crate) async fn begin(
        &self,
        model: &str,
        version: Option<&str>,
        protocol: Protocol,
        deadline: Option<Instant>,
    ) -> Result<Call, ServerError> {
        match (self.engine.begin(model, version, protocol), deadline) {
            (Err(error), Some(deadline)) if error.code() == Code::NotReady => {
                self.engine.wait_loaded(model, deadline).await;
                Ok(self.engine.begin(model, version, protocol)?)
            }
            (begun, _) => Ok(begun?),
        }
    }
}

/// All routes. Content decides, not the path alone: so an unknown URL stays a REST 404, and an unknown gRPC method is
/// answered in gRPC's own way.
#[derive(Clone)]
pub(crate) struct Routes {
    app: App,
    rest: axum::Router,
    grpc: axum::Router,
    metrics: Option<MetricsPage>,
}

impl Routes {
    pub(crate) fn new(app: &App) -> Self {
        let metrics = app.options.metrics.clone();
        Self { app: app.clone(), rest: crate::routes::router(app.clone()), grpc: crate::grpc::router(app), metrics }
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Response {
        if request.uri().path() == "/metrics"
            && let Some(page) = &self.metrics
        {
            return metrics(request.method(), page);
        }
        // What nearly all requests ask for does not take the router's way, with its boxes and copies.
        let router = match grpc_content(request.headers()) {
            None => match crate::routes::v2_infer(&request) {
                Some(target) => return crate::v2::predict(&self.app, &target, request).await,
                None => &self.rest,
            },
            // gRPC's status stands in trailers, which HTTP/1.1 clients do not read.
            Some(_) if request.version() < Version::HTTP_2 => {
                return ServerError::invalid("gRPC needs HTTP/2").into_response();
            }
            Some("" | "+proto") if crate::grpc::is_infer(&request) => {
                return crate::grpc::model_infer(&self.app, request).await;
            }
            Some("" | "+proto") => &self.grpc,
            Some(other) => {
                let message = format!(
                    "content type 'application/grpc{other}' is not supported; expected application/grpc or \
                     application/grpc+proto"
                );
                return ServerError::unsupported_media_type(message).into_response();
            }
        };
        match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("metrics", &self.metrics.is_some()).finish_non_exhaustive()
    }
}

fn metrics(method: &Method, page: &MetricsPage) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let allow = [(ALLOW, HeaderValue::from_static("GET, HEAD"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
    }
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, text)], page()).into_response()
}

/// What follows `application/grpc` in the content type, without parameters; none for any other type.
pub(crate) fn grpc_content(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::to_str)?.ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    let rest = essence.strip_prefix("application/grpc")?;
    (rest.is_empty() || rest.starts_with(['+', '-'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_holds_a_request_stays_small() {
        let engine = crate::fake::engine(corymb_engine::EngineOptions::default()).await;
        let routes = Routes::new(&App::new(engine, ServerOptions::default()));
        // It is copied on its way to the task that drives it. Wrappers that held what they wrap twice once made it 88 KB.
        let size = size_of_val(&routes.answer(Request::new(Body::empty())));
        assert!(size <= 24 << 10, "{size} bytes");
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            grpc_content(&headers).map(str::to_owned)
        };
        assert_eq!(of("application/grpc"), Some(String::new()));
        assert_eq!(of("application/grpc+proto; v=1"), Some("+proto".to_owned()));
        assert_eq!(of("application/grpc-web"), Some("-web".to_owned()));
        assert_eq!(of("application/grpcx"), None);
        assert_eq!(of("text/plain"), None);
        assert_eq!(grpc_content(&HeaderMap::new()), None);
    }
}
