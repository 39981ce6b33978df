//! A model's queue and its instances: who waits, who runs, and what becomes of an instance that panics.
//!
//! Requests wait in order of arrival. While an instance is free and something waits, a ticket lies in the compute pool;
//! the worker that draws it takes an instance and the work that is first in the queue *then*. So the choice is made
//! as late as possible, and no worker ever waits for an instance.

mod plan;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corymb_core::{BackendError, CancelFlag, Instance, Model, Profile, RunOptions, Tensor, Tensors};
use tokio::sync::oneshot;

use crate::error::EngineError;
use crate::pool::{Panicked, Pool, Stage};
use crate::signals::VersionSignals;
use crate::waiting::{self, QueueLimits};

/// A run shorter than this costs less than handing it to another thread, so its caller does it.
const DIRECT_BELOW: Duration = Duration::from_micros(200);

/// Who asks for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A worker of the compute pool, which may as well run itself what need not wait.
    Worker,
    /// Any other thread, which has better things to do than a long run.
    Other,
}

/// What a request asks of the model.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) inputs: Tensors,
    pub(crate) outputs: Vec<String>,
    pub(crate) cancel: CancelFlag,
}

/// The queue of one loaded model.
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    model: Box<dyn Model>,
    profile: Profile,
    limits: QueueLimits,
    pool: Pool,
    signals: Arc<VersionSignals>,
    // Held for a few moves of pointers, never across an await or a run.
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Waiting>,
    idle: Vec<Box<dyn Instance>>,
    /// Instances alive, idle or running.
    instances: usize,
    /// Tickets in the pool; never more than idle instances.
    tickets: usize,
    next_id: u64,
    /// The longest run of late, fading by an eighth with each shorter one; none before the first.
    usual_run: Option<Duration>,
}

struct Waiting {
    id: u64,
    job: Arc<Job>,
    /// The row to run next, where rows run apart.
    next_row: usize,
}

struct Job {
    run: Run,
    /// Where rows run apart: how many.
    rows: Option<usize>,
    arrived: Instant,
    answer: Mutex<Answer>,
}

struct Answer {
    parts: Vec<Option<Tensors>>,
    left: usize,
    reply: Option<oneshot::Sender<Result<Tensors, EngineError>>>,
}

impl Job {
    fn runs(&self) -> usize {
        self.rows.unwrap_or(1)
    }

    fn abandoned(&self) -> bool {
        self.run.cancel.is_cancelled() || self.answer().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the result of one run; answers when it was the last, or an error.
    fn take(&self, part: usize, result: Result<Tensors, EngineError>) {
        let mut answer = self.answer();
        match result {
            Ok(outputs) => {
                answer.parts[part] = Some(outputs);
                answer.left -= 1;
                if answer.left > 0 {
                    return;
                }
                let whole = join(std::mem::take(&mut answer.parts).into_iter().flatten().collect());
                if let Some(reply) = answer.reply.take() {
                    let _ = reply.send(whole);
                }
            }
            Err(error) => {
                if let Some(reply) = answer.reply.take() {
                    let _ = reply.send(Err(error));
                }
            }
        }
    }
}

/// The outputs of single rows as the outputs of the whole: one copy, none for a single run.
fn join(mut parts: Vec<Tensors>) -> Result<Tensors, EngineError> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let names: Vec<String> =
        parts.first().into_iter().flat_map(Tensors::iter).map(|(name, _)| name.to_owned()).collect();
    names
        .into_iter()
        .map(|name| {
            let rows: Vec<Tensor> = parts.iter_mut().filter_map(|part| part.remove(&name)).collect();
            let whole = Tensor::concat_rows(&rows).ok_or_else(|| EngineError::Internal {
                model: None,
                details: format!("output '{name}' has rows that do not fit together: {rows:?}"),
            })?;
            Ok((name, whole))
        })
        .collect()
}

/// Takes a request out of the queue when its caller leaves.
struct Place<'a> {
    shared: &'a Shared,
    id: Option<u64>,
}

impl Place<'_> {
    /// Whether it still waited.
    fn leave(&mut self) -> bool {
        let Some(id) = self.id.take() else { return false };
        let mut state = self.shared.lock();
        let index = state.waiting.iter().position(|waiting| waiting.id == id);
        let left = index.and_then(|index| state.waiting.remove(index));
        drop(state);
        left.is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Queue {
    pub(crate) fn new(
        name: &str,
        model: Box<dyn Model>,
        instances: Vec<Box<dyn Instance>>,
        limits: QueueLimits,
        pool: Pool,
        signals: Arc<VersionSignals>,
    ) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            instances: instances.len(),
            idle: instances,
            tickets: 0,
            next_id: 0,
            usual_run: None,
        };
        let profile = model.profile();
        let name = name.to_owned();
        Self { shared: Arc::new(Shared { name, model, profile, limits, pool, signals, state: Mutex::new(state) }) }
    }

    /// Requests that wait now.
    pub(crate) fn depth(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    /// Waits for a free instance and runs. Dropping the future leaves the queue.
    pub(crate) async fn run(&self, run: Run, caller: Caller) -> Result<Tensors, EngineError> {
        let shared = &self.shared;
        let rows = plan::rows_apart(&shared.profile, &run.inputs);
        let arrived = Instant::now();
        let (id, mut answer) = {
            let mut state = shared.lock();
            if state.instances == 0 {
                return Err(shared.internal("every instance has been lost".to_owned()));
            }
            if rows.is_none()
                && state.waiting.is_empty()
                && (caller == Caller::Worker || state.usual_run.is_some_and(|time| time < DIRECT_BELOW))
                && state.idle.len() > state.tickets
                && let Some(instance) = state.idle.pop()
            {
                drop(state);
                if caller == Caller::Other {
                    shared.signals.stage(Stage::Queue, Duration::ZERO);
                }
                return shared.run_once(instance, &run.inputs, &run);
            }
            if state.waiting.len() >= shared.limits.max {
                return Err(waiting::full(&shared.name, state.waiting.len()));
            }
            let (reply, answer) = oneshot::channel();
            let left = rows.unwrap_or(1);
            let parts = Answer { parts: vec![None; left], left, reply: Some(reply) };
            let job = Arc::new(Job { run, rows, arrived, answer: Mutex::new(parts) });
            let id = state.next_id;
            state.next_id += 1;
            state.waiting.push_back(Waiting { id, job, next_row: 0 });
            shared.issue_tickets(&mut state);
            (id, answer)
        };
        let mut place = Place { shared, id: Some(id) };
        let gone = || shared.internal("the queue was closed".to_owned());
        tokio::select! {
            biased;
            result = &mut answer => return result.unwrap_or_else(|_| Err(gone())),
            () = tokio::time::sleep(shared.limits.timeout) => {}
        }
        if place.leave() {
            return Err(waiting::timed_out(&shared.name, shared.limits));
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("model", &self.shared.name).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn internal(&self, details: String) -> EngineError {
        EngineError::Internal { model: Some(self.name.clone()), details }
    }

    /// One ticket for each run that waits, as far as instances are free.
    fn issue_tickets(self: &Arc<Self>, state: &mut State) {
        let mut runs = 0;
        for waiting in &state.waiting {
            runs += waiting.job.runs() - waiting.next_row;
            if runs >= state.idle.len() {
                break;
            }
        }
        while state.tickets < runs.min(state.idle.len()) {
            state.tickets += 1;
            let shared = Arc::clone(self);
            self.pool.spawn(Stage::Infer, async move { shared.redeem() }).detach();
        }
    }

    /// What a ticket is good for: one run of what is first in the queue.
    fn redeem(self: Arc<Self>) {
        let (instance, job, row) = {
            let mut state = self.lock();
            state.tickets -= 1;
            let Some((job, row)) = next_run(&mut state.waiting) else { return };
            let Some(instance) = state.idle.pop() else { return };
            (instance, job, row)
        };
        if row.unwrap_or(0) == 0 {
            self.signals.stage(Stage::Queue, job.arrived.elapsed());
        }
        let result = match row {
            None => self.run_once(instance, &job.run.inputs, &job.run),
            Some(row) => {
                let sliced = |(name, tensor): (&str, &Tensor)| Some((name.to_owned(), tensor.slice_rows(row, 1)?));
                let inputs: Tensors = job.run.inputs.iter().filter_map(sliced).collect();
                self.run_once(instance, &inputs, &job.run)
            }
        };
        job.take(row.unwrap_or(0), result);
    }

    /// Runs, and gives the instance back; after a panic a new one takes its place.
    fn run_once(
        self: &Arc<Self>,
        mut instance: Box<dyn Instance>,
        inputs: &Tensors,
        run: &Run,
    ) -> Result<Tensors, EngineError> {
        let options = RunOptions { outputs: run.outputs.clone(), cancel: run.cancel.clone() };
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| instance.run(std::slice::from_ref(inputs), &options)));
        let time = begin.elapsed();
        self.signals.run(time, 1);
        let (back, result) = match result {
            Ok(result) => (Some(instance), result.map_err(|error| self.failed(error))),
            Err(payload) => {
                let Panicked(message) = Panicked::from_payload(payload.as_ref());
                tracing::error!(model = self.name, panic = message, "the model panicked; its instance is replaced");
                // The old one is in an unknown state, and so may be its destructor.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(instance)));
                (self.replacement(), Err(self.internal(format!("the model panicked: {message}"))))
            }
        };
        let mut state = self.lock();
        state.usual_run = Some(state.usual_run.map_or(time, |usual| time.max((usual * 7 + time) / 8)));
        match back {
            Some(instance) => state.idle.push(instance),
            None => state.instances -= 1,
        }
        let lost = if state.instances == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        self.issue_tickets(&mut state);
        drop(state);
        for waiting in lost {
            waiting.job.take(0, Err(self.internal("every instance has been lost".to_owned())));
        }
        result.and_then(|mut answers| {
            answers.pop().ok_or_else(|| self.internal("the backend answered nothing".to_owned()))
        })
    }

    fn replacement(&self) -> Option<Box<dyn Instance>> {
        match catch_unwind(AssertUnwindSafe(|| self.model.instance(1))) {
            Ok(Ok(instance)) => Some(instance),
            Ok(Err(error)) => {
                tracing::error!(model = self.name, %error, "no instance could be made in place of the one that panicked");
                None
            }
            Err(_) => {
                tracing::error!(model = self.name, "making an instance in place of the one that panicked panicked too");
                None
            }
        }
    }

    fn failed(&self, error: BackendError) -> EngineError {
        match error {
            BackendError::Cancelled => EngineError::Cancelled,
            error => EngineError::Backend { model: self.name.clone(), error },
        }
    }
}

/// The first run that somebody still waits for.
fn next_run(waiting: &mut VecDeque<Waiting>) -> Option<(Arc<Job>, Option<usize>)> {
    loop {
        let first = waiting.front_mut()?;
        if first.job.abandoned() {
            waiting.pop_front();
            continue;
        }
        let job = Arc::clone(&first.job);
        let row = job.rows.map(|_| first.next_row);
        first.next_row += 1;
        if first.next_row == job.runs() {
            waiting.pop_front();
        }
        return Some((job, row));
    }
}
