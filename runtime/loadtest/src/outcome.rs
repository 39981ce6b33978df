//! How a request ended.

use std::fmt;

use tonic::Code;

/// Why a request has no answer that counts. The kinds are few, so that they can be counted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An answer with a status other than 2xx.
    Http(u16),
    /// A gRPC status other than OK.
    Grpc(Code),
    /// No whole answer in time, counted from the intended start.
    Timeout,
    /// No connection.
    Connect,
    /// A connection, but none that is trusted.
    Tls,
    /// The connection ended before the answer did.
    Lost,
    /// The answer was larger than is read.
    TooLarge,
    /// Never begun: as many requests as are allowed were waiting.
    Unsent,
    /// Not ended when the run was stopped early.
    Cut,
}

impl Failure {
    /// Whether the time that it took says something of the server's slowness: it was waited for, in vain.
    pub(crate) fn is_given_up(self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(formatter, "HTTP {status}"),
            Self::Grpc(code) => write!(formatter, "gRPC {code:?}"),
            Self::Timeout => formatter.write_str("timeout"),
            Self::Connect => formatter.write_str("no connection"),
            Self::Tls => formatter.write_str("no TLS"),
            Self::Lost => formatter.write_str("connection lost"),
            Self::TooLarge => formatter.write_str("answer too large"),
            Self::Unsent => formatter.write_str("never sent"),
            Self::Cut => formatter.write_str("cut by the end of the run"),
        }
    }
}

/// Bytes of an answer's body, or why there is none.
pub(crate) type Outcome = Result<u64, Failure>;
