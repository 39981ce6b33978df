//! gRPC's metadata of the server and of its models.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use corymb_core::{Dim, TensorSpec};
use corymb_proto::inference::model_metadata_response::TensorMetadata;
use corymb_proto::inference::{
    ModelMetadataRequest, ModelMetadataResponse, ServerMetadataRequest, ServerMetadataResponse,
};
use http::Request;

use crate::app::{App, EXTENSIONS, NAME};
use crate::call::{small, small_later};
use crate::observe::name_model;
use crate::target::Target;

pub(crate) async fn server_metadata(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |app, _: ServerMetadataRequest| {
        Ok(ServerMetadataResponse {
            name: NAME.to_owned(),
            version: app.options.version.clone(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        })
    })
    .await
}

pub(crate) async fn model_metadata(State(app): State<App>, request: Request<Body>) -> Response {
    small_later(&app, request, |app, question: ModelMetadataRequest, deadline| async move {
        name_model(&question.name);
        let _waiting = app.loaded(&question.name, deadline).await?;
        let model = app.engine.describe(&question.name, Target::version_of_grpc(&question.version))?;
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
