//! One run: warm up, load for a time, wait for what is in flight, report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::call::Call;
use crate::record::{Progress, Recorder};
use crate::report::Report;
use crate::schedule::Arrivals;
use crate::target::Target;
use crate::{closed, open};

/// How often the view is told.
const VIEW: Duration = Duration::from_millis(500);

/// The most connections of one run.
const MAX_CONNECTIONS: usize = 10_000;

/// Why there is no report.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LoadError {
    #[error("'{url}': {reason}")]
    Target { url: String, reason: String },
    #[error("the request cannot be sent: {0} is not valid")]
    Request(String),
    #[error("{0}")]
    Plan(String),
    #[error("the load generator failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

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
    fn check(&self) -> Result<(), LoadError> {
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

/// What the connections of a run share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) recorder: Recorder,
    /// No request is begun at or after this.
    pub(crate) end: Instant,
    pub(crate) stopped: AtomicBool,
    turn: AtomicUsize,
}

impl Shared {
    /// The next request in turn.
    pub(crate) fn call(&self) -> &Call {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.plan.calls[turn % self.plan.calls.len()]
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Runs `plan`, telling `progress` twice a second. When `stop` is ready first, what has been measured is reported.
///
/// It ends at most [`Plan::timeout`] after the last request was meant to start.
///
/// # Errors
/// Where the plan cannot be run. Requests that fail are part of the report.
pub async fn run(
    plan: Plan,
    mut progress: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Report, LoadError> {
    plan.check()?;
    let start = Instant::now();
    let begin = start + plan.warm_up;
    let end = begin + plan.duration;
    let total = plan.warm_up + plan.duration;
    let mode = plan.mode;
    let shared = Arc::new(Shared {
        recorder: Recorder::new(start, begin, end),
        plan,
        end,
        stopped: AtomicBool::new(false),
        turn: AtomicUsize::new(0),
    });
    let work = async {
        match mode {
            Mode::Closed { concurrency } => closed::run(&shared, concurrency).await,
            Mode::Open { rate, arrivals, connections } => open::run(&shared, start, rate, arrivals, connections).await,
        }
    };
    let mut view = tokio::time::interval(VIEW);
    view.tick().await;
    tokio::pin!(work, stop);
    loop {
        tokio::select! {
            done = &mut work => {
                done?;
                break;
            }
            () = &mut stop => {
                shared.stopped.store(true, Ordering::Relaxed);
                shared.recorder.stop();
                break;
            }
            _ = view.tick() => progress(&shared.recorder.progress(total)),
        }
    }
    Ok(shared.recorder.read(|state| Report::of(state, matches!(mode, Mode::Open { .. }))))
}
