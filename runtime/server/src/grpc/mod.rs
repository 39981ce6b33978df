//! gRPC: the Open Inference Protocol's service, health and reflection.
//!
//! The inference service frames its messages itself (`frames`) and reads requests straight from the wire into tensors
//! (`request`), so that every limit holds before memory is taken, large messages are decoded on the compute pool, and
//! payloads are not copied on their way in or out. tonic serves the small standard services.

mod call;
mod frames;
mod health;
mod infer;
mod metadata;
mod reply;
mod repository;
mod request;
mod stream;
mod wire;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{Method, Request};
use tonic_health::pb::health_server::HealthServer;

pub(crate) use self::infer::model_infer;
use crate::app::App;
use crate::status::ServerError;

/// The inference service's name, which begins its paths.
const SERVICE: &str = "inference.GRPCInferenceService";

/// Every gRPC method there is; another one is answered with UNIMPLEMENTED.
pub(crate) fn router(app: &App) -> Router {
    let path = |method: &str| format!("/{SERVICE}/{method}");
    let inference = Router::new()
        .route(&path("ServerLive"), post(metadata::server_live))
        .route(&path("ServerReady"), post(metadata::server_ready))
        .route(&path("ModelReady"), post(metadata::model_ready))
        .route(&path("ServerMetadata"), post(metadata::server_metadata))
        .route(&path("ModelMetadata"), post(metadata::model_metadata))
        .route(&path("RepositoryIndex"), post(repository::repository_index))
        .route(&path("RepositoryModelLoad"), post(repository::model_load))
        .route(&path("RepositoryModelUnload"), post(repository::model_unload))
        .route(&path("ModelInfer"), post(routed_infer))
        .route(&path("ModelStreamInfer"), post(stream::model_stream_infer))
        .fallback(unknown_method)
        .with_state(app.clone());

    let mut routes = tonic::service::Routes::from(inference).add_service(HealthServer::new(health::Health::new(app)));
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
pub(crate) fn is_infer(request: &Request<Body>) -> bool {
    let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE)?.strip_prefix('/'));
    request.method() == Method::POST && method == Some("ModelInfer")
}

async fn routed_infer(State(app): State<App>, request: Request<Body>) -> Response {
    model_infer(&app, request).await
}

async fn unknown_method(request: Request<Body>) -> Response {
    ServerError::unimplemented(format!("unknown method '{}'", request.uri().path())).into_grpc()
}
