//! Processor time of the server and of the generator while a run goes on.

use std::time::Instant;

use corymb_loadtest::Progress;
use serde_json::{Value, json};

/// Ticks of `/proc/PID/stat` a second, on every architecture that this runs on.
const TICKS: f64 = 100.0;

/// Seconds of processor time, user and system, that a process has used with all its threads.
fn used(pid: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything; behind it the fields are numbers from the third on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

struct Mark {
    at: Instant,
    server: Option<f64>,
    generator: Option<f64>,
    answered: u64,
}

/// Reads at the first view behind the warm-up, and at the end.
pub(super) struct Cpu {
    server: Option<String>,
    begin: Option<Mark>,
    end: Option<Mark>,
}

/// What was used; none where a process cannot be seen or the run was short.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuFigures {
    /// Milliseconds of the server's processor time for one answer.
    pub(crate) server_ms_per_request: Option<f64>,
    pub(crate) server_cores: Option<f64>,
    pub(crate) generator_cores: Option<f64>,
}

impl Cpu {
    pub(super) fn new(pid: Option<u32>) -> Self {
        Self { server: pid.map(|pid| pid.to_string()), begin: None, end: None }
    }

    fn mark(&self, answered: u64) -> Mark {
        Mark { at: Instant::now(), server: self.server.as_deref().and_then(used), generator: used("self"), answered }
    }

    pub(super) fn at(&mut self, progress: &Progress) {
        if progress.warming_up {
            return;
        }
        let mark = self.mark(progress.answered);
        if self.begin.is_none() {
            self.begin = Some(mark);
        } else if progress.elapsed <= progress.total {
            self.end = Some(mark);
        }
    }

    pub(super) fn end(self) -> CpuFigures {
        let (Some(begin), Some(end)) = (self.begin, self.end) else { return CpuFigures::default() };
        let seconds = end.at.duration_since(begin.at).as_secs_f64();
        let difference = |end: Option<f64>, begin: Option<f64>| Some(end? - begin?);
        let server = difference(end.server, begin.server);
        let answered = end.answered - begin.answered;
        CpuFigures {
            server_ms_per_request: server.filter(|_| answered > 0).map(|used| used * 1e3 / answered as f64),
            server_cores: server.map(|used| used / seconds),
            generator_cores: difference(end.generator, begin.generator).map(|used| used / seconds),
        }
    }
}

impl CpuFigures {
    pub(super) fn json(&self) -> Value {
        json!({
            "server_ms_per_request": self.server_ms_per_request,
            "server_cores": self.server_cores,
            "generator_cores": self.generator_cores,
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_used_some_time_and_no_other_has_not() {
        assert!(super::used("self").is_some_and(|seconds| seconds >= 0.0));
        assert!(super::used("0").is_none());
    }
}
