//! The model repository's methods. `RepositoryModelLoad` and `…Unload` mean two things: Triton's messages name the model in
//! field 2, behind a repository, KServe's in field 1.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use corymb_core::Value;
use corymb_proto::inference::model_repository_parameter::ParameterChoice;
use corymb_proto::inference::repository_index_response::ModelIndex;
use corymb_proto::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
};
use http::Request;

use super::repository::{index, load, unload};
use crate::app::App;
use crate::call::{small, small_later};
use crate::observe::name_model;
use crate::status::ServerError;

pub(crate) async fn repository_index(State(app): State<App>, request: Request<Body>) -> Response {
    small(&app, request, |app, question: RepositoryIndexRequest| {
        let models = index(app, question.ready).into_iter().map(|version| ModelIndex {
            name: version.name,
            version: version.version,
            state: version.state.to_owned(),
            reason: version.reason,
        });
        Ok(RepositoryIndexResponse { models: models.collect() })
    })
    .await
}

pub(crate) async fn model_load(State(app): State<App>, request: Request<Body>) -> Response {
    small_later(&app, request, |app, question: RepositoryModelLoadRequest, deadline| async move {
        let model_name = named(question.repository_name, question.model_name);
        name_model(&model_name);
        load(&app, model_name.clone(), parameters(question.parameters)?, deadline).await?;
        Ok(RepositoryModelLoadResponse { model_name, is_loaded: true })
    })
    .await
}

pub(crate) async fn model_unload(State(app): State<App>, request: Request<Body>) -> Response {
    small_later(&app, request, |app, question: RepositoryModelUnloadRequest, deadline| async move {
        let model_name = named(question.repository_name, question.model_name);
        name_model(&model_name);
        unload(&app, model_name.clone(), parameters(question.parameters)?, deadline).await?;
        Ok(RepositoryModelUnloadResponse { model_name, is_unloaded: true })
    })
    .await
}

/// Field 2, else field 1.
fn named(first: String, second: String) -> String {
    if second.is_empty() { first } else { second }
}

fn parameters(
    given: impl IntoIterator<Item = (String, ModelRepositoryParameter)>,
) -> Result<Vec<(String, Value)>, ServerError> {
    let one = |(name, parameter): (String, ModelRepositoryParameter)| {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Value::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Value::Int64(value),
            Some(ParameterChoice::StringParam(value)) => Value::Text(value),
            // Files of a model, which are refused by their name.
            Some(ParameterChoice::BytesParam(_)) => Value::Text(String::new()),
            None => return Err(ServerError::invalid(format!("parameter '{name}' has no value"))),
        };
        Ok((name, value))
    };
    given.into_iter().map(one).collect()
}
