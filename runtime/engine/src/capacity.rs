//! What a model can do and how much is asked of it, measured while it serves: the saturation that an autoscaler reads,
//! and the wait that a new request must expect.
//!
//! The cost of a request is the time that it keeps a worker busy: plugin and model, a run that serves several requests
//! counted in equal shares. The capacity is the number of runs at a time over the cost. Models that run on the cores share
//! their workers: one that is idle beside others that take them all has nothing left, either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::EngineError;

/// A new value moves an average by this part of the way.
const PART: u64 = 8;
/// Seconds over which load is averaged for the saturation.
const SMOOTHED_OVER: f64 = 5.0;
/// The part of the target that the expected latency may take: where it starts, and its bounds.
const FACTOR: (f64, f64, f64) = (0.7, 0.05, 0.95);
/// What a request that came late takes from the factor, and one in time gives: level when 3 of 1,000 are late.
const LATE: f64 = 0.03;
const IN_TIME: f64 = 0.00009;

/// The workers that all models share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// How many there are.
    pub(crate) workers: usize,
    /// How many of them a run keeps busy: none where it is an accelerator's.
    pub(crate) of_run: usize,
}

/// Load and capacity of one version.
#[derive(Debug)]
pub(crate) struct Capacity {
    model: String,
    /// Runs that can go on at the same time.
    parallel: usize,
    cores: Cores,
    target: Option<Duration>,
    arrivals: AtomicU64,
    /// Accepted and not answered.
    outstanding: Arc<AtomicUsize>,
    /// Averages, in nanoseconds; 0 while unknown.
    plugin: AtomicU64,
    run: AtomicU64,
    run_share: AtomicU64,
    /// The share of a request in runs as large as they should be.
    best_share: AtomicU64,
    factor: AtomicU64,
    /// Load over what this version alone can do, and the part of the shared workers that it takes: averages.
    own: AtomicU64,
    shared: AtomicU64,
    arrivals_at_last_tick: AtomicU64,
}

/// A request that was accepted, until it is answered.
#[derive(Debug)]
pub(crate) struct Accepted(Arc<AtomicUsize>);

impl Drop for Accepted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Loads and stores are apart: when two threads average at the same time one of them is lost, which an average bears.
fn average(average: &AtomicU64, value: u64) {
    let known = average.load(Ordering::Relaxed);
    let next = if known == 0 { value } else { known - known / PART + value / PART };
    average.store(next.max(1), Ordering::Relaxed);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 8).min(u64::MAX >> 8)
}

impl Capacity {
    pub(crate) fn new(model: &str, parallel: usize, cores: Cores, target: Option<Duration>) -> Self {
        Self {
            model: model.to_owned(),
            parallel: parallel.max(1),
            cores,
            target,
            arrivals: AtomicU64::new(0),
            outstanding: Arc::default(),
            plugin: AtomicU64::new(0),
            run: AtomicU64::new(0),
            run_share: AtomicU64::new(0),
            best_share: AtomicU64::new(0),
            factor: AtomicU64::new(FACTOR.0.to_bits()),
            own: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            arrivals_at_last_tick: AtomicU64::new(0),
        }
    }

    /// What runs cost is kept of warm-up; that somebody asked for them is not.
    pub(crate) fn end_warm_up(&self) {
        self.arrivals.store(0, Ordering::Relaxed);
    }

    /// Runs that can go on at the same time.
    pub(crate) fn parallel(&self) -> usize {
        self.parallel
    }

    /// Counts a request and accepts it, unless it would come later than the model's target.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`].
    pub(crate) fn accept(&self) -> Result<Accepted, EngineError> {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        let before = self.outstanding.fetch_add(1, Ordering::Relaxed);
        // From here on dropping it takes it out again.
        let accepted = Accepted(Arc::clone(&self.outstanding));
        self.in_time(before).map(|()| accepted)
    }

    /// Whether a request that came now would be refused, without counting one that would not.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`].
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let result = self.in_time(self.outstanding.load(Ordering::Relaxed));
        if result.is_err() {
            self.arrivals.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn in_time(&self, before: usize) -> Result<(), EngineError> {
        let Some(target) = self.target else { return Ok(()) };
        let allowed = target.as_secs_f64() * f64::from_bits(self.factor.load(Ordering::Relaxed));
        let expected = self.expected(before);
        // An idle model answers, however slow it is: there is nothing to be gained by waiting.
        if before < self.parallel || expected.as_secs_f64() <= allowed {
            return Ok(());
        }
        let (model, count) = (&self.model, before);
        let what = format!(
            "model '{model}' would need about {expected:.0?}, its target is {target:?}: {count} are before you"
        );
        Err(EngineError::Overloaded { what })
    }

    /// From arrival to answer with so many before it.
    fn expected(&self, before: usize) -> Duration {
        let load = |average: &AtomicU64| average.load(Ordering::Relaxed);
        let (plugin, run) = (load(&self.plugin), load(&self.run));
        let cost = plugin.saturating_add(load(&self.run_share));
        let waiting = cost.saturating_mul(before as u64) / self.parallel as u64;
        Duration::from_nanos(waiting.saturating_add(plugin).saturating_add(run))
    }

    /// A run took so long and served so many; `full` when it was as large as runs should be.
    pub(crate) fn ran(&self, time: Duration, requests: usize, full: bool) {
        let share = nanos(time) / requests.max(1) as u64;
        average(&self.run, nanos(time));
        average(&self.run_share, share);
        if full {
            average(&self.best_share, share);
        }
    }

    /// What a measurement found of runs as large as they should be: the time of one over its rows.
    pub(crate) fn measured(&self, share: Duration) {
        self.best_share.store(nanos(share).max(1), Ordering::Relaxed);
    }

    /// The plugin worked so long for one request.
    pub(crate) fn plugin_worked(&self, time: Duration) {
        average(&self.plugin, nanos(time));
    }

    /// A request was answered so long after it had come.
    pub(crate) fn answered(&self, latency: Duration) {
        let Some(target) = self.target else { return };
        let (_, least, most) = FACTOR;
        let factor = f64::from_bits(self.factor.load(Ordering::Relaxed));
        let next = if latency > target.mul_f64(0.95) { factor * (1.0 - LATE) } else { factor + IN_TIME };
        self.factor.store(next.clamp(least, most).to_bits(), Ordering::Relaxed);
    }

    /// Brings the saturation up to date. Called at a steady pace, by nobody who reads it.
    pub(crate) fn tick(&self, since_last: Duration) {
        let arrivals = self.arrivals.load(Ordering::Relaxed);
        let new = arrivals - self.arrivals_at_last_tick.swap(arrivals, Ordering::Relaxed);
        let seconds = since_last.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let (plugin, run) =
            (self.plugin.load(Ordering::Relaxed) as f64, self.best_share.load(Ordering::Relaxed) as f64);
        let rate = new as f64 / seconds / 1e9;
        let part = 1.0 - (-seconds / SMOOTHED_OVER).exp();
        let smooth = |average: &AtomicU64, demand: f64| {
            let before = f64::from_bits(average.load(Ordering::Relaxed));
            average.store((before + (demand - before) * part).to_bits(), Ordering::Relaxed);
        };
        let Cores { workers, of_run } = self.cores;
        smooth(&self.own, rate * (plugin + run) / self.parallel as f64);
        smooth(&self.shared, rate * (plugin + run * of_run as f64) / workers.max(1) as f64);
    }

    /// The part of the shared workers that is asked of them for this version.
    pub(crate) fn shared(&self) -> f64 {
        f64::from_bits(self.shared.load(Ordering::Relaxed)).max(0.0)
    }

    /// Load over capacity, where so large a part of the shared workers is asked for by all: at 1 it could take no more, and above by
    /// so much too many come.
    pub(crate) fn saturation(&self, all: f64) -> f64 {
        let own = f64::from_bits(self.own.load(Ordering::Relaxed)).max(0.0);
        let is_shared = self.cores.of_run > 0 || self.plugin.load(Ordering::Relaxed) > 0;
        if is_shared { own.max(all) } else { own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TWO: Cores = Cores { workers: 2, of_run: 1 };

    #[test]
    fn the_expected_wait_decides_who_is_accepted() {
        let capacity = Capacity::new("m", 2, TWO, Some(101 * MS));
        capacity.ran(10 * MS, 1, true);
        // 0.7 x 101 ms allow for (70 - 10) / (10 / 2) requests before.
        let accepted: Vec<_> = std::iter::from_fn(|| capacity.accept().ok()).take(100).collect();
        assert_eq!(accepted.len(), 13);
        let refused = capacity.check().expect_err("full").to_string();
        assert!(
            refused.contains("model 'm' would need about 75ms, its target is 101ms: 13 are before you"),
            "{refused}"
        );
        drop(accepted);
        assert!(capacity.check().is_ok());
    }

    #[test]
    fn late_answers_make_it_stricter_and_an_idle_model_always_answers() {
        let capacity = Capacity::new("m", 1, TWO, Some(10 * MS));
        capacity.ran(50 * MS, 1, true);
        for _ in 0..1000 {
            capacity.answered(50 * MS);
        }
        let first = capacity.accept();
        assert!(first.is_ok());
        assert!(capacity.accept().is_err());
        drop(first);
        for _ in 0..100_000 {
            capacity.answered(MS);
        }
        assert!((f64::from_bits(capacity.factor.load(Ordering::Relaxed)) - FACTOR.2).abs() < 1e-9);
    }

    #[test]
    fn saturation_is_arrivals_over_what_full_runs_allow() {
        let capacity = Capacity::new("m", 2, TWO, None);
        capacity.plugin_worked(5 * MS);
        // A run of one request takes as long as one of eight.
        capacity.ran(40 * MS, 8, true);
        capacity.ran(40 * MS, 1, false);
        for _ in 0..60 {
            for _ in 0..100 {
                drop(capacity.accept().expect("no target"));
            }
            capacity.tick(Duration::from_secs(1));
        }
        // 100 a second, 10 ms each, on 2.
        assert!((capacity.saturation(0.0) - 0.5).abs() < 0.01, "{}", capacity.saturation(0.0));
        for _ in 0..60 {
            capacity.tick(Duration::from_secs(1));
        }
        assert!(capacity.saturation(0.0) < 0.001);
    }

    /// So many requests a second of 10 ms, for a minute.
    fn loaded(cores: Cores, parallel: usize, rate: usize) -> Capacity {
        let capacity = Capacity::new("m", parallel, cores, None);
        capacity.ran(10 * MS, 1, true);
        for _ in 0..60 {
            (0..rate).for_each(|_| drop(capacity.accept().expect("no target")));
            capacity.tick(Duration::from_secs(1));
        }
        capacity
    }

    #[test]
    fn models_that_share_the_workers_are_full_together() {
        let close =
            |value: f64, expected: f64| assert!((value - expected).abs() < 0.01, "{value}, expected {expected}");
        // 200 a second are what two workers can do.
        let full = [loaded(TWO, 2, 80), loaded(TWO, 2, 70), loaded(TWO, 2, 50)];
        let idle = loaded(TWO, 2, 0);
        let all: f64 = full.iter().map(Capacity::shared).sum();
        close(all, 1.0);
        full.iter().chain([&idle]).for_each(|capacity| close(capacity.saturation(all), 1.0));
        close(full[0].saturation(0.0), 0.4);
        // Twice as much as it can do.
        let over = loaded(TWO, 2, 400);
        close(over.saturation(over.shared()), 2.0);
        // One instance takes half of the workers, and is full.
        let narrow = loaded(TWO, 1, 100);
        close(narrow.shared(), 0.5);
        close(narrow.saturation(narrow.shared()), 1.0);
        // A run with both threads takes both.
        close(loaded(Cores { of_run: 2, ..TWO }, 1, 50).shared(), 0.5);
        // What an accelerator does takes nothing of the cores, and needs none.
        let apart = loaded(Cores { of_run: 0, ..TWO }, 1, 50);
        close(apart.shared(), 0.0);
        close(apart.saturation(1.0), 0.5);
    }
}
