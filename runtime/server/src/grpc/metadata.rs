//! What the server is and what its models take: the methods that run nothing.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use corymb_core::{Code, Dim, TensorSpec};
use corymb_proto::inference::model_metadata_response::TensorMetadata;
use corymb_proto::inference::{
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use http::Request;

use super::call::small;
use crate::app::{App, EXTENSIONS, NAME};
use crate::status::ServerError;

pub(super) async fn server_live(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |_, _: ServerLiveRequest| Ok(ServerLiveResponse { live: true })).await
}

pub(super) async fn server_ready(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |app, _: ServerReadyRequest| Ok(ServerReadyResponse { ready: app.ready() })).await
}

/// As Triton does, an unknown model or version is an answer, "not ready", and no error.
pub(super) async fn model_ready(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |app, question: ModelReadyRequest| {
        let described = app.engine.describe(&question.name, version(&question.version));
        match described.map_err(ServerError::from) {
            Ok(_) => Ok(ModelReadyResponse { ready: true }),
            Err(error) if matches!(error.code, Code::NotFound | Code::NotReady | Code::Draining) => {
                Ok(ModelReadyResponse { ready: false })
            }
            Err(error) => Err(error),
        }
    })
    .await
}

pub(super) async fn server_metadata(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |app, _: ServerMetadataRequest| {
        Ok(ServerMetadataResponse {
            name: NAME.to_owned(),
            version: app.options.version.clone(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        })
    })
    .await
}

pub(super) async fn model_metadata(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |app, question: ModelMetadataRequest| {
        let model = app.engine.describe(&question.name, version(&question.version))?;
        Ok(ModelMetadataResponse {
            name: model.name,
            versions: model.versions,
            platform: model.platform.to_owned(),
            inputs: model.signature.inputs.iter().map(tensor).collect(),
            outputs: model.signature.outputs.iter().map(tensor).collect(),
            properties: properties(model.device, &model.shares),
        })
    })
    .await
}

fn properties(device: String, shares: &[(String, u64)]) -> HashMap<String, String> {
    let mut properties = HashMap::from([("device".to_owned(), device)]);
    if !shares.is_empty() {
        // As a load takes them.
        let weights: Vec<String> = shares.iter().map(|(version, share)| format!("{version}={share}")).collect();
        properties.insert("weights".to_owned(), weights.join(","));
    }
    properties
}

/// On the wire no version is an empty one.
pub(super) fn version(given: &str) -> Option<&str> {
    Some(given).filter(|given| !given.is_empty())
}

fn tensor(spec: &TensorSpec) -> TensorMetadata {
    let size = |dim: &Dim| dim.fixed().and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
    TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.dtype.name().to_owned(),
        shape: spec.shape.iter().map(size).collect(),
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::DType;

    use super::*;

    #[test]
    fn open_dimensions_are_minus_one() {
        let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(3), Dim::Unknown];
        let metadata = tensor(&TensorSpec::new("x", DType::Bf16, shape));
        assert_eq!(metadata.shape, [-1, 3, -1]);
        assert_eq!(metadata.datatype, "BF16");
    }
}
