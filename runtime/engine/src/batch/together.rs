//! One run for several requests, and what becomes of them where there can be none.

use std::sync::Arc;

use corymb_core::{RunOptions, Tensors, UNCOUNTED};

use super::job::{Job, Together};
use super::plan::Part;
use super::{LOST, Replica, Shared};
use crate::error::EngineError;
use crate::spans::Spans;

impl Shared {
    /// One run for all. When it fails each is tried alone, once, so that one bad request does not fail its neighbours. So are those
    /// for whose inputs side by side there is no memory.
    pub(super) fn run_together(&self, replica: Replica, parts: &[Part<Arc<Job>>]) -> Option<Replica> {
        let together = Together::of(parts);
        let inputs: Vec<Tensors> = parts.iter().map(|part| part.request.inputs(part.rows.as_ref())).collect();
        let (copied, mut holder) = (inputs.iter().map(Tensors::byte_len).sum::<usize>() as u64, self.memory.holder());
        if copied > UNCOUNTED && holder.grow(copied).is_err() {
            return self.run_each(Some(replica), parts);
        }
        let outputs = parts.first().map(|part| part.request.run.outputs.clone()).unwrap_or_default();
        let options = RunOptions { outputs, cancel: together.cancel.clone(), ends: self.ends() };
        let spans: Vec<&Spans> = parts.iter().map(|part| &part.request.run.spans).collect();
        let (mut back, result) = self.run_once(replica, &inputs, &options, &spans);
        drop(holder);
        let answer = |part: &Part<Arc<Job>>, result| part.request.take(part.rows.as_ref(), result);
        match result {
            Ok(answers) if answers.len() == parts.len() => {
                parts.iter().zip(answers).for_each(|(part, outputs)| answer(part, Ok(outputs)));
            }
            Ok(answers) => {
                let details = format!("the backend answered {} of {} requests", answers.len(), parts.len());
                parts.iter().for_each(|part| answer(part, Err(self.internal(details.clone()))));
            }
            // Alone each would have as long again.
            Err(EngineError::RunTooLong { .. }) => parts.iter().for_each(|part| answer(part, Err(self.too_long()))),
            Err(error) => {
                tracing::debug!(model = self.name, requests = parts.len(), %error, "a run failed; each is tried alone");
                back = self.run_each(back, parts);
            }
        }
        back
    }

    fn run_each(&self, mut replica: Option<Replica>, parts: &[Part<Arc<Job>>]) -> Option<Replica> {
        for Part { request, rows } in parts.iter().filter(|part| !part.request.abandoned()) {
            match replica.take() {
                Some(taken) => replica = self.run_alone(taken, request, rows.as_ref()),
                None => request.take(rows.as_ref(), Err(self.internal(LOST.to_owned()))),
            }
        }
        replica
    }
}
