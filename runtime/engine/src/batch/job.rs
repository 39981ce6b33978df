//! One request in a model's queue, and its answer, which may come in pieces.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use corymb_core::{BatchAxes, CancelFlag, DType, Tensors};
use tokio::sync::oneshot;

use super::plan::{Candidate, Part};
use crate::error::EngineError;
use crate::spans::Spans;

/// What a request asks of the model.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) inputs: Tensors,
    pub(crate) outputs: Vec<String>,
    pub(crate) cancel: CancelFlag,
    pub(crate) deadline: Option<Instant>,
    /// Lower goes first.
    pub(crate) priority: u64,
    /// Where the spans of its stages go.
    pub(crate) spans: Spans,
}

/// The names, datatypes and shapes of a request's inputs.
pub(crate) type Shapes = Vec<(String, DType, Vec<usize>)>;

pub(super) fn shapes_of(inputs: &Tensors) -> Shapes {
    inputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.dtype(), tensor.shape().to_vec())).collect()
}

pub(super) type Reply = oneshot::Receiver<Result<Tensors, EngineError>>;

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) run: Run,
    /// Where its rows are; none where it runs whole.
    axes: Option<Arc<BatchAxes>>,
    pub(super) arrived: Instant,
    answer: Mutex<Answer>,
}

#[derive(Debug)]
struct Answer {
    /// With the row each begins at.
    pieces: Vec<(usize, Tensors)>,
    rows_left: usize,
    reply: Option<oneshot::Sender<Result<Tensors, EngineError>>>,
    /// The run with others that it is part of.
    together: Option<Arc<Together>>,
}

/// A run that serves several requests: it is stopped when the last of them has gone.
#[derive(Debug)]
pub(super) struct Together {
    waiting: AtomicUsize,
    pub(super) cancel: CancelFlag,
}

impl Together {
    pub(super) fn of(parts: &[Part<Arc<Job>>]) -> Arc<Self> {
        let together = Arc::new(Self { waiting: AtomicUsize::new(parts.len()), cancel: CancelFlag::new() });
        for part in parts {
            part.request.answer().together = Some(Arc::clone(&together));
        }
        together
    }
}

impl Candidate for Arc<Job> {
    fn fits(&self, other: &Self) -> bool {
        let (one, two) = (&self.run, &other.run);
        let fit = |axes: &Arc<BatchAxes>| axes.fit(&one.inputs, &two.inputs);
        one.outputs == two.outputs && self.axes.as_ref().is_some_and(fit)
    }
}

impl Job {
    /// A request of so many rows, none where it runs whole, and where its answer will arrive.
    pub(super) fn new(run: Run, rows: Option<(usize, Arc<BatchAxes>)>, arrived: Instant) -> (Arc<Self>, Reply) {
        let (rows, axes) = rows.unzip();
        let (reply, answer) = oneshot::channel();
        let answer_so_far =
            Answer { pieces: Vec::new(), rows_left: rows.unwrap_or(1), reply: Some(reply), together: None };
        (Arc::new(Self { run, axes, arrived, answer: Mutex::new(answer_so_far) }), answer)
    }

    pub(super) fn abandoned(&self) -> bool {
        self.run.cancel.is_cancelled() || self.answer().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Whoever waited has gone.
    pub(super) fn abandon(&self) {
        if let Some(together) = self.answer().together.take()
            && together.waiting.fetch_sub(1, Ordering::Relaxed) == 1
        {
            together.cancel.cancel();
        }
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inputs of some rows, none for all: nothing is copied.
    pub(super) fn inputs(&self, rows: Option<&Range<usize>>) -> Tensors {
        match (rows, &self.axes) {
            (Some(rows), Some(axes)) => axes.take(&self.run.inputs, rows),
            _ => self.run.inputs.clone(),
        }
    }

    /// Takes the result of a run of `rows`, none for all; answers when it was the last, or an error.
    pub(super) fn take(&self, rows: Option<&Range<usize>>, result: Result<Tensors, EngineError>) {
        let mut answer = self.answer();
        answer.together = None;
        let result = match (result, rows) {
            (Ok(outputs), Some(rows)) => {
                answer.pieces.push((rows.start, outputs));
                answer.rows_left = answer.rows_left.saturating_sub(rows.len());
                if answer.rows_left > 0 {
                    return;
                }
                let mut pieces = std::mem::take(&mut answer.pieces);
                pieces.sort_by_key(|(start, _)| *start);
                self.join(pieces.into_iter().map(|(_, outputs)| outputs).collect())
            }
            (result, _) => result,
        };
        if let Some(reply) = answer.reply.take() {
            let _ = reply.send(result);
        }
    }

    /// The outputs of some rows each as the outputs of the whole: one copy.
    fn join(&self, mut pieces: Vec<Tensors>) -> Result<Tensors, EngineError> {
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        let joined = self.axes.as_ref().and_then(|axes| axes.join_outputs(&pieces));
        joined.ok_or_else(|| EngineError::Internal {
            model: None,
            details: format!("the outputs of some rows do not fit to those of others: {pieces:?}"),
        })
    }
}
