//! What a child may take of the machine. The system holds it to that.

use std::fs;

use corymb_core::{Device, FileSource};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::stamps::Stamps;

/// What is there for stacks and buffers that nobody counts, in bytes.
const SPARE: u64 = 256 << 20;
/// What loading may take for each byte of the files, beside what a run may.
const LOADED: u64 = 8;

/// What a child may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seconds of the processors for loading any model.
    pub load_seconds: u64,
    /// Another second for each of so many bytes of its files.
    pub bytes_of_second: u64,
    /// Bytes of the processor's memory for one run. Loading has as many, and eight for each byte of the files.
    pub run_bytes: u64,
}

impl Limits {
    /// That one run may take so many bytes; the usual time.
    #[must_use]
    pub const fn of_run(run_bytes: u64) -> Self {
        Self { load_seconds: 60, bytes_of_second: 4 << 20, run_bytes }
    }
}

/// Bounds the time and the memory of loading, as long as this is there. More time ends the process; more memory is refused it.
pub(crate) struct Loading(Rlimit);

impl Loading {
    pub(crate) fn begin(limits: Limits, model: &FileSource, device: &Device) -> Self {
        let bytes = Stamps::of(model).bytes();
        bound_memory(limits.run_bytes.saturating_add(LOADED.saturating_mul(bytes)), device);
        let before = getrlimit(Resource::Cpu);
        let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
        let most = used + limits.load_seconds + bytes / limits.bytes_of_second.max(1);
        let current = before.maximum.map_or(most, |maximum| maximum.min(most));
        let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(current), ..before });
        Self(before)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Cpu, self.0);
    }
}

/// Bounds what this process may have of memory: what it has now, and `bytes` more. Engines count most of what a run takes, but not
/// all: lists and texts that operators make are beside it. What the libraries of other devices take of it nobody knows.
pub(crate) fn bound_memory(bytes: u64, device: &Device) {
    let Some(has) = data_bytes().filter(|_| *device == Device::Cpu) else { return };
    let most = has.saturating_add(bytes).saturating_add(SPARE);
    let before = getrlimit(Resource::Data);
    let current = before.maximum.map_or(most, |maximum| maximum.min(most));
    let _ = setrlimit(Resource::Data, Rlimit { current: Some(current), ..before });
}

/// What the limit is of: private memory that may be written to.
fn data_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
