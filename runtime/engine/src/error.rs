//! What the engine refuses, in the caller's terms.

use std::time::Duration;

use corymb_core::{BackendError, Code, Ending, Error, PluginError, Shortage, SignatureError, UnknownDevice};
use corymb_repository::RepositoryError;

/// Why a prediction did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// No model of that name. Ask for one that exists.
    #[error("unknown model '{name}'; served are {served}")]
    UnknownModel {
        /// As asked.
        name: String,
        /// The names there are, as text.
        served: String,
    },
    /// The model has no such version. Ask for one that exists, or for none.
    #[error("model '{model}' has no version '{version}'; it has {served}")]
    UnknownVersion {
        /// The model.
        model: String,
        /// As asked.
        version: String,
        /// The versions there are, as text.
        served: String,
    },
    /// The model cannot answer now. Try again later, or look at the server's log.
    #[error("model '{model}' is not ready: it is {state}")]
    NotReady {
        /// The model.
        model: String,
        /// The word of its state, without the reason, which may name internals.
        state: &'static str,
    },
    /// The model was unloaded. Ask for another, or have it loaded.
    #[error("model '{model}' is not loaded")]
    Unloaded {
        /// The model.
        model: String,
    },
    /// The version is being unloaded. Ask for another.
    #[error("version '{version}' of model '{model}' is being unloaded")]
    Draining {
        /// The model.
        model: String,
        /// The version.
        version: String,
    },
    /// A bound is reached. Try again later.
    #[error("overloaded: {what}")]
    Overloaded {
        /// Which bound.
        what: String,
    },
    /// The memory for requests does not suffice. Ask for less, or later.
    #[error("{what} {shortage}")]
    Memory {
        /// What it is needed for.
        what: &'static str,
        /// How much is missing.
        shortage: Shortage,
    },
    /// The time the caller, or the manifest, allowed has passed.
    #[error("model '{model}' did not answer in time: {stage} was not finished when the deadline passed")]
    DeadlineExceeded {
        /// The model.
        model: String,
        /// What was going on.
        stage: &'static str,
    },
    /// A run took longer than one may.
    #[error("model '{model}': a run did not end within {limit:?}, which is its limit")]
    RunTooLong {
        /// The model.
        model: String,
        /// What `--max-run-time` or the manifest allows.
        limit: Duration,
    },
    /// Nobody waits for the answer.
    #[error("the request was cancelled")]
    Cancelled,
    /// The tensors do not fit the model's signature.
    #[error("model '{model}': {error}")]
    Signature {
        /// The model.
        model: String,
        /// What does not fit.
        error: SignatureError,
    },
    /// The backend refused or failed.
    #[error("model '{model}': {}", for_callers(.error))]
    Backend {
        /// The model.
        model: String,
        /// The backend's own words, for the log.
        error: BackendError,
    },
    /// The plugin refused or failed.
    #[error("model '{model}': {error}")]
    Plugin {
        /// The model.
        model: String,
        /// What the plugin or its host said.
        error: PluginError,
    },
    /// A fault of the server.
    #[error("internal error{}", .model.as_ref().map(|model| format!(" in model '{model}'")).unwrap_or_default())]
    Internal {
        /// The model, where one was involved.
        model: Option<String>,
        /// For the log.
        details: String,
    },
    /// Plugins call each other's models too deep.
    #[error("model '{model}' was reached through {depth} other models; at most {max} may call each other")]
    TooDeep {
        /// The model.
        model: String,
        /// Calls so far.
        depth: u8,
        /// Calls allowed.
        max: u8,
    },
}

/// An engine's own words may name files and addresses: callers see them only where they speak of the caller's values.
fn for_callers(error: &BackendError) -> String {
    match error {
        BackendError::InvalidInput(message) | BackendError::InvalidValues(message) => message.clone(),
        BackendError::Memory(_)
        | BackendError::TimedOut
        | BackendError::Cancelled
        | BackendError::Restarting(_)
        | BackendError::Changed => error.to_string(),
        BackendError::Crashed { by: Ending::Late, .. } => {
            "the run did not stop in time, and its process was ended".to_owned()
        }
        BackendError::Crashed { by: Ending::Memory, .. } => {
            "it refuses these values: its process ended of more memory than there is for a run".to_owned()
        }
        BackendError::Crashed { .. } => "its process ended while it ran the request".to_owned(),
        _ => "the model could not be run".to_owned(),
    }
}

/// Names for a message; at most a few, since a server may have a thousand.
pub(crate) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let all: Vec<&str> = names.collect();
    if all.is_empty() {
        return "none".to_owned();
    }
    let mut text = all.iter().take(SHOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        text.push_str(&format!(" and {} more", all.len() - SHOWN));
    }
    text
}

impl EngineError {
    /// The kind of failure.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } | Self::Unloaded { .. } => Code::NotFound,
            Self::NotReady { .. } => Code::NotReady,
            Self::Draining { .. } => Code::Draining,
            Self::Overloaded { .. } => Code::Overloaded,
            Self::Memory { shortage, .. } => shortage.code(),
            Self::DeadlineExceeded { .. } | Self::RunTooLong { .. } => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Signature { .. } => Code::InvalidArgument,
            Self::Backend { error, .. } => error.code(),
            Self::Plugin { error, .. } => error.code(),
            Self::Internal { .. } | Self::TooDeep { .. } => Code::Internal,
        }
    }

    /// When trying again makes sense, where it does.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Backend { error: BackendError::Restarting(wait), .. } => Some(*wait),
            _ if matches!(self.code(), Code::Overloaded) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What is for the log only.
    #[must_use]
    pub fn details(&self) -> Option<String> {
        match self {
            Self::Backend { error, .. } => Some(error.to_string()),
            Self::Plugin { error, .. } => error.details().map(str::to_owned),
            Self::Internal { details, .. } => Some(details.clone()),
            _ => None,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            details: error.details(),
            retry_after: error.retry_after(),
        }
    }
}

impl LoadError {
    /// The kind of failure, for who asked for the load.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::Overloaded,
            Self::Asked { error, .. } => error.code(),
            Self::UnknownBackend { .. } | Self::UnknownDevice(_) | Self::Split(_) => Code::InvalidArgument,
            _ => Code::Internal,
        }
    }
}

/// Why a model did not become ready. For the log and the operator: may name files.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The manifest names a backend that is not there.
    #[error("backend '{name}' is unknown; there are {known}")]
    UnknownBackend {
        /// As named.
        name: String,
        /// The names there are, as text.
        known: String,
    },
    /// The manifest names a device that no backend knows.
    #[error(transparent)]
    UnknownDevice(#[from] UnknownDevice),
    /// Its weights alone need more memory than there is.
    #[error(
        "the model has {} MiB, {} MiB are in use, and the limit is {} MiB: it cannot fit",
        .size >> 20, .used >> 20, .limit >> 20
    )]
    TooLarge {
        /// Bytes of the model's files.
        size: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes that may be used.
        limit: u64,
    },
    /// No backend can run the model.
    #[error("no backend can run the model: {0}")]
    NoBackend(String),
    /// The chosen backend could not load it.
    #[error("{}", of_backend(backend, error))]
    Backend {
        /// Which one.
        backend: &'static str,
        /// Its reason.
        error: BackendError,
    },
    /// The same of a device that somebody else's words ask for.
    #[error("{error}; {by} asks for it")]
    Asked {
        /// Whose words.
        by: &'static str,
        /// What is wrong with it.
        error: Box<LoadError>,
    },
    /// The manifest wants requests to share runs, and they cannot.
    #[error("{0}")]
    Batching(String),
    /// The plugin could not be loaded.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// There is a plugin but nothing to host it.
    #[error("the model has a plugin, but this server was started without a plugin host")]
    NoPluginHost,
    /// A sample of the model folder did not run through.
    #[error("warm-up with {sample} failed: {reason}")]
    WarmUp {
        /// Which sample.
        sample: String,
        /// Why.
        reason: String,
    },
    /// Its files are not those that were signed.
    #[error(transparent)]
    NotAsSigned(#[from] RepositoryError),
    /// Requests are to be divided among versions that are not served.
    #[error("{0}; `versions` in model.toml chooses which are")]
    Split(String),
    /// Loading panicked.
    #[error("loading panicked: {0}")]
    Panicked(String),
}
/// What a backend says, after its name where it does not begin with that.
pub(crate) fn of_backend(name: &str, error: &BackendError) -> String {
    let said = error.to_string();
    if said.starts_with(&format!("{name} ")) { said } else { format!("{name}: {said}") }
}
