//! What goes wrong with a request, and whether to ask again.

use std::error::Error;
use std::time::Duration;

/// Why a request brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// In one line, without secrets.
    pub(crate) reason: String,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Ask again, not before the server's own wish.
    Passing(Option<Duration>),
    /// The object is another one than it was.
    Changed,
    /// Nothing is there.
    Missing,
    /// Asking again would bring the same.
    Refused,
    /// It was asked for long enough.
    Silent,
}

impl Fault {
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Passing(None), reason: reason.into() }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Refused, reason: reason.into() }
    }

    pub(crate) fn changed(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Changed, reason: reason.into() }
    }

    /// A request without an answer. reqwest's own text names the URL, query included, and stops at "error sending
    /// request": the causes below say what happened.
    pub(crate) fn transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let reason = causes(&error);
        // A certificate does not become valid by waiting.
        if error.is_builder() || error.is_redirect() || reason.contains("certificate") {
            return Self::refused(reason);
        }
        Self::passing(reason)
    }
}

/// The innermost causes of an error, outermost left out, in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        words.push(error.to_string().replace('\n', " "));
        next = error.source();
    }
    // The first says only that a request failed, and what wraps another error repeats it.
    let mut kept: Vec<String> = Vec::new();
    for word in words.into_iter().rev() {
        if !kept.iter().any(|inner| word.contains(inner.as_str())) || kept.is_empty() {
            kept.push(word);
        }
        if kept.len() == 2 {
            break;
        }
    }
    kept.reverse();
    kept.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_said_once() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(causes(&error), "inner");
    }
}
