//! What is wrong with a piece of JSON, before it is known which tensor of which row it belongs to.

use std::fmt::Write as _;

use corymb_core::{Code, Error};
use jiter::{JiterError, JiterErrorType, LinePosition, Peek};

/// Boxed, so that the result of reading one number stays small.
#[derive(Debug)]
pub(crate) struct Fault(Box<Kind>);

#[derive(Debug)]
enum Kind {
    /// Not JSON at all, or an object where a list must be.
    Json(JiterError),
    /// A value that its tensor cannot take, and the indices that lead to it, innermost first.
    Value { what: String, path: Vec<usize> },
    /// Known, but not offered, or another refusal that does not depend on where it was found.
    Refused(Error),
}

impl Fault {
    #[cold]
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Kind::Value { what: what.into(), path: Vec::new() }))
    }

    /// The same fault, one list further out.
    #[cold]
    pub(crate) fn at(mut self, index: usize) -> Self {
        if let Kind::Value { path, .. } = &mut *self.0 {
            path.push(index);
        }
        self
    }

    /// The same fault, of a value that is that member's.
    #[cold]
    pub(crate) fn of(mut self, member: &str) -> Self {
        if let Kind::Value { what, .. } = &mut *self.0 {
            *what = format!("`{member}` {what}");
        }
        self
    }

    /// The same fault in a text that begins `offset` bytes later.
    pub(crate) fn shifted(mut self, offset: usize) -> Self {
        if let Kind::Json(error) = &mut *self.0 {
            error.index += offset;
        }
        self
    }

    /// In the caller's terms. `place` names the tensor, e.g. `instance 2, input 'x'`; `body` is all of the JSON.
    pub(crate) fn into_error(self, place: &str, body: &[u8]) -> Error {
        match *self.0 {
            Kind::Json(error) => malformed(&error, body),
            Kind::Value { what, path } => {
                let mut message = place.to_owned();
                for index in path.iter().rev() {
                    let _ = write!(message, "[{index}]");
                }
                if !message.is_empty() {
                    message.push_str(": ");
                }
                message.push_str(&what);
                Error::new(Code::InvalidArgument, message)
            }
            Kind::Refused(error) if place.is_empty() => error,
            Kind::Refused(error) => Error { message: format!("{place}: {}", error.message), ..error },
        }
    }
}

impl From<Error> for Fault {
    #[cold]
    fn from(error: Error) -> Self {
        Self(Box::new(Kind::Refused(error)))
    }
}

impl From<JiterError> for Fault {
    #[cold]
    fn from(error: JiterError) -> Self {
        Self(Box::new(Kind::Json(error)))
    }
}

/// The message for a body that is not the JSON it should be.
#[cold]
pub(crate) fn malformed(error: &JiterError, body: &[u8]) -> Error {
    if body.trim_ascii().is_empty() {
        return Error::new(Code::InvalidArgument, "the body is empty; expected JSON");
    }
    let position = LinePosition::find(body, error.index);
    let message = match &error.error_type {
        JiterErrorType::JsonError(error) => format!("the body is not valid JSON: {error} at {position}"),
        JiterErrorType::WrongType { .. } => format!("the JSON does not fit: {} at {position}", error.error_type),
    };
    Error::new(Code::InvalidArgument, message)
}

/// What stands there, in words; none where no JSON value can begin so.
pub(crate) fn found(peek: Peek) -> Option<&'static str> {
    Some(match peek {
        Peek::Null => "null",
        Peek::True | Peek::False => "a boolean",
        Peek::String => "a text",
        Peek::Array => "a list",
        Peek::Object => "an object",
        _ if peek.is_num() => "a number",
        _ => return None,
    })
}
