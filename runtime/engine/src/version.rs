//! A loaded version: a model, a plugin around it, or a plugin alone; and what callers see of it.

use std::sync::Arc;

use corymb_core::{Plugin, Signature};
use tokio::sync::oneshot;

use crate::batch::Queue;
use crate::signals::VersionSignals;
use crate::waiting::Waiting;

/// A version that can answer.
pub(crate) struct Version {
    pub(crate) model: String,
    pub(crate) version: String,
    /// What clients see: the plugin's where there is one.
    pub(crate) signature: Signature,
    pub(crate) platform: &'static str,
    pub(crate) backend: &'static str,
    pub(crate) device: String,
    /// Lower-case names of request headers that the plugin sees.
    pub(crate) headers: Vec<String>,
    pub(crate) plugin: Option<Arc<dyn Plugin>>,
    /// Who waits for the plugin's turn on the compute pool.
    pub(crate) waiting: Waiting,
    /// None for a plugin that stands alone.
    pub(crate) queue: Option<Queue>,
    pub(crate) signals: Arc<VersionSignals>,
    /// Dropped with the version: tells who drains it that the last request has ended.
    pub(crate) _alive: oneshot::Sender<()>,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("model", &self.model).field("version", &self.version).finish_non_exhaustive()
    }
}
