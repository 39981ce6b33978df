//! A loaded version: a model, a plugin around it, or a plugin alone; and what callers see of it.

use std::sync::{Arc, Mutex, PoisonError};

use corymb_core::{Plugin, Signature};
use corymb_repository::Held;
use tokio::sync::oneshot;

use crate::batch::{Queue, Rows};
use crate::capacity::Capacity;
use crate::division::Division;
use crate::pool::Share;
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
    /// The backend's own version.
    pub(crate) engine: String,
    pub(crate) device: String,
    /// Lower-case names of request headers that the plugin sees.
    pub(crate) headers: Vec<String>,
    pub(crate) plugin: Option<Arc<dyn Plugin>>,
    /// Of the compute pool.
    pub(crate) share: Share,
    /// Who waits for the plugin's turn on the compute pool.
    pub(crate) waiting: Waiting,
    /// None for a plugin that stands alone.
    pub(crate) queue: Option<Queue>,
    pub(crate) signals: Arc<VersionSignals>,
    pub(crate) capacity: Arc<Capacity>,
    /// The priority of requests that do not say.
    pub(crate) priority: u64,
    /// Why this backend and device.
    pub(crate) reason: String,
    /// What is done with rows, and why.
    pub(crate) division: Division,
    /// What was asked of the engine, for records of what was measured.
    pub(crate) settings: String,
    /// Whether the manifest has a backend run what it is not known to compute rightly.
    pub(crate) unverified: bool,
    /// What is known of sharing runs and of several threads, in words.
    pub(crate) findings: Mutex<Findings>,
    /// Its files, which further instances are made from.
    pub(crate) _held: Held,
    /// Dropped with the version: tells who drains it that the last request has ended.
    pub(crate) _alive: oneshot::Sender<()>,
}

/// What warm-up found, for the metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) batching: String,
    pub(crate) alone: String,
}

impl Version {
    pub(crate) fn findings(&self) -> Findings {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows of one run at most, where requests share runs; else 1.
    pub(crate) fn largest_batch(&self) -> usize {
        match self.queue.as_ref().map(Queue::rows) {
            Some(Rows::Together { max, .. }) => max,
            _ => 1,
        }
    }

    pub(crate) fn set_batching(&self, words: String) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).batching = words;
    }

    /// From now on runs are asked for by callers.
    pub(crate) fn end_warm_up(&self) {
        self.signals.end_warm_up();
        self.capacity.end_warm_up();
        if let Some(queue) = &self.queue {
            queue.end_warm_up();
        }
    }

    /// It answers no more: what it is measured by would keep it.
    pub(crate) fn end_trials(&self) {
        if let Some(queue) = &self.queue {
            queue.end_trials();
        }
    }

    /// Whether this was news.
    pub(crate) fn set_alone(&self, words: String) -> bool {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let news = findings.alone != words;
        findings.alone = words;
        news
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("model", &self.model).field("version", &self.version).finish_non_exhaustive()
    }
}
