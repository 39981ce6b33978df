//! When models are loaded: at the start, after a change, by request.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use corymb_hardware::Hardware;

use super::limits::{bytes, duration};

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
    /// Load each model when the first request names it, and unload those that were not used for longest to make room
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub(super) load_on_demand: Option<bool>,
    /// Memory that models may take together which are loaded on demand [default: half of the memory limit]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(super) model_memory: Option<ByteSize>,
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
    pub(super) fn without_effect(&self) -> Vec<String> {
        let on_demand = self.load_on_demand == Some(true);
        [
            (!self.admin_root.is_empty() && self.admin != Some(true), "--admin-root has no effect without --admin"),
            (self.model_memory.is_some() && !on_demand, "--model-memory has no effect without --load-on-demand"),
            (
                self.poll.is_some() && on_demand,
                "--poll has no effect with --load-on-demand: models are looked for when they are asked for",
            ),
        ]
        .into_iter()
        .filter(|(is_lost, _)| *is_lost)
        .map(|(_, words)| words.to_owned())
        .collect()
    }

    /// Bytes that models which are loaded on demand may take together; none where they are loaded before.
    pub(super) fn budget(&self, hardware: &Hardware) -> Option<u64> {
        let half = || hardware.memory.limit().map_or(u64::MAX, |limit| limit.limit_bytes / 2);
        (self.load_on_demand == Some(true)).then(|| self.model_memory.map_or_else(half, |size| size.as_u64()))
    }

    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            keep_going: self.keep_going.or(lower.keep_going),
            listen_early: self.listen_early.or(lower.listen_early),
            poll: self.poll.or(lower.poll),
            load_on_demand: self.load_on_demand.or(lower.load_on_demand),
            model_memory: self.model_memory.or(lower.model_memory),
            admin: self.admin.or(lower.admin),
            admin_root: if self.admin_root.is_empty() { lower.admin_root } else { self.admin_root },
        }
    }
}
