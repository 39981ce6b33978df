//! Runs that nobody asked for: to measure what a model can do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use corymb_core::{BackendError, RunOptions, Tensors};

use super::{Queue, dispatch};
use crate::pool::Panicked;

impl Queue {
    /// Runs requests together on an idle instance, if nobody waits for one; unseen by the signals.
    pub(crate) fn try_run(&self, batch: &[Tensors]) -> Option<(Duration, Result<Vec<Tensors>, String>)> {
        let shared = &self.shared;
        let taken = dispatch::spare(shared)?;
        Some(dispatch::run_taken(shared, taken, |mut replica| {
            let begin = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| replica.instance.run(batch, &RunOptions::default())));
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
                instance.run(std::slice::from_ref(inputs), &RunOptions::default())?;
                if run > 0 {
                    best = best.min(begin.elapsed());
                }
            }
            Ok::<_, BackendError>(best)
        }));
        let tried = tried.map_err(|payload| Panicked::from_payload(payload.as_ref()).0)?;
        tried.map_err(|error| error.to_string())
    }
}
