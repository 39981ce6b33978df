//! How long a connection may bring nothing.

use std::time::Duration;

use clap::Args;

/// The timers of a connection.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TimeoutFlags {
    /// From a request's first byte to the end of its headers [default: 30s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) header_timeout: Option<Duration>,
    /// A body that makes no progress for this long is given up [default: 30s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) body_timeout: Option<Duration>,
    /// A connection without requests is closed after this long [default: 120s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) idle_timeout: Option<Duration>,
}

impl TimeoutFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            header_timeout: self.header_timeout.or(lower.header_timeout),
            body_timeout: self.body_timeout.or(lower.body_timeout),
            idle_timeout: self.idle_timeout.or(lower.idle_timeout),
        }
    }
}
