//! How the server stops.

use std::time::Duration;

use clap::Args;

use super::limits::duration;

/// The times that stopping may take.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct DrainFlags {
    /// How long to go on serving after the signal to stop, while endpoints disappear [default: 0s]
    #[arg(long, value_parser = duration)]
    pub(super) drain_delay: Option<Duration>,
    /// How long stopping may take in all [default: 25s]
    #[arg(long, value_parser = duration)]
    pub(super) drain_timeout: Option<Duration>,
}

impl DrainFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            drain_delay: self.drain_delay.or(lower.drain_delay),
            drain_timeout: self.drain_timeout.or(lower.drain_timeout),
        }
    }
}
