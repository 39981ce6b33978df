//! A model's queue and its instances: who waits, who runs, and what becomes of an instance that panics.
//!
//! `plan.rs` decides who runs next, `dispatch.rs` brings requests and instances together, `job.rs` is one request and its
//! answer. Here they meet the compute pool, the clock and the backend.

mod dispatch;
mod job;
mod plan;
mod replica;
mod short;
mod together;
mod trial;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use corymb_core::{BackendError, BatchAxes, CancelFlag, Instance, MemoryPool, Model, Profile, RunOptions, Tensors};
use tokio::sync::Notify;

pub(crate) use self::job::{Run, Shapes};
pub(crate) use self::plan::Rows;
pub(crate) use self::replica::{Instances, Replica};

use self::dispatch::{Host, Refused, State};
use self::job::{Job, shapes_of};
use self::plan::{Entry, Part};
use self::replica::Living;
use self::short::ShortRuns;
use crate::capacity::Capacity;
use crate::error::EngineError;
use crate::pool::{Panicked, Pool, Reservation, Share, Stage};
use crate::signals::VersionSignals;
use crate::spans::Spans;
use crate::waiting::{self, QueueLimits};

/// A run shorter than this costs less than handing it to another thread, so its caller does it, where the run is known to be
/// short: a thread that moves bytes must not be kept from them.
const DIRECT_BELOW: Duration = Duration::from_micros(200);

/// How long a run that has to end is waited for. Engines look for it between nodes, and a node may take long.
const LATE: Duration = Duration::from_secs(1);

const LOST: &str = "every instance has been lost";

/// Who asks for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A worker of the compute pool, which may as well run itself what need not wait.
    Worker,
    /// Any other thread, which has better things to do than a long run.
    Other,
}

/// The queue of one loaded model.
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

/// What a queue works with.
pub(crate) struct QueueParts {
    pub(crate) name: String,
    /// The same model, once for each device.
    pub(crate) models: Vec<Box<dyn Model>>,
    /// Executable copies of each.
    pub(crate) instances: usize,
    /// Threads that a run of each may use.
    pub(crate) threads: usize,
    pub(crate) rows: Rows,
    /// Where the rows of requests are; none where each runs as it is.
    pub(crate) axes: Option<Arc<BatchAxes>>,
    pub(crate) limits: QueueLimits,
    pub(crate) pool: Pool,
    pub(crate) share: Share,
    pub(crate) signals: Arc<VersionSignals>,
    pub(crate) capacity: Arc<Capacity>,
    /// What answers in pieces and copies of inputs are held of.
    pub(crate) memory: MemoryPool,
}

struct Shared {
    name: String,
    models: Vec<Box<dyn Model>>,
    /// Of each model.
    living: Vec<Living>,
    profile: Profile,
    axes: Option<Arc<BatchAxes>>,
    limits: QueueLimits,
    pool: Pool,
    share: Share,
    runtime: tokio::runtime::Handle,
    signals: Arc<VersionSignals>,
    capacity: Arc<Capacity>,
    memory: MemoryPool,
    // Held for a few moves of pointers, never across an await or a run.
    state: Mutex<State<Replica, Arc<Job>>>,
    /// The longest run of late in nanoseconds, fading by an eighth with each shorter one; 0 before the first.
    usual_run: AtomicU64,
    /// Requests whose runs were short.
    short: ShortRuns,
    /// Requests of one run that the rules aim at.
    worth_running: AtomicUsize,
    /// The inputs of warm-up's first run.
    first_inputs: OnceLock<Tensors>,
    /// The shapes of the first request that a caller sent. What callers send is never kept itself.
    first_shapes: OnceLock<Shapes>,
    warming: AtomicBool,
    /// Stops the runs that nobody asked for.
    trials: CancelFlag,
    /// Wakes who waits for such a run.
    trials_ended: Notify,
    /// Called with the number of rows of each request whose rows may be divided.
    on_request: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
}

/// Takes a request out of the queue when its caller leaves.
struct Place<'a> {
    shared: &'a Shared,
    job: &'a Job,
    id: Option<u64>,
}

impl Place<'_> {
    /// Whether it still waited.
    fn leave(&mut self) -> bool {
        self.id.take().is_some_and(|id| self.shared.lock().leave(id))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.leave() {
            self.job.abandon();
        }
    }
}

impl Queue {
    /// Makes the instances.
    ///
    /// # Errors
    /// The backend's, when an instance cannot be made.
    pub(crate) fn new(parts: QueueParts) -> Result<Self, BackendError> {
        let QueueParts { name, models, instances, threads, rows, axes, limits, pool, share, signals, capacity, memory } =
            parts;
        let living: Vec<Living> = models.iter().map(|_| Living::default()).collect();
        let copies = (0..models.len())
            .flat_map(|model| std::iter::repeat_n(model, instances))
            .map(|model| {
                let (instance, alive) = (models[model].instance(threads)?, Some(living[model].enter()));
                Ok(Replica { instance, model, threads, alive })
            })
            .collect::<Result<Vec<_>, BackendError>>()?;
        let profile = models.first().map_or_else(Profile::whole, |model| model.profile());
        let shared = Shared {
            name,
            models,
            living,
            profile,
            axes,
            limits,
            runtime: tokio::runtime::Handle::current(),
            pool,
            share,
            signals,
            capacity,
            memory,
            usual_run: AtomicU64::new(0),
            short: ShortRuns::default(),
            worth_running: AtomicUsize::new(rows.aim()),
            state: Mutex::new(State::new(copies, rows)),
            first_inputs: OnceLock::new(),
            first_shapes: OnceLock::new(),
            warming: AtomicBool::new(true),
            trials: CancelFlag::new(),
            trials_ended: Notify::new(),
            on_request: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Requests that wait now.
    pub(crate) fn depth(&self) -> usize {
        self.shared.lock().depth()
    }

    /// The instances on each device. One whose runs use all workers is not among them.
    pub(crate) fn instances(&self) -> Vec<Instances> {
        replica::instances(&self.shared.living, self.shared.lock().idle())
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.shared.profile
    }

    pub(crate) fn model(&self) -> &dyn Model {
        self.shared.models[0].as_ref()
    }

    pub(crate) fn rows(&self) -> Rows {
        self.shared.lock().rows.clone()
    }

    /// From the next run on.
    pub(crate) fn set_rows(&self, rows: Rows) {
        self.shared.worth_running.store(rows.aim(), Relaxed);
        self.shared.lock().rows = rows;
    }

    /// From the next run on, a request that is alone has all workers.
    pub(crate) fn set_wide(&self, instance: Box<dyn Instance>, threads: usize) {
        let before = self.shared.lock().set_wide(Some(Replica { instance, model: 0, threads, alive: None }));
        drop(before);
    }

    /// From now on runs are asked for by callers.
    pub(crate) fn end_warm_up(&self) {
        self.shared.warming.store(false, Relaxed);
    }

    /// The inputs that the model was first warmed up with.
    pub(crate) fn first_inputs(&self) -> Option<&Tensors> {
        self.shared.first_inputs.get()
    }

    /// The shapes of the first request that a caller sent and whose rows may be divided.
    pub(crate) fn first_shapes(&self) -> Option<&Shapes> {
        self.shared.first_shapes.get()
    }

    /// Where the rows of requests are.
    pub(crate) fn axes(&self) -> Option<&BatchAxes> {
        self.shared.axes.as_deref()
    }

    /// Has `work` called with the rows of every request whose rows may be divided.
    pub(crate) fn on_request(&self, work: impl Fn(usize) + Send + Sync + 'static) {
        let _ = self.shared.on_request.set(Box::new(work));
    }

    /// The longest run of late; zero before the first.
    pub(crate) fn usual_run(&self) -> Duration {
        Duration::from_nanos(self.shared.usual_run.load(Relaxed))
    }

    /// Waits for a free instance and runs. Dropping the future leaves the queue.
    pub(crate) async fn run(&self, run: Run, caller: Caller) -> Result<Tensors, EngineError> {
        let shared = &self.shared;
        let rows = shared.rows_of(&run.inputs);
        if shared.warming.load(Relaxed) {
            let _ = shared.first_inputs.set(run.inputs.clone());
        } else if let Some(rows) = rows
            && let Some(work) = shared.on_request.get()
        {
            shared.first_shapes.get_or_init(|| shapes_of(&run.inputs));
            work(rows);
        }
        let direct = caller == Caller::Worker || (shared.is_usually_short() && shared.short.holds(&run.inputs));
        if direct && let Some(taken) = dispatch::at_once(shared, rows, caller == Caller::Worker) {
            if caller == Caller::Other {
                shared.signals.stage(Stage::Queue, Duration::ZERO);
            }
            return dispatch::run_taken(shared, taken, |replica| {
                let options = RunOptions { outputs: run.outputs, cancel: run.cancel, ends: shared.ends() };
                let (back, result) =
                    shared.run_once(replica, std::slice::from_ref(&run.inputs), &options, &[&run.spans]);
                let first = result.and_then(|mut answers| answers.pop().ok_or_else(|| shared.nothing()));
                (back, first)
            });
        }
        self.wait(run, rows).await
    }

    async fn wait(&self, run: Run, rows: Option<usize>) -> Result<Tensors, EngineError> {
        let shared = &self.shared;
        let arrived = Instant::now();
        let patience = arrived + shared.limits.timeout;
        let give_up = run.deadline.map_or(patience, |deadline| deadline.min(patience));
        let priority = run.priority;
        let (job, mut answer) = Job::new(run, rows.zip(shared.axes.clone()), arrived, shared.memory.holder());
        let submitted = dispatch::submit(shared, shared.limits.max, |id| Entry {
            id,
            priority,
            arrived,
            give_up,
            rows,
            request: Arc::clone(&job),
        });
        let id = submitted.map_err(|refused| match refused {
            Refused::Full(waiting) => waiting::full(&shared.name, waiting),
            Refused::Lost => shared.internal(LOST.to_owned()),
        })?;
        let mut place = Place { shared, job: &job, id: Some(id) };
        let gone = || shared.internal("the queue was closed".to_owned());
        let (waits, run) = (shared.limits.timeout, shared.limits.run_time.saturating_add(LATE));
        let mut look_at = arrived + waits.min(run);
        loop {
            tokio::select! {
                biased;
                result = &mut answer => {
                    place.id = None;
                    return result.unwrap_or_else(|_| Err(gone()));
                }
                () = tokio::time::sleep_until(look_at.into()) => {}
            }
            let now = Instant::now();
            look_at = match job.run_ends() {
                // Whoever computes does not look whether it has to stop: nobody waits for that.
                Some(ends) if ends + LATE <= now => return Err(shared.too_long()),
                Some(ends) => ends + LATE,
                // A run may begin at any moment.
                None if arrived + waits > now => (arrived + waits).min(now + waits.min(run)),
                None if place.leave() => return Err(waiting::timed_out(&shared.name, shared.limits)),
                None => now + LATE,
            };
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("model", &self.shared.name).finish_non_exhaustive()
    }
}

impl Host for Arc<Shared> {
    type Instance = Replica;
    type Request = Arc<Job>;
    type Reservation = Reservation;

    fn with<R>(&self, work: impl FnOnce(&mut State<Replica, Arc<Job>>) -> R) -> R {
        work(&mut self.lock())
    }

    fn ticket(&self) {
        let shared = Self::clone(self);
        let share = if self.warming.load(Relaxed) { self.pool.background() } else { &self.share };
        self.pool.spawn(Stage::Infer, share, async move { dispatch::redeem(&shared) }).detach();
    }

    fn wake_at(&self, when: Instant) {
        let shared = Self::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep_until(when.into()).await;
            dispatch::wake(&shared);
        });
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn reserve(&self) -> Option<Reservation> {
        self.pool.reserve_others()
    }

    fn run(&self, replica: Replica, mut parts: Vec<Part<Arc<Job>>>) -> Option<Replica> {
        for part in &parts {
            if part.rows.as_ref().is_none_or(|rows| rows.start == 0) {
                self.signals.stage(Stage::Queue, part.request.arrived.elapsed());
                part.request.run.spans.ended(Stage::Queue, part.request.arrived.elapsed());
            }
        }
        parts.retain(|part| !part.request.abandoned());
        let ends = self.ends();
        parts.iter().for_each(|part| part.request.begin(ends));
        match parts.len() {
            0 => Some(replica),
            1 => self.run_alone(replica, &parts[0].request, parts[0].rows.as_ref()),
            _ => self.run_together(replica, &parts),
        }
    }

    fn expired(&self, request: Arc<Job>) {
        // Seen here or by the caller's own timer, whichever looks first: a deadline is a deadline.
        let own = request.run.deadline.is_some_and(|deadline| deadline < request.arrived + self.limits.timeout);
        let error = if own {
            EngineError::DeadlineExceeded { model: self.name.clone(), stage: Stage::Queue.name() }
        } else {
            waiting::timed_out(&self.name, self.limits)
        };
        request.take(None, Err(error));
    }

    fn lost(&self, request: Arc<Job>) {
        request.take(None, Err(self.internal(LOST.to_owned())));
    }
}

impl Shared {
    fn is_usually_short(&self) -> bool {
        let usual = self.usual_run.load(Relaxed);
        usual > 0 && usual < DIRECT_BELOW.as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State<Replica, Arc<Job>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn internal(&self, details: String) -> EngineError {
        EngineError::Internal { model: Some(self.name.clone()), details }
    }

    fn nothing(&self) -> EngineError {
        self.internal("the backend answered nothing".to_owned())
    }

    /// Rows of a request that may be divided.
    fn rows_of(&self, inputs: &Tensors) -> Option<usize> {
        self.axes.as_ref()?.rows(inputs)
    }

    fn run_alone(&self, replica: Replica, request: &Job, rows: Option<&Range<usize>>) -> Option<Replica> {
        let (outputs, cancel) = (request.run.outputs.clone(), request.run.cancel.clone());
        let options = RunOptions { outputs, cancel, ends: self.ends() };
        let (back, result) = match rows {
            None => self.run_once(replica, std::slice::from_ref(&request.run.inputs), &options, &[&request.run.spans]),
            Some(range) => self.run_once(replica, &[request.inputs(Some(range))], &options, &[&request.run.spans]),
        };
        let first = result.and_then(|mut answers| answers.pop().ok_or_else(|| self.nothing()));
        request.take(rows, first);
        back
    }

    /// Runs; after a panic another instance comes back.
    fn run_once(
        &self,
        mut replica: Replica,
        batch: &[Tensors],
        options: &RunOptions,
        spans: &[&Spans],
    ) -> (Option<Replica>, Result<Vec<Tensors>, EngineError>) {
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| replica.instance.run(batch, options)));
        let time = begin.elapsed();
        self.signals.run(replica.model, time, batch.len() as u64);
        spans.iter().for_each(|spans| spans.ended(Stage::Infer, time));
        let full = batch.len() * 2 >= self.worth_running.load(Relaxed) && replica.threads == 1;
        self.capacity.ran(time, batch.len(), full);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 4).min(u64::MAX >> 4);
        if self.profile.shapes_bound_cost && time < DIRECT_BELOW {
            batch.iter().for_each(|inputs| self.short.note(inputs));
        }
        let usual = self.usual_run.load(Relaxed);
        self.usual_run.store(if usual == 0 { nanos } else { nanos.max((usual * 7 + nanos) / 8) }, Relaxed);
        match result {
            Ok(result) => {
                let lost = self.models[replica.model].take_lost();
                self.signals.ended(replica.model, result.as_ref().err(), lost);
                (Some(replica), result.map_err(|error| self.failed(error)))
            }
            Err(payload) => {
                let Panicked(message) = Panicked::from_payload(payload.as_ref());
                tracing::error!(model = self.name, panic = message, "the model panicked; its instance is replaced");
                (self.in_place_of(replica), Err(self.internal(format!("the model panicked: {message}"))))
            }
        }
    }

    /// A new instance for one that panicked.
    fn in_place_of(&self, replica: Replica) -> Option<Replica> {
        let Replica { instance, model, threads, alive } = replica;
        // The old one is in an unknown state, and so may be its destructor.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(instance)));
        match catch_unwind(AssertUnwindSafe(|| self.models[model].instance(threads))) {
            Ok(Ok(instance)) => Some(Replica { instance, model, threads, alive }),
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

    /// When a run that begins now must have ended.
    fn ends(&self) -> Option<Instant> {
        Instant::now().checked_add(self.limits.run_time)
    }

    fn too_long(&self) -> EngineError {
        EngineError::RunTooLong { model: self.name.clone(), limit: self.limits.run_time }
    }

    fn failed(&self, error: BackendError) -> EngineError {
        match error {
            BackendError::TimedOut => self.too_long(),
            BackendError::Cancelled => EngineError::Cancelled,
            error => EngineError::Backend { model: self.name.clone(), error },
        }
    }
}
