//! V2's model repository: what there is, and, where `--admin` allows it, loading and unloading by name.

use std::future::Future;
use std::time::{Duration, Instant};

use corymb_core::{Code, Error, Value};
use corymb_engine::{Live, LoadAsk, Split, State as VersionState, VersionStatus, without_paths};

use crate::app::App;
use crate::status::ServerError;

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
    let (live, on_demand) = (admin(app)?.clone(), app.options.on_demand.clone());
    let ask = ask(parameters)?;
    let loading = {
        let model = model.clone();
        async move {
            match on_demand {
                Some(on_demand) => on_demand.load(&model, ask).await,
                None => live.load(&model, ask).await,
            }
        }
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

pub(super) fn admin(app: &App) -> Result<&Live, ServerError> {
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
pub(super) fn ask(parameters: Vec<(String, Value)>) -> Result<LoadAsk, ServerError> {
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
