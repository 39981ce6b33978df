//! What a plugin answers when it cannot do what it was asked.

use std::fmt;

use crate::ErrorCode;
use crate::bindings::corymb::plugin::types;

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, as the caller sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// Decides the status of the answer.
    pub code: ErrorCode,
    /// Shown to the caller, cut at 4 KiB: name the tensor, what was given and what was expected.
    pub message: String,
    /// For the server's log only.
    pub details: Option<String>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $code:ident,)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(ErrorCode::$code, message)
        }
    )*};
}

impl Error {
    /// A failure with nothing but a code and a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: None }
    }

    constructors! {
        /// The request is wrong and will stay wrong.
        invalid_argument => InvalidArgument,
        /// The caller did not say who it is.
        unauthenticated => Unauthenticated,
        /// The caller may not do this.
        permission_denied => PermissionDenied,
        /// What the request names is not there.
        not_found => NotFound,
        /// A limit of size was exceeded.
        too_large => TooLarge,
        /// The bytes are not of a type that is understood.
        unsupported_media_type => UnsupportedMediaType,
        /// No room now; trying later may help.
        overloaded => Overloaded,
        /// A fault of the plugin, or of what it relies on.
        internal => Internal,
        /// Known, but not offered.
        unimplemented => Unimplemented,
        /// What the plugin relies on is not there now.
        unavailable => Unavailable,
        /// There was not enough time.
        deadline_exceeded => DeadlineExceeded,
    }

    /// The same failure with a text for the log.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<types::Error> for Error {
    fn from(types::Error { code, message, details }: types::Error) -> Self {
        Self { code, message, details }
    }
}

impl From<Error> for types::Error {
    fn from(Error { code, message, details }: Error) -> Self {
        Self { code, message, details }
    }
}
