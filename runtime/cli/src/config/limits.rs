//! How much is held at once: requests, and bytes of bodies and of runs.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use corymb_core::RUN_BYTES;
use corymb_hardware::Hardware;
use rustix::process::{Resource, getrlimit};

/// The largest body where nobody says, as long as this is a small part of the memory limit.
const MAX_BODY: u64 = 256 << 20;
/// The part of the memory limit that one body may have.
const BODY_PART: u64 = 8;

/// Connections held at once where nobody says.
const CONNECTIONS: usize = 16 * 1024;

/// Bounds of what is held.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct LimitFlags {
    /// Requests held at once [default: 512 a worker]
    #[arg(long, value_parser = positive)]
    max_in_flight: Option<usize>,
    /// Connections held at once; when there are as many, idle ones end [default: 16384, at most 7/8 of the limit of open files]
    #[arg(long, value_parser = positive)]
    max_connections: Option<usize>,
    /// Bytes of one request's body or gRPC message [default: 256MiB, at most 1/8 of the memory limit]
    #[arg(long, value_parser = some_bytes, value_name = "SIZE")]
    max_body: Option<ByteSize>,
    /// Memory that one run of a model may take on the processor [default: 4GiB, at most 3/4 of the memory limit]
    #[arg(long, value_parser = some_bytes, value_name = "SIZE")]
    max_run_memory: Option<ByteSize>,
    /// Requests waiting for one model, where its manifest does not say [default: 512 a worker]
    #[arg(long, value_parser = positive)]
    max_queue: Option<usize>,
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number, 1 or more".to_owned()),
    }
}

/// Longer than anybody waits; beyond it the clocks of some systems end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A duration as it is typed, a year at most.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time > LONGEST => Err("expected a year at most".to_owned()),
        Ok(time) => Ok(time),
        Err(_) => Err("expected a duration such as 250ms, 30s or 5m".to_owned()),
    }
}

/// A size as it is typed.
pub(super) fn bytes(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "expected a size such as 512KiB, 64MiB or 2GiB".to_owned())
}

fn some_bytes(text: &str) -> Result<ByteSize, String> {
    match bytes(text)? {
        ByteSize(0) => Err("expected at least 1 byte".to_owned()),
        size => Ok(size),
    }
}

impl LimitFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            max_in_flight: self.max_in_flight.or(lower.max_in_flight),
            max_connections: self.max_connections.or(lower.max_connections),
            max_body: self.max_body.or(lower.max_body),
            max_run_memory: self.max_run_memory.or(lower.max_run_memory),
            max_queue: self.max_queue.or(lower.max_queue),
        }
    }

    pub(super) fn max_in_flight(&self, workers: usize) -> usize {
        self.max_in_flight.unwrap_or(wide(workers))
    }

    /// As many as nobody has, where nobody says; fewer where there are too few files for that, of which some are not connections.
    pub(super) fn max_connections(&self) -> usize {
        let files = getrlimit(Resource::Nofile).maximum.and_then(|files| usize::try_from(files).ok());
        let default = || files.map_or(CONNECTIONS, |files| CONNECTIONS.min(files / 8 * 7));
        self.max_connections.unwrap_or_else(default)
    }

    pub(super) fn max_queue(&self, workers: usize) -> usize {
        self.max_queue.unwrap_or(wide(workers))
    }

    /// Bytes of one body. Where nobody says, it is a small part of the memory: a body is held beside the tensors that it
    /// becomes, and beside others.
    pub(super) fn max_body(&self, hardware: &Hardware) -> usize {
        let part = || hardware.memory.limit().map_or(MAX_BODY, |limit| MAX_BODY.min(limit.limit_bytes / BODY_PART));
        usize::try_from(self.max_body.map_or_else(part, |size| size.as_u64())).unwrap_or(usize::MAX)
    }

    /// Bytes that one run may take. Where nobody says, it is part of the memory: the process has to hold models and
    /// requests beside it.
    pub(super) fn run_bytes(&self, hardware: &Hardware) -> u64 {
        let part = || hardware.memory.limit().map_or(RUN_BYTES, |limit| RUN_BYTES.min(limit.limit_bytes / 4 * 3));
        self.max_run_memory.map_or_else(part, |size| size.as_u64())
    }
}

/// Wide enough that an autoscaler sees the excess: far above ten times the concurrency that keeps a core busy.
fn wide(workers: usize) -> usize {
    512 * workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_take_part_of_the_memory_where_nobody_says() {
        for (gibibytes, expected) in [(1, 3 << 28), (64, 4 << 30)] {
            let root = tempfile::tempdir().expect("a temporary folder");
            std::fs::create_dir(root.path().join("proc")).expect("made");
            let total = format!("MemTotal: {} kB\n", gibibytes << 20);
            std::fs::write(root.path().join("proc/meminfo"), total).expect("written");
            let hardware = Hardware::read_below(root.path());
            assert_eq!(LimitFlags::default().run_bytes(&hardware), expected);
            let body = usize::try_from((gibibytes << 27).min(MAX_BODY)).expect("small");
            assert_eq!(LimitFlags::default().max_body(&hardware), body);
            let named = LimitFlags { max_body: Some(ByteSize(7)), ..LimitFlags::default() };
            assert_eq!(named.max_body(&hardware), 7);
        }
    }
}
