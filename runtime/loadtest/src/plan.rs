//! What a run is to do: the server, the requests, the load and its time.

use std::time::Duration;

use crate::call::Call;
use crate::error::LoadError;
use crate::schedule::Arrivals;
use crate::target::Target;

/// The most connections of one run.
const MAX_CONNECTIONS: usize = 10_000;

/// How requests are made.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// So many callers, each of which sends its next request when it has the answer to its last: a connection each.
    /// What the server delays is not asked for, so a stall is seen once per caller.
    Closed {
        /// Callers.
        concurrency: usize,
    },
    /// So many requests a second, whatever becomes of those before. Latency counts from when a request should have
    /// started, so that one which had to wait for a connection shows that it waited.
    Open {
        /// Starts a second.
        rate: f64,
        /// Equal gaps, or random ones.
        arrivals: Arrivals,
        /// The most connections; they are made as they are needed.
        connections: usize,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// What to send, in turn. All of one kind, REST or gRPC.
    pub calls: Vec<Call>,
    /// How.
    pub mode: Mode,
    /// Load that does not count, before the load that does.
    pub warm_up: Duration,
    /// Load that counts.
    pub duration: Duration,
    /// A request is given up this long after its intended start.
    pub timeout: Duration,
    /// Of random arrivals.
    pub seed: u64,
}

impl Plan {
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        let wrong = |text: String| Err(LoadError::Plan(text));
        if self.calls.is_empty() {
            return wrong("there is nothing to send".to_owned());
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return wrong("a run and a request must have time: expected more than 0".to_owned());
        }
        let (Mode::Closed { concurrency: connections } | Mode::Open { connections, .. }) = self.mode;
        if !(1..=MAX_CONNECTIONS).contains(&connections) {
            return wrong(format!("{connections} connections; expected 1 to {MAX_CONNECTIONS}"));
        }
        match self.mode {
            Mode::Open { rate, .. } if !(rate.is_finite() && (1e-3..=1e6).contains(&rate)) => {
                wrong(format!("a rate of {rate} a second; expected 0.001 to 1000000"))
            }
            _ => Ok(()),
        }
    }
}
