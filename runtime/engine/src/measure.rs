//! What a model can do on this machine: whether its rows are independent, how many of them share a run best, and what
//! several threads bring to a single run. Found by running it, kept in a file, and acted upon while it serves.
//!
//! Whether rows may be divided and joined at all is proved from the graph, or trusted (`division.rs`). What is compared here is
//! a second net: one run of as many different rows as will be gathered, against each row alone. What differs is not shared,
//! and said. Until sizes are known the safe choice serves: each request whole.

use std::sync::{Arc, Weak};
use std::time::Duration;

use corymb_core::{FileSource, ModelFiles, Tensors};

use crate::batch::{Queue, Rows};
use crate::record::{self, Record};
use crate::sample;
use crate::shared::Shared;
use crate::version::Version;

mod sharing;

pub(crate) use self::sharing::{Sharing, unmeasured};

use self::sharing::{WORTH, rows_by};

/// What is spent on one model before it is ready; the rest follows while it serves.
const BEFORE_READY: Duration = Duration::from_millis(30);
/// What is spent in all on looking for the best number of rows.
const IN_ALL: Duration = Duration::from_secs(3);
/// A run longer than this is not made larger.
const LONGEST_RUN: Duration = Duration::from_millis(500);
/// Rows tried in one run.
const SIZES: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Timed runs of each kind; the fastest counts.
const RUNS: usize = 3;
/// Rows whose answers are compared where none are gathered.
const COMPARED: usize = 3;
/// Shorter runs are not divided over threads: waking them costs as much.
const WIDE_FROM: Duration = Duration::from_millis(1);
/// How often a run with all workers is tried before it is said to bring nothing: whatever else the machine is doing costs
/// that run most.
const WIDE_TRIES: u32 = 4;
/// How often an instance is asked for while the model is busy, and for how long.
const PATIENCE: (u32, Duration) = (120, Duration::from_millis(500));

/// The measuring of one version, which may stop and go on.
pub(crate) struct Measuring {
    shared: Arc<Shared>,
    version: Weak<Version>,
    sharing: Sharing,
    files: ModelFiles,
    /// Whether warm-up's inputs are the model folder's samples; else they are zeros, which tell no rows apart.
    sampled: bool,
    /// The name of the record's file; none where nothing is kept, or not yet looked at.
    key: Option<String>,
    record: Record,
    /// The fastest run with all workers, and how often it was tried.
    wide: (Duration, u32),
    spent: Duration,
    /// Runs of the best size that were made beforehand.
    warmed: usize,
}

/// Why measuring stopped.
enum Stop {
    /// Something else must go first: the version becomes ready, or it is busy.
    Later,
    /// It will not get any further.
    Never,
}

impl Measuring {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        version: &Arc<Version>,
        sharing: Sharing,
        files: ModelFiles,
        sampled: bool,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            version: Arc::downgrade(version),
            sharing,
            files,
            sampled,
            key: None,
            record: Record::default(),
            wide: (Duration::MAX, 0),
            spent: Duration::ZERO,
            warmed: 0,
        }
    }

    /// What an earlier start found under the same circumstances.
    fn recall(&mut self, version: &Version) {
        let Some(cache) = self.shared.options.cache.as_deref() else { return };
        let workers = self.shared.pool.workers().to_string();
        let circumstances: [&str; 5] = [version.backend, &version.engine, &version.device, &workers, &version.settings];
        self.key = record::key(&self.files, &circumstances);
        self.record = self.key.as_deref().and_then(|key| Record::load(cache, key)).unwrap_or_default();
    }

    /// Measures for a little while before the version is ready, and has the rest follow.
    pub(crate) async fn begin(mut self) {
        let Some(version) = self.version.upgrade() else { return };
        let Some(queue) = &version.queue else { return };
        let profile = queue.profile().clone();
        let share = queue.axes().is_some() && self.sharing.enabled != Some(false);
        let widen = self.sharing.alone && profile.max_threads > 1 && self.shared.pool.workers() > 1;
        if !share && !widen {
            return;
        }
        let only_rows = !profile.batches_pay && !widen;
        // The content of an embedded model would have to be read for it.
        if !only_rows || matches!(self.files.model, FileSource::Path(_)) {
            self.recall(&version);
        }
        self.apply(&version);
        self.warm_sizes(&version).await;
        if only_rows {
            if !self.is_trusted() && self.record.compared.is_none() {
                // Worth its cost only once somebody sends several rows.
                self.measure_when_rows_come(&version, 2, share, widen);
            }
            return;
        }
        if queue.axes().is_some() && self.rows_like(queue, 1).is_none() {
            // What the sizes of a request are a caller has to show.
            self.measure_when_rows_come(&version, 1, share, widen);
            return;
        }
        if let Err(Stop::Later) = self.measure(Some(BEFORE_READY), share, widen).await {
            drop(version);
            tokio::spawn(async move { self.go_on(share, widen).await });
        }
    }

    /// Runs the size that an earlier start found to be best, so that its first use costs no request anything.
    async fn warm_sizes(&mut self, version: &Arc<Version>) {
        let Some(queue) = &version.queue else { return };
        let Rows::Together { max, .. } = queue.rows() else { return };
        let Some(rows) = self.rows_like(queue, max) else { return };
        let Some(expected) = self.record.time_of(max) else { return };
        while self.spent + expected * 2 <= BEFORE_READY && self.warmed < version.capacity.parallel() {
            // The instance that was given back last is the first to be taken: what is shared is warmed, at least.
            if self.run(version, rows.clone()).await.is_err() {
                return;
            }
            self.warmed += 1;
        }
    }

    /// Whether the manifest says that rows are independent, so that nothing has to be compared.
    fn is_trusted(&self) -> bool {
        self.sharing.enabled == Some(true)
    }

    /// Measures when a request of at least so many rows has come.
    fn measure_when_rows_come(self, version: &Arc<Version>, least: usize, share: bool, widen: bool) {
        let Some(queue) = &version.queue else { return };
        let once = std::sync::Mutex::new(Some(self));
        let runtime = tokio::runtime::Handle::current();
        queue.on_request(move |rows| {
            if rows < least {
                return;
            }
            let taken = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(mut measuring) = taken {
                runtime.spawn(async move { measuring.go_on(share, widen).await });
            }
        });
    }

    /// Different rows to measure with: samples of the model folder, varied, or made up in the shapes that requests have. None
    /// where nothing can be made up, or where no request has shown its shapes.
    fn rows_like(&self, queue: &Queue, count: usize) -> Option<Vec<Tensors>> {
        let Some(axes) = queue.axes() else { return queue.first_inputs().map(|inputs| vec![inputs.clone(); count]) };
        if self.sampled {
            return queue.first_inputs().map(|inputs| sample::vary(&axes.take(inputs, &(0..1)), count));
        }
        let shapes = sample::shapes_of_one_row(queue.model().signature(), axes);
        let shapes = shapes.or_else(|| queue.first_shapes().map(|shapes| sample::one_row(shapes, axes)))?;
        let tables = &queue.profile().tables;
        let first = sample::made(&shapes, tables, 0)?;
        // What has no rows is the same for all of them.
        let alike = |mut made: Tensors| {
            for (name, _) in axes.inputs.iter().filter(|(_, axis)| axis.is_none()) {
                if let (Some(_), Some(tensor)) = (made.remove(name), first.get(name)) {
                    made.push(name, tensor.clone());
                }
            }
            made
        };
        (0..count).map(|index| sample::made(&shapes, tables, index).map(alike)).collect()
    }

    async fn go_on(&mut self, share: bool, widen: bool) {
        let (times, pause) = PATIENCE;
        for _ in 0..times {
            match self.measure(None, share, widen).await {
                Err(Stop::Later) => tokio::time::sleep(pause).await,
                Ok(()) | Err(Stop::Never) => return,
            }
        }
        if let Some(version) = self.version.upgrade() {
            tracing::info!(model = version.model, "the model was never idle long enough to be measured");
        }
    }

    /// One step after another, each kept as it is found.
    async fn measure(&mut self, budget: Option<Duration>, share: bool, widen: bool) -> Result<(), Stop> {
        let version = self.version.upgrade().ok_or(Stop::Never)?;
        let queue = version.queue.as_ref().ok_or(Stop::Never)?;
        let inputs = self.rows_like(queue, 1).and_then(|mut rows| rows.pop()).ok_or(Stop::Never)?;
        let within = |spent: Duration, next: Duration| budget.is_none_or(|budget| spent + next <= budget);
        let apart_only = !queue.profile().batches_pay;

        if self.record.time_of(1).is_none() {
            let usual = queue.usual_run();
            if !within(self.spent, usual * RUNS as u32) {
                return Err(Stop::Later);
            }
            let took = self.timed(&version, vec![inputs.clone()]).await?;
            self.record.set_time(1, took);
        }
        let single = self.record.time_of(1).unwrap_or_default();
        let widen = widen && single >= WIDE_FROM;
        if widen && self.record.wide.is_none() {
            if !within(self.spent, single * (RUNS as u32 + 2)) {
                return Err(Stop::Later);
            }
            self.widen(&version, inputs.clone(), single).await?;
        }
        if share && !apart_only && !self.record.complete {
            let most = self.sharing.max_size.unwrap_or(usize::MAX);
            for rows in SIZES.into_iter().filter(|rows| *rows <= most) {
                if self.record.time_of(rows).is_some() {
                    continue;
                }
                let (before, last) = self.record.times.last().copied().unwrap_or((1, 0));
                let expected = Duration::from_micros(last) * (rows / before.max(1)) as u32;
                if expected > LONGEST_RUN || self.spent > IN_ALL || !self.record.still_gaining() {
                    break;
                }
                if !within(self.spent, expected * (RUNS as u32 + 1)) {
                    self.apply(&version);
                    return Err(Stop::Later);
                }
                let batch = self.rows_like(queue, rows).ok_or(Stop::Never)?;
                let took = self.timed(&version, batch).await?;
                self.record.set_time(rows, took);
            }
        }
        if share && !self.is_trusted() {
            // As many rows as one run will hold.
            let uncompared = Record { compared: Some((0, String::new())), ..self.record.clone() };
            let gathered = match rows_by(&uncompared, &self.sharing, false, !apart_only).0 {
                Rows::Together { max, .. } => max.max(2),
                Rows::Whole | Rows::Apart => COMPARED,
            };
            if self.record.compared.as_ref().is_none_or(|(rows, _)| *rows < gathered) {
                if !within(self.spent, single * (2 * gathered as u32 + 1)) {
                    return Err(Stop::Later);
                }
                let found = self.compare(&version, gathered).await?;
                if !found.is_empty() {
                    tracing::warn!(
                        model = version.model,
                        version = version.version,
                        difference = found,
                        "no runs are shared"
                    );
                }
                self.record.compared = Some((gathered, found));
            }
        }
        self.record.complete = true;
        self.apply(&version);
        self.keep();
        if widen && self.record.wide.is_none() { Err(Stop::Later) } else { Ok(()) }
    }

    /// The fastest of some runs of all rows together, after one that does not count.
    async fn timed(&mut self, version: &Arc<Version>, rows: Vec<Tensors>) -> Result<Duration, Stop> {
        let mut best = Duration::MAX;
        for run in 0..=RUNS {
            let (took, result) = self.run(version, rows.clone()).await?;
            if let Err(reason) = result {
                tracing::debug!(model = version.model, reason, rows = rows.len(), "a measuring run failed");
                return Err(Stop::Never);
            }
            if run > 0 {
                best = best.min(took);
            }
        }
        Ok(best)
    }

    /// One run on an idle instance, on the compute pool, after everything that requests wait for.
    async fn run(
        &mut self,
        version: &Arc<Version>,
        rows: Vec<Tensors>,
    ) -> Result<(Duration, Result<Vec<Tensors>, String>), Stop> {
        let of = Arc::downgrade(version);
        let work = async move { of.upgrade()?.queue.as_ref()?.try_run(&rows) };
        let (took, result) = self.in_background(version, work).await?.ok_or(Stop::Later)?;
        self.spent += took;
        Ok((took, result))
    }

    /// Work on the compute pool. It is not waited for once the version has ended: what is before it there may take long.
    async fn in_background<F>(&self, version: &Version, work: F) -> Result<F::Output, Stop>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let queue = version.queue.as_ref().ok_or(Stop::Never)?;
        tokio::select! {
            done = self.shared.pool.run_in_background(work) => done.map_err(|_| Stop::Never),
            () = queue.trials_ended() => Err(Stop::Never),
        }
    }

    /// Runs `count` different rows as one request and each alone. Empty when the answers agree, else how they differ.
    async fn compare(&mut self, version: &Arc<Version>, count: usize) -> Result<String, Stop> {
        let queue = version.queue.as_ref().ok_or(Stop::Never)?;
        let axes = queue.axes().cloned().ok_or(Stop::Never)?;
        let rows = self.rows_like(queue, count).ok_or(Stop::Never)?;
        let mut alone = Vec::new();
        for row in &rows {
            match self.run(version, vec![row.clone()]).await?.1 {
                Ok(mut answers) if answers.len() == 1 => alone.push(answers.remove(0)),
                Ok(_) => return Ok("the backend answered a single row otherwise than once".to_owned()),
                Err(reason) => {
                    tracing::debug!(model = version.model, reason, "no rows could be made up that the model takes");
                    return Ok(String::new());
                }
            }
        }
        let gathered = axes.join_inputs(&rows).ok_or(Stop::Never)?;
        let together = match self.run(version, vec![gathered]).await?.1 {
            Ok(mut answers) if answers.len() == 1 => axes.split(&answers.remove(0), &vec![1; count]),
            Ok(_) => None,
            Err(reason) => return Ok(format!("{count} rows together failed ({reason})")),
        };
        let Some(together) = together else { return Ok(format!("{count} rows together are not answered by as many")) };
        Ok(match sample::compare_all(&alone, &together) {
            Ok(()) => String::new(),
            Err(difference) => format!("rows change each other's answers ({difference})"),
        })
    }

    /// Tries a run with all workers once more; what that brings is known when it is faster, or was tried often enough.
    async fn widen(&mut self, version: &Arc<Version>, inputs: Tensors, single: Duration) -> Result<(), Stop> {
        let threads = self.shared.pool.workers();
        let (of, pool) = (Arc::downgrade(version), self.shared.pool.clone());
        let work = async move {
            let version = of.upgrade()?;
            let queue = version.queue.as_ref()?;
            let _others = pool.reserve_others()?;
            Some(queue.try_wide(&inputs, threads, RUNS))
        };
        match self.in_background(version, work).await?.ok_or(Stop::Later)? {
            Err(reason) => {
                tracing::debug!(model = version.model, reason, "a run with all workers failed");
                self.record.wide = Some((threads, 0));
            }
            Ok(took) => {
                self.spent += took * (RUNS as u32 + 1);
                let (best, tries) = (self.wide.0.min(took), self.wide.1 + 1);
                self.wide = (best, tries);
                if gains(best, single) || tries == WIDE_TRIES {
                    self.record.wide = Some((threads, u64::try_from(best.as_micros()).unwrap_or(u64::MAX).max(1)));
                }
            }
        }
        Ok(())
    }

    /// Acts on what is known so far.
    fn apply(&self, version: &Arc<Version>) {
        let Some(queue) = &version.queue else { return };
        let profile = queue.profile();
        if queue.axes().is_some() && self.sharing.enabled != Some(false) {
            let trusted = self.is_trusted();
            let (rows, words) = rows_by(&self.record, &self.sharing, trusted, profile.batches_pay);
            if queue.rows() != rows {
                tracing::info!(model = version.model, version = version.version, batching = words, "batching");
            }
            if let Rows::Together { max, .. } = &rows
                && let Some(run) = self.record.time_of(*max)
            {
                version.capacity.measured(run / u32::try_from(*max).unwrap_or(u32::MAX));
            }
            version.set_batching(words);
            queue.set_rows(rows);
        }
        let single = self.record.time_of(1).unwrap_or_default();
        if let Some((threads, micros)) = self.record.wide.filter(|_| self.sharing.alone) {
            let wide = Duration::from_micros(micros);
            let gains = micros > 0 && gains(wide, single);
            let before = version.set_alone(format!(
                "{threads} threads take {wide:.1?} where 1 takes {single:.1?}: {}",
                if gains { "used when a request is alone" } else { "not used" }
            ));
            if gains && before {
                match queue.model().instance(threads) {
                    Ok(instance) => queue.set_wide(instance, threads),
                    Err(error) => tracing::warn!(model = version.model, %error, "no instance with all workers"),
                }
                tracing::info!(model = version.model, threads, single = ?single, wide = ?wide, "a request that is alone has all workers");
            }
        }
    }

    fn keep(&self) {
        if let (Some(key), Some(cache)) = (&self.key, &self.shared.options.cache)
            && let Err(error) = self.record.store(cache, key)
        {
            tracing::debug!(%error, "what was measured could not be kept");
        }
    }
}

/// Whether a run with more threads that takes `wide` is worth them where one thread takes `single`.
fn gains(wide: Duration, single: Duration) -> bool {
    wide.as_secs_f64() < WORTH * single.as_secs_f64()
}

#[cfg(test)]
mod tests;
