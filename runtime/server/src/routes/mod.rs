//! Which handler answers a request.

mod ending;
mod grpc;
mod metrics;
mod rest;

use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use corymb_listener::Connection;
use http::{Request, Version};
use tower::ServiceExt as _;

use self::ending::Ending;
use crate::app::App;
use crate::content::grpc_content;
use crate::observe::Handler;
use crate::options::MetricsPage;
use crate::predict;
use crate::status::ServerError;
use crate::target::Target;

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
        Self { app: app.clone(), rest: rest::router(app.clone()), grpc: grpc::router(app), metrics }
    }

    async fn grpc(&self, mut request: Request<Body>, connection: Option<&Connection>) -> Response {
        let Some(connection) = connection else { return routed(&self.grpc, request).await };
        // Our own stream ends by itself, in the midst of no request.
        let is_standard = grpc::inference_method(&request).is_none();
        request.extensions_mut().insert(connection.clone());
        let response = routed(&self.grpc, request).await;
        if is_standard { response.map(|body| Ending::wrap(body, connection)) } else { response }
    }
}

impl Handler for Routes {
    async fn answer(&self, request: Request<Body>, connection: Option<&Connection>) -> Response {
        if request.uri().path() == "/metrics"
            && let Some(page) = &self.metrics
        {
            return metrics::answer(request.method(), request.headers(), page);
        }
        // What nearly all requests ask for does not take the router's way, with its boxes and copies.
        match grpc_content(request.headers()) {
            None => match Target::of_v2_infer(&request) {
                Some(target) => predict::v2(&self.app, target, request).await,
                None => routed(&self.rest, request).await,
            },
            // gRPC's status stands in trailers, which HTTP/1.1 clients do not read.
            Some(_) if request.version() < Version::HTTP_2 => ServerError::invalid("gRPC needs HTTP/2").into_response(),
            Some("" | "+proto") if grpc::is_infer(&request) => predict::model_infer(&self.app, request).await,
            Some("" | "+proto") => self.grpc(request, connection).await,
            Some(other) => {
                let message = format!(
                    "content type 'application/grpc{other}' is not supported; expected application/grpc or \
                     application/grpc+proto"
                );
                ServerError::unsupported_media_type(message).into_response()
            }
        }
    }
}

async fn routed(router: &axum::Router, request: Request<Body>) -> Response {
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("metrics", &self.metrics.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
