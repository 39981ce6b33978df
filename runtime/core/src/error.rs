//! What went wrong, said in the caller's terms: one [`Code`] decides the status on every wire.

use std::fmt;
use std::time::Duration;

use crate::signature::SignatureError;
use crate::tensor::TensorError;

/// The kind of a failure. The server's status table maps it to HTTP and gRPC; nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong and will stay wrong.
    InvalidArgument,
    /// The caller did not say who it is.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// No such model, version or resource.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// A limit of size was exceeded.
    TooLarge,
    /// The bytes are not of a type that is understood.
    UnsupportedMediaType,
    /// No room now; trying later may help.
    Overloaded,
    /// The caller went away.
    Cancelled,
    /// A fault of the server, a backend or a plugin.
    Internal,
    /// Known, but not offered here.
    Unimplemented,
    /// The model is not ready yet, or failed to load.
    NotReady,
    /// The version is being unloaded and has no successor.
    Draining,
    /// The deadline passed before the answer was there.
    DeadlineExceeded,
}

impl Code {
    /// The word for logs and the `outcome` attribute of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
            Self::Unimplemented => "unimplemented",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }
}

/// A failure as a caller sees it, free of the crate that raised it: what crosses a seam between models.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Decides the status.
    pub code: Code,
    /// Shown to the caller: names what was given and what was expected, nothing internal.
    pub message: String,
    /// For the log only.
    pub details: Option<String>,
    /// With [`Code::Overloaded`]: when trying again makes sense.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// A failure with nothing but a code and a message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None, retry_after: None }
    }

    /// The same failure with a text for the log.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl From<SignatureError> for Error {
    fn from(error: SignatureError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<TensorError> for Error {
    fn from(error: TensorError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

/// Why a backend could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackendError {
    /// The backend cannot work on this machine: a library or device is missing. Install it or name another backend.
    #[error("{backend} is not usable here: {reason}")]
    Unavailable {
        /// The backend's name.
        backend: &'static str,
        /// In words a user can act on.
        reason: String,
    },
    /// The file is not a model that any engine could load. Replace the file.
    #[error("{0}")]
    InvalidModel(String),
    /// The model is fine but needs what this backend lacks. Name another backend.
    #[error("{0}")]
    Unsupported(String),
    /// The model holds a node that may end the process or keep it busy, and [`crate::LoadOptions::hazards`] was not set. Try it
    /// in a process of its own.
    #[error("{0}")]
    Hazardous(Hazard),
    /// The process of its own that the model ran in ended, or was ended since it did not come back.
    #[error("{how}")]
    Crashed {
        /// For the log: how it ended, and what it said last.
        how: String,
        /// By whom.
        by: Ending,
    },
    /// The process of its own that the model runs in ended too often: it is started again after this time at the earliest.
    #[error("its process ended and is started again in {} ms", .0.as_millis() + 1)]
    Restarting(Duration),
    /// The process of its own that the model ran in ended, and its files are not those any more that were loaded and checked.
    #[error("its process ended, and its files have changed since it was loaded: load it again")]
    Changed,
    /// The inputs do not fit the model. The caller's mistake.
    #[error("{0}")]
    InvalidInput(String),
    /// The inputs are of the right dtypes and shapes, but the engine cannot compute what they hold. The caller's mistake, as far
    /// as is known.
    #[error("{0}")]
    InvalidValues(String),
    /// A run needs more memory than is to be had.
    #[error("a run {0}")]
    Memory(Shortage),
    /// The run was stopped because nobody waits for it.
    #[error("the run was cancelled")]
    Cancelled,
    /// The run was stopped when it had to have ended.
    #[error("the run took too long")]
    TimedOut,
    /// The engine failed. The text is for the log.
    #[error("{0}")]
    Failed(String),
}

impl BackendError {
    /// How callers see it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::InvalidInput(_) | Self::InvalidValues(_) | Self::Crashed { by: Ending::Memory, .. } => {
                Code::InvalidArgument
            }
            Self::Memory(shortage) => shortage.code(),
            Self::Cancelled => Code::Cancelled,
            Self::TimedOut | Self::Crashed { by: Ending::Late, .. } => Code::DeadlineExceeded,
            Self::Restarting(_) | Self::Changed => Code::NotReady,
            Self::Unavailable { .. }
            | Self::InvalidModel(_)
            | Self::Unsupported(_)
            | Self::Hazardous(_)
            | Self::Crashed { .. }
            | Self::Failed(_) => Code::Internal,
        }
    }
}

/// What ended a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What it ran.
    Itself,
    /// What it ran, which wanted more memory than there is for a run.
    Memory,
    /// Whoever waited for it, and told it to stop before.
    Late,
    /// Somebody from outside: the kernel, where memory has run out.
    Outside,
}

/// A node of a model that may end a process, or keep it busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// As `'name' (Operator)`.
    pub node: String,
    /// What it may do.
    pub danger: Danger,
    /// Tells graphs apart, and engines: what was seen of one tells nothing of another.
    pub digest: String,
}

/// What a node may do to the process that loads or runs its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// It is known to have ended processes; the backend keeps from it all that did. One trial shows whether that is all.
    Guarded,
    /// It is known to have ended processes, and the backend cannot keep from it all that did.
    Unguarded,
    /// What engines compute of it at load may take more time or memory than there is. One trial shows whether it does.
    Loading,
    /// It makes lists or texts as long as the values of a request say, in memory that the engine does not count.
    Uncounted,
}

impl Danger {
    /// Whether a model that has come through a trial may still cost the process that runs it.
    #[must_use]
    pub const fn stays(self) -> bool {
        matches!(self, Self::Unguarded | Self::Uncounted)
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node;
        match self.danger {
            Danger::Guarded => write!(f, "the node {node} may end the process that runs it"),
            Danger::Unguarded => write!(f, "the node {node} cannot be kept from ending the process that runs it"),
            Danger::Uncounted => {
                write!(
                    f,
                    "the node {node} may take as much memory as the values of a request say, and nobody counts it"
                )
            }
            Danger::Loading => write!(f, "the node {node} may take loading more time or memory than there is"),
        }
    }
}

/// Why memory is not to be had: a sentence without its subject. `bytes` are what one holder would have with what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// There is never so much.
    Never {
        /// What is asked for.
        bytes: u64,
        /// All there is.
        limit: u64,
    },
    /// Others hold it now.
    Now {
        /// What is asked for.
        bytes: u64,
        /// All there is.
        limit: u64,
    },
}

impl Shortage {
    /// How callers see it: smaller requests can be served, or the same one later.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Never { .. } => Code::TooLarge,
            Self::Now { .. } => Code::Overloaded,
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never { bytes, limit } => {
                write!(f, "needs {bytes} bytes of memory; at most {limit} are there for one request")
            }
            Self::Now { bytes, limit } => {
                write!(f, "needs {bytes} bytes of memory; other requests hold most of the {limit} that are there")
            }
        }
    }
}

/// Why a plugin, or its host, could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PluginError {
    /// The component cannot be loaded: not a component, a forbidden import, a signature that does not fit the model.
    #[error("{0}")]
    Load(String),
    /// The plugin answered with an error of its own.
    #[error(transparent)]
    Answered(Error),
    /// The plugin trapped. The text is for the log; the caller learns that the plugin failed.
    #[error("plugin {plugin} failed")]
    Trap {
        /// The plugin's name.
        plugin: String,
        /// The trap and its backtrace.
        details: String,
    },
    /// The plugin used up the time it, or its request, had.
    #[error("plugin {plugin} did not finish within {limit:?}")]
    Deadline {
        /// The plugin's name.
        plugin: String,
        /// The time it was given.
        limit: Duration,
    },
    /// The plugin asked for more than it may have: memory, handles, bytes.
    #[error("plugin {plugin} exceeded its limit: {what}")]
    Limit {
        /// The plugin's name.
        plugin: String,
        /// Which limit.
        what: String,
    },
    /// The plugin, or what the host does for it, needs more memory than is to be had.
    #[error("plugin {plugin} {shortage}")]
    Memory {
        /// The plugin's name.
        plugin: String,
        /// What was asked for.
        shortage: Shortage,
    },
    /// The plugin answered something that its own description or the contract forbids.
    #[error("plugin {plugin} broke its contract: {what}")]
    Contract {
        /// The plugin's name.
        plugin: String,
        /// What was promised and what came.
        what: String,
    },
    /// All instances are in use.
    #[error("plugin {plugin} has no free instance")]
    Exhausted {
        /// The plugin's name.
        plugin: String,
    },
    /// The caller went away while the plugin ran.
    #[error("the request was cancelled")]
    Cancelled,
}

impl PluginError {
    /// How callers see it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Answered(error) => error.code,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Exhausted { .. } => Code::Overloaded,
            Self::Memory { shortage, .. } => shortage.code(),
            Self::Cancelled => Code::Cancelled,
            Self::Load(_) | Self::Trap { .. } | Self::Limit { .. } | Self::Contract { .. } => Code::Internal,
        }
    }

    /// What is for the log only.
    #[must_use]
    pub fn details(&self) -> Option<&str> {
        match self {
            Self::Answered(error) => error.details.as_deref(),
            Self::Trap { details, .. } => Some(details),
            _ => None,
        }
    }
}
