//! The bound of a model's queue, and who waits in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::EngineError;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// Requests that may wait.
    pub(crate) max: usize,
    /// How long one may wait.
    pub(crate) timeout: Duration,
    /// How long a run may take.
    pub(crate) run_time: Duration,
}

/// Requests of a model that wait for a worker of the compute pool.
#[derive(Debug)]
pub(crate) struct Waiting {
    model: String,
    limits: QueueLimits,
    count: Arc<AtomicUsize>,
}

/// A place in the queue, given back when its turn comes or when it is dropped, whichever is first.
#[derive(Debug)]
pub(crate) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    count: Arc<AtomicUsize>,
    held: AtomicBool,
}

impl Held {
    fn leave(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Place {
    /// To be called when its turn comes. Whoever waits keeps the place: work that is given up stays in the pool until a
    /// worker comes across it.
    pub(crate) fn turn(&self) -> impl FnOnce() + Send + use<> {
        let held = Arc::clone(&self.0);
        move || held.leave()
    }
}

impl Waiting {
    pub(crate) fn new(model: &str, limits: QueueLimits) -> Self {
        Self { model: model.to_owned(), limits, count: Arc::default() }
    }

    pub(crate) fn limits(&self) -> QueueLimits {
        self.limits
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) -> Result<Place, EngineError> {
        let room = |count: usize| (count < self.limits.max).then_some(count + 1);
        match self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(Place(Arc::new(Held { count: Arc::clone(&self.count), held: AtomicBool::new(true) }))),
            Err(count) => Err(full(&self.model, count)),
        }
    }

    pub(crate) fn timed_out(&self) -> EngineError {
        timed_out(&self.model, self.limits)
    }
}

/// The queue of `model` has no place left.
pub(crate) fn full(model: &str, count: usize) -> EngineError {
    EngineError::Overloaded { what: format!("{count} requests already wait for model '{model}'") }
}

/// A request has waited as long as it may.
pub(crate) fn timed_out(model: &str, limits: QueueLimits) -> EngineError {
    EngineError::Overloaded { what: format!("model '{model}' had nobody free for {:?}", limits.timeout) }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}
