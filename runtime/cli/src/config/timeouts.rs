//! How long a connection may bring nothing, and how long it may last.

use std::time::Duration;

use clap::Args;

use super::limits::duration;

/// The timers of a connection, and of the work on a request.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct TimeoutFlags {
    /// From a request's first byte to the end of its headers [default: 30s]
    #[arg(long, value_parser = duration)]
    pub(super) header_timeout: Option<Duration>,
    /// A body that makes no progress for this long is given up [default: 30s]
    #[arg(long, value_parser = duration)]
    pub(super) body_timeout: Option<Duration>,
    /// A connection without requests is closed after this long [default: 120s]
    #[arg(long, value_parser = duration)]
    pub(super) idle_timeout: Option<Duration>,
    /// A connection is asked to end after about this long, within a tenth of it, so that clients find new pods [default:
    /// as long as it likes]
    #[arg(long, value_parser = some_time, value_name = "DURATION")]
    pub(super) max_connection_age: Option<Duration>,
    /// A run of a model is cut after this long, where its manifest does not say [default: 60s]
    #[arg(long, value_parser = some_time, value_name = "DURATION")]
    pub(super) max_run_time: Option<Duration>,
    /// A call of a plugin is cut after this long, where its manifest does not say [default: 10s]
    #[arg(long, value_parser = some_time, value_name = "DURATION")]
    pub(super) plugin_timeout: Option<Duration>,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("expected more than 0".to_owned()),
        time => Ok(time),
    }
}

impl TimeoutFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            header_timeout: self.header_timeout.or(lower.header_timeout),
            body_timeout: self.body_timeout.or(lower.body_timeout),
            idle_timeout: self.idle_timeout.or(lower.idle_timeout),
            max_connection_age: self.max_connection_age.or(lower.max_connection_age),
            max_run_time: self.max_run_time.or(lower.max_run_time),
            plugin_timeout: self.plugin_timeout.or(lower.plugin_timeout),
        }
    }
}
