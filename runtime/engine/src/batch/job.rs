//! One request in a model's queue, and its answer, which may come in pieces.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use corymb_core::{BatchAxes, CancelFlag, DType, Holder, Shortage, Tensor, Tensors, UNCOUNTED};
use tokio::sync::oneshot;

use super::plan::{Candidate, Part};
use crate::error::EngineError;
use crate::spans::Spans;

/// What a tensor of a piece takes beside its elements, in bytes: its name, its shape, and what lies around blocks of memory.
const PIECE: u64 = 384;

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
    /// What the pieces take, and the answer that is made of them, as far as that is worth counting.
    memory: Option<Holder>,
    /// The same as far as it is there, in bytes.
    needed: u64,
    rows_left: usize,
    reply: Option<oneshot::Sender<Result<Tensors, EngineError>>>,
    /// The run with others that it is part of.
    together: Option<Arc<Together>>,
    /// When its present run has to end.
    run_ends: Option<Instant>,
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

impl Answer {
    /// Holds what one more piece takes; with the first, what all are expected to, so that what cannot be is refused at once.
    fn hold(&mut self, piece: &Tensors, rows: usize) -> Result<(), Shortage> {
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let bytes = piece.byte_len() as u64;
        // What is large is held by the piece itself, see `Holder::keep_with_tensors`.
        let own = if bytes > UNCOUNTED { 0 } else { bytes + PIECE * piece.len() as u64 };
        let pieces = if self.pieces.is_empty() { self.rows_left.div_ceil(rows.max(1)) } else { 1 };
        let needed = self.needed.saturating_add((own + bytes).saturating_mul(pieces as u64));
        self.needed += own + bytes;
        if needed > UNCOUNTED.max(memory.bytes()) { memory.grow(needed - memory.bytes()) } else { Ok(()) }
    }

    /// The whole answer, which is held until it is dropped.
    fn keep(&mut self, joined: Tensors) -> Tensors {
        let Some(memory) = self.memory.take() else { return joined };
        let (names, tensors): (Vec<String>, Vec<Tensor>) = joined.into_iter().unzip();
        names.into_iter().zip(memory.keep_with_tensors(tensors)).collect()
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
    pub(super) fn new(
        run: Run,
        rows: Option<(usize, Arc<BatchAxes>)>,
        arrived: Instant,
        memory: Holder,
    ) -> (Arc<Self>, Reply) {
        let (rows, axes) = rows.unzip();
        let (reply, answer) = oneshot::channel();
        let answer_so_far = Answer {
            pieces: Vec::new(),
            memory: Some(memory),
            needed: 0,
            rows_left: rows.unwrap_or(1),
            reply: Some(reply),
            together: None,
            run_ends: None,
        };
        (Arc::new(Self { run, axes, arrived, answer: Mutex::new(answer_so_far) }), answer)
    }

    /// A run of it, or of some of its rows, begins, and has to end then.
    pub(super) fn begin(&self, ends: Option<Instant>) {
        self.answer().run_ends = ends;
    }

    /// When the run has to end that began last, and has not ended.
    pub(super) fn run_ends(&self) -> Option<Instant> {
        self.answer().run_ends
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
        answer.run_ends = None;
        let held = match (&result, rows) {
            (Ok(outputs), Some(rows)) => answer.hold(outputs, rows.len()),
            _ => Ok(()),
        };
        let held = held.map_err(|shortage| EngineError::Memory { what: "its answer, made of many runs,", shortage });
        let result = match (held.and(result), rows) {
            (Ok(outputs), Some(rows)) => {
                answer.pieces.push((rows.start, outputs));
                answer.rows_left = answer.rows_left.saturating_sub(rows.len());
                if answer.rows_left > 0 {
                    return;
                }
                let mut pieces = std::mem::take(&mut answer.pieces);
                pieces.sort_by_key(|(start, _)| *start);
                let joined = self.join(pieces.into_iter().map(|(_, outputs)| outputs).collect());
                joined.map(|joined| answer.keep(joined))
            }
            (result, _) => result,
        };
        answer.pieces.clear();
        answer.memory = None;
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

#[cfg(test)]
mod tests {
    use corymb_core::{MemoryPool, Tensor};

    use super::*;

    /// Of so many numbers.
    fn piece(numbers: usize) -> Tensors {
        std::iter::once(("y", Tensor::from_slice([numbers], &vec![1.0_f32; numbers]).expect("valid"))).collect()
    }

    fn answer(rows: usize, pool: &MemoryPool) -> Answer {
        let memory = Some(pool.holder());
        Answer { pieces: Vec::new(), memory, needed: 0, rows_left: rows, reply: None, together: None, run_ends: None }
    }

    #[test]
    fn what_many_runs_answer_is_held_from_the_first_on() {
        let pool = MemoryPool::fixed(16 << 20);
        let mut few = answer(100, &pool);
        assert_eq!((few.hold(&piece(1), 1), pool.held()), (Ok(()), 0), "too little to be counted");
        let mut many = answer(20_000, &pool);
        let each = 2 * 4 + PIECE;
        assert_eq!((many.hold(&piece(1), 1), pool.held()), (Ok(()), 20_000 * each));
        many.pieces.push((0, piece(1)));
        assert_eq!((many.hold(&piece(1), 1), pool.held()), (Ok(()), 20_000 * each), "as was expected");
        assert_eq!(many.hold(&piece(1 << 20), 1), Ok(()));
        assert!(pool.held() > 20_000 * each, "beyond what was expected");
        let mut too_many = answer(1 << 20, &pool);
        assert!(matches!(too_many.hold(&piece(1), 1), Err(Shortage::Never { .. })), "refused with the first");
        drop((many, too_many));
        assert_eq!(pool.held(), 0);
        let mut joined = answer(2, &pool);
        let kept = joined.keep(piece(2 << 20));
        assert_eq!((kept.byte_len(), pool.held()), (8 << 20, 8 << 20), "held with the answer");
        drop(kept);
        assert_eq!(pool.held(), 0);
    }
}
