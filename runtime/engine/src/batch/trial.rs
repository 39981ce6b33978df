//! Runs that nobody asked for: to measure what a model can do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use corymb_core::{BackendError, RunOptions, Tensors};

use super::{Queue, Shared, dispatch};
use crate::pool::Panicked;

impl Queue {
    /// Runs requests together on an idle instance, if nobody waits for one; unseen by the signals.
    pub(crate) fn try_run(&self, batch: &[Tensors]) -> Option<(Duration, Result<Vec<Tensors>, String>)> {
        let shared = &self.shared;
        let taken = dispatch::spare(shared)?;
        Some(dispatch::run_taken(shared, taken, |mut replica| {
            let begin = Instant::now();
            let options = shared.trial_options();
            let result = catch_unwind(AssertUnwindSafe(|| replica.instance.run(batch, &options)));
            let took = begin.elapsed();
            match result {
                Ok(result) => (Some(replica), (took, result.map_err(|error| error.to_string()))),
                Err(payload) => {
                    let Panicked(message) = Panicked::from_payload(payload.as_ref());
                    (shared.in_place_of(replica), (took, Err(format!("the model panicked: {message}"))))
                }
            }
        }))
    }

    /// The fastest of some runs of an instance with so many threads.
    pub(crate) fn try_wide(&self, inputs: &Tensors, threads: usize, runs: usize) -> Result<Duration, String> {
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let mut instance = self.model().instance(threads)?;
            let mut best = Duration::MAX;
            for run in 0..=runs {
                let begin = Instant::now();
                instance.run(std::slice::from_ref(inputs), &self.shared.trial_options())?;
                if run > 0 {
                    best = best.min(begin.elapsed());
                }
            }
            Ok::<_, BackendError>(best)
        }));
        let tried = tried.map_err(|payload| Panicked::from_payload(payload.as_ref()).0)?;
        tried.map_err(|error| error.to_string())
    }

    /// Nothing is measured any more, and what is being measured is stopped: requests that are still there go on alone.
    pub(crate) fn end_trials(&self) {
        self.shared.trials.cancel();
        self.shared.trials_ended.notify_waiters();
    }

    /// Until nothing is measured any more.
    pub(crate) async fn trials_ended(&self) {
        // Made before the look: whoever cancels after it wakes this.
        let ended = self.shared.trials_ended.notified();
        if !self.shared.trials.is_cancelled() {
            ended.await;
        }
    }
}

impl Shared {
    /// Runs that nobody waits for have no more time than others.
    fn trial_options(&self) -> RunOptions {
        RunOptions { cancel: self.trials.clone(), ends: self.ends(), ..RunOptions::default() }
    }
}
