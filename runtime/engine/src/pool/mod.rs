//! The one compute pool: as many workers as there are cores to use, on which decoding, plugins and models run. `shares.rs`
//! says whose turn it is.
//!
//! There are twice as many threads: work that holds a worker for long while another model waits goes on beside the workers, and
//! another thread takes its place.

mod background;
mod shares;

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use async_task::{Runnable, Task};
use futures::FutureExt as _;
use tokio::runtime::Handle;

pub(crate) use self::background::in_background;
pub(crate) use self::shares::{NO_PRIORITY, Share};

use self::shares::{Next, Shares};

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

/// How far a request has come; moves on while its work runs, and decides where the work waits when it waits again.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    stage: Arc<AtomicUsize>,
    priority: u64,
    share: Share,
}

impl Progress {
    pub(crate) fn new(stage: Stage, share: &Share) -> Self {
        Self::of(stage, NO_PRIORITY, share)
    }

    /// Within a stage the lower `priority` goes first.
    pub(crate) fn of(stage: Stage, priority: u64, share: &Share) -> Self {
        Self { stage: Arc::new(AtomicUsize::new(stage as usize)), priority, share: share.clone() }
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

/// Runs futures and closures.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: usize,
    /// Of work that is no model's: what a message is about is only known when it has been looked at.
    own: Share,
    background: Share,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    shares: Shares<Runnable>,
    /// Whether a thread looks after what runs.
    watched: bool,
    stopped: bool,
}

impl State {
    /// Whether an idle thread has something to do, or to look after.
    fn wants_worker(&self) -> bool {
        self.shares.has_room() || (!self.watched && self.shares.are_several())
    }
}

/// While it lives, the workers other than the one that took it begin nothing.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
    workers: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.lock().shares.reserved -= self.workers;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, progress: &Progress, runnable: Runnable) {
        let mut state = self.lock();
        if state.stopped {
            // Dropping it outside the lock cancels the task: dropping may wake others, who push here.
            drop(state);
            drop(runnable);
            return;
        }
        state.shares.push(&progress.share, progress.stage(), progress.priority, runnable, Instant::now());
        let wanted = state.wants_worker();
        drop(state);
        if wanted {
            self.work.notify_one();
        }
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            match state.shares.next(now) {
                Next::Begin(lane) => {
                    let Some((turn, runnable)) = state.shares.begin(lane, now) else { continue };
                    // What waits behind it may have to be looked after.
                    let wanted = !state.shares.is_empty() && state.wants_worker();
                    drop(state);
                    if wanted {
                        self.work.notify_one();
                    }
                    // A panic has been caught inside: see `Pool::spawn`.
                    runnable.run();
                    state = self.lock();
                    state.shares.end(turn, Instant::now());
                }
                Next::Wait if state.stopped && state.shares.is_empty() => {
                    self.work.notify_all();
                    return;
                }
                Next::LookAt(when) if !state.watched => {
                    state.watched = true;
                    let wait = when.saturating_duration_since(now);
                    state = self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                    state.watched = false;
                }
                Next::Wait | Next::LookAt(_) => {
                    state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Pool {
    /// Starts the workers. What they poll may use the timers of the runtime that this is called in.
    pub(crate) fn new(workers: usize) -> std::io::Result<Self> {
        let runtime = Handle::try_current().map_err(std::io::Error::other)?;
        let state = State { shares: Shares::new(workers), watched: false, stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() });
        for index in 0..2 * workers {
            let (shared, runtime) = (Arc::clone(&shared), runtime.clone());
            let work = move || {
                let _timers = runtime.enter();
                shared.work();
            };
            thread::Builder::new().name(format!("compute-{index}")).spawn(work)?;
        }
        Ok(Self { shared, workers, own: Share::new(1), background: Share::background() })
    }

    /// Of work that is no model's.
    pub(crate) fn own(&self) -> &Share {
        &self.own
    }

    /// Of loading, warming up and measuring.
    pub(crate) fn background(&self) -> &Share {
        &self.background
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Polls `future` on the pool. Dropping the task cancels it: at once if it has not started, else when it next waits.
    pub(crate) fn spawn<F>(&self, stage: Stage, share: &Share, future: F) -> Task<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_along(Progress::new(stage, share), future)
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
        let schedule = move |runnable| shared.push(&progress, runnable);
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

    /// As [`Pool::run`], for what holds nobody up.
    pub(crate) async fn run_in_background<F>(&self, future: F) -> Result<F::Output, Panicked>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.run(Progress::new(Stage::Decode, &self.background), future).await
    }

    /// For a worker that is about to use all cores: keeps the others from beginning anything, if none of them runs and
    /// nothing waits for them.
    pub(crate) fn reserve_others(&self) -> Option<Reservation> {
        let mut state = self.shared.lock();
        state.shares.is_alone().then(|| {
            let workers = self.workers - 1;
            state.shares.reserved += workers;
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
        let blocker = pool.spawn(Stage::Encode, pool.own(), async move { gate.recv().is_ok() });
        let order = Arc::new(Mutex::new(Vec::new()));
        let work =
            [(Stage::Decode, 0), (Stage::Infer, 1), (Stage::Postprocess, 2), (Stage::Decode, 3), (Stage::Infer, 4)];
        let tasks: Vec<_> = work
            .map(|(stage, id)| {
                let order = Arc::clone(&order);
                pool.spawn(stage, pool.own(), async move { order.lock().expect("not poisoned").push(id) })
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
        let blocker = pool.spawn(Stage::Encode, pool.own(), async move { gate.recv().is_ok() });
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks = [(NO_PRIORITY, 0), (7, 1), (2, 2), (7, 3)].map(|(priority, id)| {
            let order = Arc::clone(&order);
            let work = async move { order.lock().expect("not poisoned").push(id) };
            pool.spawn_along(Progress::of(Stage::Queue, priority, pool.own()), work)
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
        let wide = pool.spawn(Stage::Infer, pool.own(), async move {
            let reservation = inner.reserve_others();
            sender.send(reservation.is_some()).expect("heard");
            gate.recv().expect("opened");
            assert!(inner.reserve_others().is_none(), "something waits");
            sender.send(false).expect("heard");
        });
        assert!(receiver.recv().expect("said"));
        let second = pool.spawn(Stage::Infer, pool.own(), async { 2 });
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), second).await;
        assert!(second.is_err(), "the other worker is reserved");
        let third = pool.spawn(Stage::Infer, pool.own(), async { 3 });
        open.send(()).expect("it waits");
        wide.await.expect("no panic");
        assert_eq!(third.await.expect("no panic"), 3);
        pool.stop();
    }

    /// Two long pieces of work hold both workers; another model's is begun beside them, and theirs go on.
    #[tokio::test]
    async fn work_of_one_model_does_not_hold_all_workers_while_another_waits() {
        let pool = Pool::new(2).expect("threads");
        let (long, short) = (Share::new(1), Share::new(1));
        let gates: Vec<_> = (0..2)
            .map(|_| {
                let (open, gate) = mpsc::channel::<()>();
                (open, pool.spawn(Stage::Infer, &long, async move { gate.recv().is_ok() }))
            })
            .collect();
        for _ in 0..3 {
            assert_eq!(pool.spawn(Stage::Infer, &short, async { 7 }).await.expect("no panic"), 7);
        }
        // What it has alone is all that it has: a third piece waits.
        let third = pool.spawn(Stage::Infer, &long, async { 3 });
        let third = tokio::time::timeout(std::time::Duration::from_millis(40), third).await;
        assert!(third.is_err(), "as many as there are workers");
        for (open, task) in gates {
            open.send(()).expect("it waits");
            assert!(task.await.expect("no panic"));
        }
        pool.stop();
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_the_worker_lives() {
        let pool = Pool::new(1).expect("threads");
        let panicked =
            pool.run(Progress::new(Stage::Infer, pool.own()), async { panic!("index {} out of range", 7) }).await;
        assert!(matches!(panicked, Err(Panicked(message)) if message == "index 7 out of range"));
        assert_eq!(pool.run(Progress::new(Stage::Infer, pool.own()), async { 5 }).await.expect("no panic"), 5);
        pool.stop();
        assert!(pool.run(Progress::new(Stage::Infer, pool.own()), async { 5 }).await.is_err());
    }
}
