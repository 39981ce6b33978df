//! How many threads compute, and how many move bytes.

use clap::Args;
use corymb_hardware::{Hardware, MAX_THREADS, ThreadOverrides, ThreadPlan};

use super::limits::positive;

/// Numbers of threads that win over the plan.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct ThreadFlags {
    /// Threads that compute [default: one per core that may be used]
    #[arg(long, value_parser = threads, value_name = "N")]
    workers: Option<usize>,
    /// Threads that move bytes [default: as many as workers, at most one per core]
    #[arg(long, value_parser = threads, value_name = "N")]
    io_threads: Option<usize>,
}

fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        number if number > MAX_THREADS => Err(format!("expected at most {MAX_THREADS}")),
        number => Ok(number),
    }
}

impl ThreadFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self { workers: self.workers.or(lower.workers), io_threads: self.io_threads.or(lower.io_threads) }
    }

    /// The plan for this machine.
    pub(super) fn plan(&self, hardware: &Hardware) -> ThreadPlan {
        ThreadPlan::new(&hardware.cores, ThreadOverrides { workers: self.workers, io_threads: self.io_threads })
    }
}
