//! The one compute pool: as many threads as there are cores to use, on which decoding, plugins and models run.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use async_task::{Runnable, Task};
use futures::FutureExt as _;
use tokio::runtime::Handle;

/// The stages of a request, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Bytes of the wire to tensors.
    Decode,
    /// Waiting for a worker or an instance.
    Queue,
    /// The plugin's first half.
    Preprocess,
    /// The model.
    Infer,
    /// The plugin's second half.
    Postprocess,
    /// Tensors to bytes of the wire.
    Encode,
}

impl Stage {
    pub(crate) const ALL: [Self; 6] =
        [Self::Decode, Self::Queue, Self::Preprocess, Self::Infer, Self::Postprocess, Self::Encode];

    /// The word for the `stage` attribute of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::Queue => "queue",
            Self::Infer => "infer",
            Self::Postprocess => "postprocess",
            Self::Encode => "encode",
        }
    }
}

/// The priority of a request that does not say: after all that do.
pub(crate) const NO_PRIORITY: u64 = u64::MAX;

/// How far a request has come; moves on while its work runs, and decides where the work waits when it waits again.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    stage: Arc<AtomicUsize>,
    priority: u64,
}

impl Progress {
    pub(crate) fn new(stage: Stage) -> Self {
        Self::of(stage, NO_PRIORITY)
    }

    /// Within a stage the lower `priority` goes first.
    pub(crate) fn of(stage: Stage, priority: u64) -> Self {
        Self { stage: Arc::new(AtomicUsize::new(stage as usize)), priority }
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as usize, Ordering::Relaxed);
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::ALL[self.stage.load(Ordering::Relaxed)]
    }
}

/// Work that panicked, with the panic's message.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl Panicked {
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned()))
    }
}

/// Runs futures and closures. Work nearest to its request's end goes first, so that what was begun is finished before
/// more is begun; within a stage the order of arrival holds.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: usize,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// By stage, in the order of [`Stage::ALL`].
    queues: [Queue; Stage::ALL.len()],
    /// Workers that run something.
    busy: usize,
    /// Workers that may not begin anything, because a run elsewhere uses their cores.
    reserved: usize,
    stopped: bool,
}

/// Work of one stage.
#[derive(Default)]
struct Queue {
    /// By priority; empty levels are removed.
    prior: BTreeMap<u64, VecDeque<Runnable>>,
    rest: VecDeque<Runnable>,
}

impl Queue {
    fn push(&mut self, priority: u64, runnable: Runnable) {
        match priority {
            NO_PRIORITY => self.rest.push_back(runnable),
            priority => self.prior.entry(priority).or_default().push_back(runnable),
        }
    }

    fn pop(&mut self) -> Option<Runnable> {
        let Some(mut level) = self.prior.first_entry() else { return self.rest.pop_front() };
        let runnable = level.get_mut().pop_front();
        if level.get().is_empty() {
            level.remove();
        }
        runnable
    }

    fn is_empty(&self) -> bool {
        self.prior.is_empty() && self.rest.is_empty()
    }
}

/// While it lives, the workers other than the one that took it begin nothing.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
    workers: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.lock().reserved -= self.workers;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, stage: Stage, priority: u64, runnable: Runnable) {
        let mut state = self.lock();
        if state.stopped {
            // Dropping it outside the lock cancels the task: dropping may wake others, who push here.
            drop(state);
            drop(runnable);
            return;
        }
        state.queues[stage as usize].push(priority, runnable);
        drop(state);
        self.work.notify_one();
    }

    fn work(&self, workers: usize) {
        let mut state = self.lock();
        loop {
            let runnable = loop {
                let room = state.busy + state.reserved < workers;
                if room && let Some(runnable) = state.queues.iter_mut().rev().find_map(Queue::pop) {
                    break runnable;
                }
                if room && state.stopped {
                    return;
                }
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.busy += 1;
            drop(state);
            // A panic has been caught inside: see `Pool::spawn`.
            runnable.run();
            state = self.lock();
            state.busy -= 1;
        }
    }
}

impl Pool {
    /// Starts the workers. What they poll may use the timers of the runtime that this is called in.
    pub(crate) fn new(workers: usize) -> std::io::Result<Self> {
        let runtime = Handle::try_current().map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new() });
        for index in 0..workers {
            let (shared, runtime) = (Arc::clone(&shared), runtime.clone());
            let work = move || {
                let _timers = runtime.enter();
                shared.work(workers);
            };
            thread::Builder::new().name(format!("compute-{index}")).spawn(work)?;
        }
        Ok(Self { shared, workers })
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Polls `future` on the pool. Dropping the task cancels it: at once if it has not started, else when it next waits.
    pub(crate) fn spawn<F>(&self, stage: Stage, future: F) -> Task<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_along(Progress::new(stage), future)
    }

    /// As [`Pool::spawn`], for work that passes through several stages.
    pub(crate) fn spawn_along<F>(&self, progress: Progress, future: F) -> Task<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let caught = AssertUnwindSafe(future)
            .catch_unwind()
            .map(|result| result.map_err(|payload| Panicked::from_payload(payload.as_ref())));
        let schedule = move |runnable| shared.push(progress.stage(), progress.priority, runnable);
        let (runnable, task) = async_task::spawn(caught, schedule);
        runnable.schedule();
        task
    }

    /// As [`Pool::spawn_along`], waiting for the result. Dropping the future cancels the work.
    pub(crate) async fn run<F>(&self, progress: Progress, future: F) -> Result<F::Output, Panicked>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // A stopped pool drops its tasks, and a dropped task never answers.
        self.spawn_along(progress, future)
            .fallible()
            .await
            .unwrap_or_else(|| Err(Panicked("the compute pool has stopped".to_owned())))
    }

    /// For a worker that is about to use all cores: keeps the others from beginning anything, if none of them runs and
    /// nothing waits for them.
    pub(crate) fn reserve_others(&self) -> Option<Reservation> {
        let mut state = self.shared.lock();
        let alone = state.busy == 1 && state.reserved == 0 && state.queues.iter().all(Queue::is_empty);
        alone.then(|| {
            let workers = self.workers - 1;
            state.reserved += workers;
            Reservation { shared: Arc::clone(&self.shared), workers }
        })
    }

    /// Ends the workers when the queues are empty.
    pub(crate) fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.work.notify_all();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn later_stages_go_first_and_arrival_decides_within_one() {
        let pool = Pool::new(1).expect("threads");
        let (open, gate) = mpsc::channel::<()>();
        let blocker = pool.spawn(Stage::Encode, async move { gate.recv().is_ok() });
        let order = Arc::new(Mutex::new(Vec::new()));
        let work =
            [(Stage::Decode, 0), (Stage::Infer, 1), (Stage::Postprocess, 2), (Stage::Decode, 3), (Stage::Infer, 4)];
        let tasks: Vec<_> = work
            .map(|(stage, id)| {
                let order = Arc::clone(&order);
                pool.spawn(stage, async move { order.lock().expect("not poisoned").push(id) })
            })
            .into();
        open.send(()).expect("the blocker waits");
        assert!(blocker.await.expect("no panic"));
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*order.lock().expect("not poisoned"), [2, 1, 4, 0, 3]);
        pool.stop();
    }

    #[tokio::test]
    async fn within_a_stage_the_lower_priority_goes_first() {
        let pool = Pool::new(1).expect("threads");
        let (open, gate) = mpsc::channel::<()>();
        let blocker = pool.spawn(Stage::Encode, async move { gate.recv().is_ok() });
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks = [(NO_PRIORITY, 0), (7, 1), (2, 2), (7, 3)].map(|(priority, id)| {
            let order = Arc::clone(&order);
            let work = async move { order.lock().expect("not poisoned").push(id) };
            pool.spawn_along(Progress::of(Stage::Queue, priority), work)
        });
        open.send(()).expect("the blocker waits");
        assert!(blocker.await.expect("no panic"));
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*order.lock().expect("not poisoned"), [2, 1, 3, 0]);
        pool.stop();
    }

    #[tokio::test]
    async fn while_one_has_all_workers_the_others_begin_nothing() {
        let pool = Pool::new(2).expect("threads");
        let (sender, receiver) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let inner = pool.clone();
        let wide = pool.spawn(Stage::Infer, async move {
            let reservation = inner.reserve_others();
            sender.send(reservation.is_some()).expect("heard");
            gate.recv().expect("opened");
            assert!(inner.reserve_others().is_none(), "something waits");
            sender.send(false).expect("heard");
        });
        assert!(receiver.recv().expect("said"));
        let second = pool.spawn(Stage::Infer, async { 2 });
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), second).await;
        assert!(second.is_err(), "the other worker is reserved");
        let third = pool.spawn(Stage::Infer, async { 3 });
        open.send(()).expect("it waits");
        wide.await.expect("no panic");
        assert_eq!(third.await.expect("no panic"), 3);
        pool.stop();
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_the_worker_lives() {
        let pool = Pool::new(1).expect("threads");
        let panicked = pool.run(Progress::new(Stage::Infer), async { panic!("index {} out of range", 7) }).await;
        assert!(matches!(panicked, Err(Panicked(message)) if message == "index 7 out of range"));
        assert_eq!(pool.run(Progress::new(Stage::Infer), async { 5 }).await.expect("no panic"), 5);
        pool.stop();
        assert!(pool.run(Progress::new(Stage::Infer), async { 5 }).await.is_err());
    }
}
