//! What the connections of a run share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::call::Call;
use crate::plan::Plan;
use crate::record::Recorder;

/// One per run.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) recorder: Recorder,
    /// No request is begun at or after this.
    pub(crate) end: Instant,
    stopped: AtomicBool,
    turn: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(plan: Plan, recorder: Recorder, end: Instant) -> Self {
        Self { plan, recorder, end, stopped: AtomicBool::new(false), turn: AtomicUsize::new(0) }
    }

    /// The next request in turn.
    pub(crate) fn call(&self) -> &Call {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.plan.calls[turn % self.plan.calls.len()]
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// No request is begun from now on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}
