//! gRPC's health: `grpc.health.v1`, and the Open Inference Protocol's own methods.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use corymb_core::Code;
use corymb_listener::Phase;
use corymb_proto::inference::{
    ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerReadyRequest,
    ServerReadyResponse,
};
use futures::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use crate::app::App;
use crate::call::small;
use crate::observe::name_model;
use crate::status::ServerError;
use crate::target::Target;

/// The inference service's name, which begins its paths.
pub(crate) const SERVICE: &str = "inference.GRPCInferenceService";

/// How often a watched status is looked at: readiness has no bell, and probes are no more frequent.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks the server itself, so that it cannot say other than what is.
#[derive(Clone, Debug)]
pub(crate) struct Health(App);

impl Health {
    pub(crate) fn new(app: &App) -> Self {
        Self(app.clone())
    }

    /// The status of the server under the empty name and the service's, of a model under its own; none of others.
    fn status(&self, name: &str) -> Option<ServingStatus> {
        let ready = match name {
            "" | SERVICE => self.0.ready(),
            model => self.0.engine.status(model).ok()?.ready && self.0.drain.phase() == Phase::Serving,
        };
        Some(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        let status = self.status(&name).ok_or_else(|| {
            Status::from(ServerError::new(Code::NotFound, format!("unknown service or model '{name}'")))
        })?;
        Ok(Response::new(response(status)))
    }

    type WatchStream = Statuses;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Statuses>, Status> {
        let name = request.into_inner().service;
        let changes = stream::unfold((self.clone(), None), move |(health, mut last)| {
            let name = name.clone();
            async move {
                loop {
                    let status = health.status(&name).unwrap_or(ServingStatus::ServiceUnknown);
                    if last != Some(status) {
                        last = Some(status);
                        return Some((Ok(response(status)), (health, last)));
                    }
                    let drain = &health.0.drain;
                    // A watch must not keep a stopping server.
                    if drain.phase() >= Phase::Closing {
                        return None;
                    }
                    let leaving = async {
                        match drain.phase() {
                            Phase::Serving => drain.reached(Phase::Leaving).await,
                            _ => drain.reached(Phase::Closing).await,
                        }
                    };
                    let _ = tokio::time::timeout(INTERVAL, leaving).await;
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

pub(crate) async fn server_live(State(app): State<App>, request: http::Request<Body>) -> axum::response::Response {
    small(&app, request, |_, _: ServerLiveRequest| Ok(ServerLiveResponse { live: true })).await
}

pub(crate) async fn server_ready(State(app): State<App>, request: http::Request<Body>) -> axum::response::Response {
    small(&app, request, |app, _: ServerReadyRequest| Ok(ServerReadyResponse { ready: app.ready() })).await
}

/// As Triton does, an unknown model or version is an answer, "not ready", and no error.
pub(crate) async fn model_ready(State(app): State<App>, request: http::Request<Body>) -> axum::response::Response {
    small(&app, request, |app, question: ModelReadyRequest| {
        name_model(&question.name);
        let described = app.engine.describe(&question.name, Target::version_of_grpc(&question.version));
        match described.map_err(ServerError::from) {
            Ok(_) => Ok(ModelReadyResponse { ready: true }),
            Err(_) if app.would_load(&question.name) => Ok(ModelReadyResponse { ready: true }),
            Err(error) if matches!(error.code, Code::NotFound | Code::NotReady | Code::Draining) => {
                Ok(ModelReadyResponse { ready: false })
            }
            Err(error) => Err(error),
        }
    })
    .await
}
