//! What a model can do on this machine: whether its rows are independent, how many of them share a run best, and what
//! several threads bring to a single run. Found by running it, kept in a file, and acted upon while it serves.
//!
//! A dynamic first dimension proves nothing: a graph may mix rows (a softmax over axis 0, a sort, a normalisation), and
//! requests that share a run would change each other's answers. So rows are divided or joined only after different rows
//! gave the same answers alone and together. Until that is known, the safe choice serves: each request whole.

use std::sync::{Arc, Weak};
use std::time::Duration;

use corymb_core::{FileSource, ModelFiles, Tensors};

use crate::batch::Rows;
use crate::pool::{Progress, Stage};
use crate::record::{self, Record};
use crate::sample;
use crate::shared::Shared;
use crate::version::Version;

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
/// Rows whose answers are compared.
const COMPARED: usize = 3;
/// What a row must gain in company, and a single run by more threads, to be worth it.
const WORTH: f64 = 0.85;
/// Shorter runs are not divided over threads: waking them costs as much.
const WIDE_FROM: Duration = Duration::from_millis(1);
/// How often a run with all workers is tried before it is said to bring nothing: whatever else the machine is doing costs
/// that run most.
const WIDE_TRIES: u32 = 4;
/// How often an instance is asked for while the model is busy, and for how long.
const PATIENCE: (u32, Duration) = (120, Duration::from_millis(500));

/// What the manifest says about sharing runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing {
    pub(crate) enabled: Option<bool>,
    pub(crate) max_size: Option<usize>,
    pub(crate) max_delay: Duration,
    pub(crate) preferred: Vec<usize>,
    pub(crate) latency_target: Option<Duration>,
    /// Whether a request that is alone may have all workers.
    pub(crate) alone: bool,
}

/// The rows of a run while nothing is measured.
pub(crate) fn unmeasured(sharing: &Sharing, batch_axis: bool, batches_pay: bool) -> Rows {
    if !batch_axis || sharing.enabled != Some(true) {
        return Rows::Whole;
    }
    // A size that somebody chose needs no measurement.
    match sharing.max_size.or(sharing.preferred.last().copied()) {
        Some(max) if batches_pay => {
            Rows::Together { max, preferred: sharing.preferred.clone(), max_delay: sharing.max_delay }
        }
        _ => Rows::Apart,
    }
}

/// Whether a run with more threads that takes `wide` is worth them where one thread takes `single`.
fn gains(wide: Duration, single: Duration) -> bool {
    wide.as_secs_f64() < WORTH * single.as_secs_f64()
}

/// The rows of a run that follow from a record, and the words for them.
pub(crate) fn rows_by(record: &Record, sharing: &Sharing, batches_pay: bool) -> (Rows, String) {
    if sharing.enabled.is_none() {
        match &record.independent {
            None => return (Rows::Whole, "off: not measured yet".to_owned()),
            Some(reason) if !reason.is_empty() => return (Rows::Whole, format!("off: {reason}")),
            Some(_) => {}
        }
    }
    if !batches_pay {
        return (Rows::Apart, "rows run apart: larger runs do not pay on this backend".to_owned());
    }
    if record.times.is_empty() {
        let trusted = Sharing { enabled: Some(true), ..sharing.clone() };
        return (unmeasured(&trusted, true, true), "sizes are not measured yet".to_owned());
    }
    let allowed = |rows: usize, run: Duration| {
        sharing.max_size.is_none_or(|max| rows <= max) && sharing.latency_target.is_none_or(|target| run <= target / 2)
    };
    let times = record.times.iter().map(|(rows, micros)| (*rows, Duration::from_micros(*micros)));
    let allowed: Vec<_> = times.filter(|(rows, run)| *rows == 1 || allowed(*rows, *run)).collect();
    let per_row = |(rows, run): &(usize, Duration)| run.as_secs_f64() / *rows as f64;
    let least = allowed.iter().map(per_row).fold(f64::INFINITY, f64::min);
    let single = allowed.iter().find(|(rows, _)| *rows == 1).map_or(f64::INFINITY, per_row);
    let said = || {
        let text = allowed.iter().map(|(rows, run)| format!("{rows} in {run:.1?}"));
        text.collect::<Vec<_>>().join(", ")
    };
    let forced = (sharing.enabled == Some(true) && sharing.max_size.is_some()) || !sharing.preferred.is_empty();
    if least > WORTH * single && !forced {
        return (Rows::Apart, format!("rows run apart: larger runs bring little ({})", said()));
    }
    // The smallest that is nearly as good as the best: less waiting for the same throughput.
    let best = allowed.iter().filter(|pair| per_row(pair) <= 1.05 * least).map(|(rows, _)| *rows).min();
    let max = match (sharing.max_size, best) {
        (Some(max), _) if forced => max,
        (_, Some(best)) => best.max(sharing.preferred.last().copied().unwrap_or(1)),
        (max, None) => max.or(sharing.preferred.last().copied()).unwrap_or(8),
    };
    let rows = Rows::Together { max, preferred: sharing.preferred.clone(), max_delay: sharing.max_delay };
    (rows, format!("up to {max} rows a run ({})", said()))
}

/// The measuring of one version, which may stop and go on.
pub(crate) struct Measuring {
    shared: Arc<Shared>,
    version: Weak<Version>,
    sharing: Sharing,
    files: ModelFiles,
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
    pub(crate) fn new(shared: &Arc<Shared>, version: &Arc<Version>, sharing: Sharing, files: ModelFiles) -> Self {
        Self {
            shared: Arc::clone(shared),
            version: Arc::downgrade(version),
            sharing,
            files,
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
        let share = profile.batch_axis && self.sharing.enabled != Some(false);
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
            if self.sharing.enabled.is_none() && self.record.independent.is_none() {
                // Worth its cost only once somebody sends several rows.
                self.measure_when_rows_come(&version);
            }
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
        let (Rows::Together { max, .. }, Some(inputs)) =
            (queue.rows(), queue.first_inputs().and_then(sample::first_row))
        else {
            return;
        };
        let Some(expected) = self.record.time_of(max) else { return };
        while self.spent + expected * 2 <= BEFORE_READY && self.warmed < version.capacity.parallel() {
            // The instance that was given back last is the first to be taken: what is shared is warmed, at least.
            if self.run(version, sample::vary(&inputs, max)).await.is_err() {
                return;
            }
            self.warmed += 1;
        }
    }

    fn measure_when_rows_come(self, version: &Arc<Version>) {
        let Some(queue) = &version.queue else { return };
        let once = std::sync::Mutex::new(Some(self));
        let runtime = tokio::runtime::Handle::current();
        queue.on_rows(move || {
            let taken = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(mut measuring) = taken {
                runtime.spawn(async move { measuring.go_on(true, false).await });
            }
        });
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
        let inputs = queue.first_inputs().and_then(sample::first_row).ok_or(Stop::Never)?;
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
        if share && self.record.independent.is_none() {
            if !within(self.spent, single * (3 * COMPARED as u32)) {
                return Err(Stop::Later);
            }
            let found = self.compare(&version, &inputs).await?;
            self.record.independent = Some(found);
        }
        let independent = self.record.independent.as_deref() == Some("") || self.sharing.enabled == Some(true);
        if share && independent && !apart_only && !self.record.complete {
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
                let took = self.timed(&version, sample::vary(&inputs, rows)).await?;
                self.record.set_time(rows, took);
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
        let of = Arc::clone(version);
        let work = async move { of.queue.as_ref().and_then(|queue| queue.try_run(&rows)) };
        let ran = self.shared.pool.run(Progress::new(Stage::Decode), work).await.map_err(|_| Stop::Never)?;
        let (took, result) = ran.ok_or(Stop::Later)?;
        self.spent += took;
        Ok((took, result))
    }

    /// Empty when rows do not see each other, else why that is not so, or not known.
    async fn compare(&mut self, version: &Arc<Version>, inputs: &Tensors) -> Result<String, Stop> {
        let rows = sample::vary(inputs, COMPARED);
        let mut alone = Vec::new();
        for row in &rows {
            match self.run(version, vec![row.clone()]).await?.1 {
                Ok(mut answers) if answers.len() == 1 => alone.push(answers.remove(0)),
                Ok(_) => return Ok("the backend answered a single row otherwise than once".to_owned()),
                Err(_) => return Ok("no different rows could be made up that the model takes".to_owned()),
            }
        }
        if rows[0] == rows[1] || sample::compare(&alone[0], &alone[1]).is_ok() {
            return Ok("no different rows could be made up that the model tells apart".to_owned());
        }
        match self.run(version, vec![rows[0].clone()]).await?.1 {
            Ok(again) if sample::compare_all(&alone[..1], &again).is_err() => {
                return Ok("the model answers the same row differently each time".to_owned());
            }
            _ => {}
        }
        let together = match self.run(version, rows).await?.1 {
            Ok(together) if together.len() == alone.len() => together,
            Ok(_) => return Ok("several rows together did not come back as so many".to_owned()),
            Err(_) => return Ok("several rows together failed".to_owned()),
        };
        Ok(match sample::compare_all(&alone, &together) {
            Ok(()) => String::new(),
            Err(difference) => format!("rows change each other's answers ({difference})"),
        })
    }

    /// Tries a run with all workers once more; what that brings is known when it is faster, or was tried often enough.
    async fn widen(&mut self, version: &Arc<Version>, inputs: Tensors, single: Duration) -> Result<(), Stop> {
        let threads = self.shared.pool.workers();
        let (of, pool) = (Arc::clone(version), self.shared.pool.clone());
        let work = async move {
            let queue = of.queue.as_ref()?;
            let _others = pool.reserve_others()?;
            Some(queue.try_wide(&inputs, threads, RUNS))
        };
        let tried = self.shared.pool.run(Progress::new(Stage::Decode), work).await.map_err(|_| Stop::Never)?;
        match tried.ok_or(Stop::Later)? {
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
        if profile.batch_axis && self.sharing.enabled != Some(false) {
            let (rows, words) = rows_by(&self.record, &self.sharing, profile.batches_pay);
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

#[cfg(test)]
mod tests;
