//! When models are loaded: at the start, after a change, by request.

use std::time::Duration;

use clap::Args;

use super::limits::duration;

/// Looking costs a walk through the folders, or a question to the store.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// When models are loaded and unloaded.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct LoadingFlags {
    /// Serve the other models when one fails to load
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub(super) keep_going: Option<bool>,
    /// Listen before the models are ready, for pods with HTTP probes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub(super) listen_early: Option<bool>,
    /// Look for changes of models so often, and load them while serving [default: never]
    #[arg(long, value_parser = interval, value_name = "INTERVAL")]
    pub(super) poll: Option<Duration>,
    /// Load and unload models by request: POST /v2/repository/models/M/load and its like
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub(super) admin: Option<bool>,
    /// Where else, beside the sources named above, models that are loaded by request may lie; may be repeated
    #[arg(long, value_name = "URI")]
    pub(super) admin_root: Vec<String>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval < SHORTEST_POLL => Err(format!("expected at least {SHORTEST_POLL:?}")),
        interval => Ok(interval),
    }
}

impl LoadingFlags {
    /// What is named for nothing.
    pub(super) fn without_effect(&self) -> Option<String> {
        let is_lost = !self.admin_root.is_empty() && self.admin != Some(true);
        is_lost.then(|| "--admin-root has no effect without --admin".to_owned())
    }

    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            keep_going: self.keep_going.or(lower.keep_going),
            listen_early: self.listen_early.or(lower.listen_early),
            poll: self.poll.or(lower.poll),
            admin: self.admin.or(lower.admin),
            admin_root: if self.admin_root.is_empty() { lower.admin_root } else { self.admin_root },
        }
    }
}
