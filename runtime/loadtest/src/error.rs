//! Why a run ends without a report.

use thiserror::Error;

/// Why there is no report.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LoadError {
    #[error("'{url}': {reason}")]
    Target { url: String, reason: String },
    #[error("the certificates that are trusted: {0}")]
    Certificates(String),
    #[error("the request cannot be sent: {0} is not valid")]
    Request(String),
    #[error("{0}")]
    Plan(String),
    #[error("the load generator failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}
