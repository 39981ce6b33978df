//! V2's model repository: what there is, and, where `--admin` allows it, loading and unloading by name.

use std::future::Future;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use corymb_core::{Code, Error, Value};
use corymb_engine::{Live, LoadAsk, Split, State as VersionState, VersionStatus, without_paths};
use http::{Request, StatusCode};
use serde_json::json;

use crate::app::App;
use crate::routes::{Target, json_response};
use crate::status::ServerError;
use crate::{body, deadline};

/// Whoever asks waits no longer than this; the load goes on.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// One version of a model, as the index has it.
pub(crate) struct Indexed {
    pub(crate) name: String,
    pub(crate) version: String,
    /// In Triton's words.
    pub(crate) state: &'static str,
    pub(crate) reason: String,
    pub(crate) share: Option<u64>,
}

/// Every version of every model, or only those that answer.
pub(crate) fn index(app: &App, only_ready: bool) -> Vec<Indexed> {
    let mut list = Vec::new();
    for model in app.engine.models() {
        for version in model.versions {
            if only_ready && version.state != VersionState::Ready {
                continue;
            }
            let (state, reason) = state(app, &version);
            list.push(Indexed {
                name: model.name.clone(),
                version: version.version,
                state,
                reason,
                share: version.share,
            });
        }
    }
    list
}

/// Why a load failed is for who may load: others hear that it did.
fn state(app: &App, version: &VersionStatus) -> (&'static str, String) {
    let told = app.options.admin.is_some();
    let failed = |what: &str, reason: &str| {
        if told { format!("{what}: {}", without_paths(reason)) } else { what.to_owned() }
    };
    match &version.state {
        VersionState::Ready => {
            let reason = version.failure.as_ref().map(|reason| failed("loading it anew failed", reason));
            ("READY", reason.unwrap_or_default())
        }
        VersionState::Loading | VersionState::WarmingUp => ("LOADING", String::new()),
        VersionState::Draining => ("UNLOADING", String::new()),
        VersionState::Gone => ("UNAVAILABLE", "unloaded".to_owned()),
        VersionState::Failed(reason) => ("UNAVAILABLE", failed("failed to load", reason)),
    }
}

/// Loads a model, or what has changed of it.
pub(crate) async fn load(
    app: &App,
    model: String,
    parameters: Vec<(String, Value)>,
    deadline: Option<Instant>,
) -> Result<(), ServerError> {
    let live = admin(app)?.clone();
    let ask = ask(parameters)?;
    let loading = {
        let model = model.clone();
        async move { live.load(&model, ask).await }
    };
    within(&model, deadline, loading).await
}

/// Unloads a model.
pub(crate) async fn unload(
    app: &App,
    model: String,
    parameters: Vec<(String, Value)>,
    deadline: Option<Instant>,
) -> Result<(), ServerError> {
    let live = admin(app)?.clone();
    // No model has others that only it needs.
    if let Some((name, _)) = parameters.iter().find(|(name, _)| name != "unload_dependents") {
        return Err(ServerError::invalid(format!("unknown parameter '{name}'; expected 'unload_dependents'")));
    }
    let unloading = {
        let model = model.clone();
        async move { live.unload(&model).await }
    };
    within(&model, deadline, unloading).await
}

fn admin(app: &App) -> Result<&Live, ServerError> {
    app.options.admin.as_ref().ok_or_else(|| {
        let message = "models are neither loaded nor unloaded by request: this server was started without --admin";
        ServerError::new(Code::PermissionDenied, message)
    })
}

/// In a task of its own: who goes away leaves the work to be finished.
async fn within(
    model: &str,
    deadline: Option<Instant>,
    work: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<(), ServerError> {
    let longest = Instant::now() + LONGEST;
    let until = deadline.map_or(longest, |deadline| deadline.min(longest));
    match tokio::time::timeout_at(until.into(), tokio::spawn(work)).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(panic)) => Err(ServerError::internal(panic.to_string())),
        Err(_late) => {
            let message = format!("model '{model}' is not there yet; it goes on, and the index tells how it ends");
            Err(ServerError::new(Code::DeadlineExceeded, message))
        }
    }
}

/// What the parameters of a load say.
fn ask(parameters: Vec<(String, Value)>) -> Result<LoadAsk, ServerError> {
    let mut ask = LoadAsk::default();
    let mut divided = None;
    for (name, value) in parameters {
        let wrong = |expected: &str| ServerError::invalid(format!("parameter '{name}' must be {expected}"));
        match (name.as_str(), value) {
            ("uri", Value::Text(uri)) => ask.uri = Some(uri),
            ("uri", _) => return Err(wrong("a text")),
            ("weights", Value::Text(text)) => {
                let weights = text.parse::<Split>();
                divided = Some(weights.map_err(|error| ServerError::invalid(format!("parameter 'weights': {error}")))?);
            }
            ("weights", _) => return Err(wrong("a text such as '1=90,2=10'")),
            ("canary", Value::Int64(percent @ 0..=100)) => {
                divided = Some(Split::Canary(u8::try_from(percent).unwrap_or_default()));
            }
            ("canary", _) => return Err(wrong("a whole number from 0 to 100, in percent")),
            // Triton's ways to bring configuration and files along.
            ("config", _) => return Err(ServerError::unimplemented(not_taken(&name))),
            (file, _) if file.starts_with("file:") => return Err(ServerError::unimplemented(not_taken(&name))),
            _ => {
                let message = format!("unknown parameter '{name}'; expected 'uri', 'weights' or 'canary'");
                return Err(ServerError::invalid(message));
            }
        }
        if ask.split.is_some() && divided.is_some() {
            return Err(ServerError::invalid("'weights' and 'canary' are both given; expected one"));
        }
        ask.split = ask.split.or(divided.take());
    }
    Ok(ask)
}

fn not_taken(name: &str) -> String {
    format!("models are loaded as they lie in their folders (parameter '{name}')")
}

/// `POST /v2/repository/index`: every version of every model. With `{"ready": true}` only those that answer.
pub(crate) async fn rest_index(State(app): State<App>, request: Request<Body>) -> Result<Response, ServerError> {
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
pub(crate) async fn rest_load(
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
pub(crate) async fn rest_unload(
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
    let deadline = deadline::of_headers(request.headers(), Instant::now())?;
    let (parts, body) = request.into_parts();
    let mut permit = app.admit()?;
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
