//! Every gRPC method; another one is answered with UNIMPLEMENTED.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use corymb_listener::Connection;
use http::{Method, Request};
use tonic_health::pb::health_server::HealthServer;

use crate::app::App;
use crate::health::grpc::{Health, SERVICE};
use crate::status::ServerError;
use crate::{admin, health, metadata, predict};

/// The inference service's methods that take and give little.
fn inference(app: &App) -> Router {
    let path = |method: &str| format!("/{SERVICE}/{method}");
    Router::new()
        .route(&path("ServerLive"), post(health::grpc::server_live))
        .route(&path("ServerReady"), post(health::grpc::server_ready))
        .route(&path("ModelReady"), post(health::grpc::model_ready))
        .route(&path("ServerMetadata"), post(metadata::grpc::server_metadata))
        .route(&path("ModelMetadata"), post(metadata::grpc::model_metadata))
        .route(&path("RepositoryIndex"), post(admin::grpc::repository_index))
        .route(&path("RepositoryModelLoad"), post(admin::grpc::model_load))
        .route(&path("RepositoryModelUnload"), post(admin::grpc::model_unload))
        .route(&path("ModelInfer"), post(model_infer))
        .route(&path("ModelStreamInfer"), post(model_stream_infer))
        .fallback(unknown_method)
        .with_state(app.clone())
}

/// The inference service, health and reflection.
pub(super) fn router(app: &App) -> Router {
    let mut routes = tonic::service::Routes::from(inference(app)).add_service(HealthServer::new(Health::new(app)));
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(corymb_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (described().build_v1(), described().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "reflection is not offered"),
    }
    routes.into_axum_router()
}

/// Whether a request is a call of `ModelInfer`, as the router would find.
pub(super) fn is_infer(request: &Request<Body>) -> bool {
    request.method() == Method::POST && inference_method(request) == Some("ModelInfer")
}

/// The method of the inference service that a request calls; none of another service.
pub(super) fn inference_method(request: &Request<Body>) -> Option<&str> {
    request.uri().path().strip_prefix('/')?.strip_prefix(SERVICE)?.strip_prefix('/')
}

async fn model_infer(State(app): State<App>, request: Request<Body>) -> Response {
    predict::model_infer(&app, request).await
}

async fn model_stream_infer(State(app): State<App>, request: Request<Body>) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    predict::model_stream_infer(&app, request, connection.as_ref())
}

async fn unknown_method(request: Request<Body>) -> Response {
    ServerError::unimplemented(format!("unknown method '{}'", request.uri().path())).into_grpc()
}
