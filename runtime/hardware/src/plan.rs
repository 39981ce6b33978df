//! The plan of threads: how many compute, how many move bytes.
//!
//! **Workers** of the compute pool: one per core of the quota. A quota that is not whole is rounded up, so that 1.5 cores
//! get two workers. The kernel's quota (CFS bandwidth control) is time per period: two workers that both run use up
//! 150 ms of a period of 100 ms after 75 ms and then stand still for 25 ms, and that only when work fills the whole
//! period. One worker alone would never stand still, but would leave a third of what was paid for unused, at which point
//! requests queue without end. Below saturation two workers are better without a price: a burst of two requests is done
//! in half the time, and stays below the quota. A remainder of up to a tenth of a core gets no worker of its own: it would
//! bring little and make all of them stand still for longer; it is left to the threads that move bytes.
//!
//! **I/O threads**: as many as workers. They are awake while bytes move, which takes microseconds of a request, or while
//! they run a model that is so fast that handing it over would cost more; then the pool has nothing to do. So both pools
//! together have about as many threads to run as there are cores, whichever of the two has the work.

use crate::cores::Cores;
use crate::hardware::Hardware;

/// Threads of one kind that can be asked for.
pub const MAX_THREADS: usize = 1024;

/// A remainder of this many thousandths of a core gets no worker.
const NOT_WORTH_A_WORKER: u64 = 100;

/// What a user wants otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadOverrides {
    /// Workers of the compute pool.
    pub workers: Option<usize>,
    /// Threads that move bytes.
    pub io_threads: Option<usize>,
}

/// How many threads, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadPlan {
    /// Cores that may be used, e.g. 1.5.
    pub cores: f64,
    /// What makes them no more.
    pub limited_by: String,
    /// Workers of the compute pool.
    pub workers: usize,
    /// Threads that move bytes.
    pub io_threads: usize,
    /// What a user said about it.
    pub overrides: ThreadOverrides,
}

impl ThreadPlan {
    /// The plan for these cores.
    #[must_use]
    pub fn new(cores: &Cores, overrides: ThreadOverrides) -> Self {
        let fitting = workers(cores.usable());
        let bounded = |threads: usize| threads.clamp(1, MAX_THREADS);
        let workers = bounded(overrides.workers.unwrap_or(fitting));
        // Fewer workers are asked for to leave cores to others; more than there are cores are no reason for more I/O.
        let io_threads = bounded(overrides.io_threads.unwrap_or(workers.min(fitting)));
        Self { cores: cores.usable(), limited_by: cores.limited_by(), workers, io_threads, overrides }
    }

    /// What a user asked for that is more than the cores can run at once.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let fitting = workers(self.cores);
        let too_many = |what: &str, threads: usize| {
            format!("{threads} {what} on {} cores ({}): they will wait for each other", self.cores, self.limited_by)
        };
        if self.workers > fitting {
            return Some(too_many("workers", self.workers));
        }
        (self.io_threads > fitting).then(|| too_many("I/O threads", self.io_threads))
    }
}

impl From<&Hardware> for ThreadPlan {
    fn from(hardware: &Hardware) -> Self {
        Self::new(&hardware.cores, ThreadOverrides::default())
    }
}

fn workers(cores: f64) -> usize {
    // In thousandths, because 1.1 is no binary fraction.
    let thousandths = (cores * 1000.0).round() as u64;
    let workers = thousandths.saturating_sub(NOT_WORTH_A_WORKER).div_ceil(1000);
    usize::try_from(workers).unwrap_or(MAX_THREADS).clamp(1, MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::cores::CpuQuota;

    fn cores(allowed: u32, quota_micros: Option<u64>) -> Cores {
        let quota = quota_micros.map(|quota_micros| CpuQuota {
            quota_micros,
            period_micros: 100_000,
            source: PathBuf::from("/sys/fs/cgroup/cpu.max"),
        });
        Cores { online: 64, allowed: (0..allowed).collect(), quota }
    }

    fn plan(allowed: u32, quota_micros: Option<u64>, workers: Option<usize>, io_threads: Option<usize>) -> ThreadPlan {
        ThreadPlan::new(&cores(allowed, quota_micros), ThreadOverrides { workers, io_threads })
    }

    #[test]
    fn a_quota_is_rounded_up_but_for_a_tenth() {
        for (quota, expected) in [
            (1_000, 1),
            (50_000, 1),
            (100_000, 1),
            (105_000, 1),
            (110_000, 1),
            (111_000, 2),
            (150_000, 2),
            (200_000, 2),
            (205_000, 2),
            (250_000, 3),
            (3_200_000, 32),
        ] {
            let plan = plan(64, Some(quota), None, None);
            assert_eq!((plan.workers, plan.io_threads), (expected, expected), "{quota}");
            assert_eq!(plan.limited_by, "/sys/fs/cgroup/cpu.max");
        }
    }

    #[test]
    fn processors_limit_too() {
        let narrow = plan(2, Some(800_000), None, None);
        assert_eq!((narrow.workers, narrow.cores), (2, 2.0));
        assert_eq!(narrow.limited_by, "the process's affinity: 2 of 64 processors");
        let whole = plan(64, None, None, None);
        assert_eq!((whole.workers, whole.limited_by.as_str()), (64, "the machine"));
    }

    #[test]
    fn a_user_may_want_it_otherwise() {
        let fewer = plan(8, None, Some(2), None);
        assert_eq!((fewer.workers, fewer.io_threads, fewer.warning()), (2, 2, None));
        let more = plan(2, None, Some(16), None);
        assert_eq!((more.workers, more.io_threads), (16, 2));
        assert!(more.warning().expect("too many").starts_with("16 workers on 2 cores"));
        let io = plan(8, None, None, Some(1));
        assert_eq!((io.workers, io.io_threads, io.warning()), (8, 1, None));
        assert!(plan(1, None, None, Some(3)).warning().expect("too many").starts_with("3 I/O threads on 1 cores"));
        let endless = plan(8, None, Some(usize::MAX), Some(0));
        assert_eq!((endless.workers, endless.io_threads), (MAX_THREADS, 1));
    }

    proptest! {
        #[test]
        fn no_more_workers_than_cores_rounded_up(allowed in 1u32..300, quota in proptest::option::of(1u64..100_000_000)) {
            let cores = cores(allowed, quota);
            let plan = ThreadPlan::new(&cores, ThreadOverrides::default());
            prop_assert!(plan.workers >= 1);
            prop_assert!(plan.workers as f64 <= cores.usable().ceil().max(1.0));
            // At most a tenth of a core has no worker.
            prop_assert!(plan.workers as f64 >= cores.usable() - 0.101);
            prop_assert!(plan.io_threads <= plan.workers);
            prop_assert!(plan.warning().is_none());
        }
    }
}
