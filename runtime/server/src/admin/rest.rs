//! The model repository's URLs.

use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use corymb_core::Value;
use corymb_wire::timeout;
use http::{Request, StatusCode};
use serde_json::json;

use super::repository::{Indexed, admin, index, load, unload};
use crate::app::App;
use crate::body;
use crate::predict::deadline;
use crate::reply::json_response;
use crate::status::ServerError;
use crate::target::Target;

/// `POST /v2/repository/index`: every version of every model. With `{"ready": true}` only those that answer.
pub(crate) async fn repository_index(State(app): State<App>, request: Request<Body>) -> Result<Response, ServerError> {
    let asked = object(&app, request).await?.1;
    let only_ready = asked.get("ready").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let list = index(&app, only_ready).into_iter().map(|version| {
        let Indexed { name, version, state, reason, share } = version;
        let mut object = json!({ "name": name, "version": version, "state": state, "reason": reason });
        if let Some(share) = share {
            object["weight"] = share.into();
        }
        object
    });
    Ok(json_response(StatusCode::OK, &list.collect()))
}

/// `POST /v2/repository/models/M/load`.
pub(crate) async fn model_load(
    State(app): State<App>,
    target: Target,
    request: Request<Body>,
) -> Result<Response, ServerError> {
    let (deadline, parameters) = asked(&app, request).await?;
    load(&app, target.model.clone(), parameters, deadline).await?;
    // KServe's members; Triton's clients read the status alone.
    Ok(json_response(StatusCode::OK, &json!({ "name": target.model, "load": true })))
}

/// `POST /v2/repository/models/M/unload`.
pub(crate) async fn model_unload(
    State(app): State<App>,
    target: Target,
    request: Request<Body>,
) -> Result<Response, ServerError> {
    let (deadline, parameters) = asked(&app, request).await?;
    unload(&app, target.model.clone(), parameters, deadline).await?;
    Ok(json_response(StatusCode::OK, &json!({ "name": target.model, "unload": true })))
}

/// What is asked of who may ask it, before the body is read.
async fn asked(app: &App, request: Request<Body>) -> Result<(Option<Instant>, Vec<(String, Value)>), ServerError> {
    admin(app)?;
    let (deadline, object) = object(app, request).await?;
    Ok((deadline, parameters(&object)?))
}

/// The body, which may be empty, and when the caller stops waiting.
async fn object(app: &App, request: Request<Body>) -> Result<(Option<Instant>, serde_json::Value), ServerError> {
    let deadline = deadline(Instant::now(), timeout::of_rest(request.headers())?);
    let (parts, body) = request.into_parts();
    let mut permit = app.engine.admit()?;
    let body = body::read(app, &mut permit, &parts.headers, body).await?;
    match body.trim_ascii() {
        [] => Ok((deadline, json!({}))),
        text => {
            let invalid = |error| ServerError::invalid(format!("the body is not valid JSON: {error}"));
            Ok((deadline, serde_json::from_slice(text).map_err(invalid)?))
        }
    }
}

fn parameters(asked: &serde_json::Value) -> Result<Vec<(String, Value)>, ServerError> {
    use serde_json::Value as Json;
    let Some(given) = asked.get("parameters").filter(|given| !given.is_null()) else { return Ok(Vec::new()) };
    let given = given.as_object().ok_or_else(|| ServerError::invalid("'parameters' must be an object"))?;
    let one = |(name, value): (&String, &Json)| {
        let value = match value {
            Json::String(text) => Value::Text(text.clone()),
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) if number.is_i64() => Value::Int64(number.as_i64().unwrap_or_default()),
            _ => {
                let message = format!("parameter '{name}' must be a text, a whole number, or true or false");
                return Err(ServerError::invalid(message));
            }
        };
        Ok((name.clone(), value))
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use corymb_engine::Split;

    use super::super::repository::ask;
    use super::*;

    #[test]
    fn a_loads_parameters_are_understood_or_refused() {
        let asked = |parameters: serde_json::Value| {
            ask(parameters_of(&parameters)?).map(|ask| (ask.uri, ask.split)).map_err(|error| error.message.into_owned())
        };
        fn parameters_of(parameters: &serde_json::Value) -> Result<Vec<(String, Value)>, String> {
            parameters_checked(parameters).map_err(|error| error.message.into_owned())
        }
        fn parameters_checked(given: &serde_json::Value) -> Result<Vec<(String, Value)>, ServerError> {
            parameters(&json!({ "parameters": given }))
        }
        assert_eq!(asked(json!(null)), Ok((None, None)));
        assert_eq!(asked(json!({"uri": "/m", "canary": 5})), Ok((Some("/m".into()), Some(Split::Canary(5)))));
        assert_eq!(asked(json!({"weights": "1=1"})), Ok((None, "1=1".parse().ok())));
        for (parameters, expected) in [
            (json!({"canary": 101}), "a whole number from 0 to 100"),
            (json!({"canary": 1.5}), "a whole number"),
            (json!({"uri": 1}), "'uri' must be a text"),
            (json!({"weights": "x"}), "expected weights by version"),
            (json!({"weights": "1=1", "canary": 5}), "both given"),
            (json!({"config": "{}"}), "as they lie in their folders"),
            (json!({"file:1/model.onnx": "AAAA"}), "as they lie in their folders"),
            (json!({"urii": "/m"}), "unknown parameter 'urii'"),
            (json!([1]), "'parameters' must be an object"),
        ] {
            let error = asked(parameters.clone()).expect_err("refused");
            assert!(error.contains(expected), "{parameters}: {error}");
        }
    }
}
