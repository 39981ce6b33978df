//! What is kept of requests as they end: a histogram and a few counts, whatever their number.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::outcome::{Failure, Outcome};

/// The longest time that histograms tell apart, in µs.
const LONGEST: u64 = 3_600_000_000;

/// How a run stands, for a view that is drawn while it goes on.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since the first request, the warm-up included.
    pub elapsed: Duration,
    /// Until the last request is sent, the warm-up included.
    pub total: Duration,
    /// The results of the warm-up do not count.
    pub warming_up: bool,
    /// Requests that count and were answered.
    pub answered: u64,
    /// Requests that count and were not.
    pub failed: u64,
    /// Begun and not ended.
    pub in_flight: usize,
    /// Answers since the last view, a second.
    pub rps: f64,
    /// Of the answers since the last view; none without any.
    pub p50: Option<Duration>,
    /// As above.
    pub p99: Option<Duration>,
}

/// Shared by all connections of a run. Held for the time of a few additions.
pub(crate) struct Recorder {
    state: Mutex<State>,
    start: Instant,
    begin: Instant,
}

pub(crate) struct State {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    /// µs from the intended start to the last byte, of requests answered or given up.
    pub(crate) latency: Histogram<u64>,
    /// µs from the intended start to when the generator got to it.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) answered: u64,
    /// Answers that came between begin and end, whenever they were asked for.
    pub(crate) answered_within: u64,
    pub(crate) failures: Vec<(Failure, u64)>,
    pub(crate) bytes: u64,
    /// Request-seconds between begin and end.
    pub(crate) busy: f64,
    in_flight: usize,
    recent: Histogram<u64>,
    recent_since: Instant,
}

pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    // These bounds are valid for every number of digits that is used here.
    Histogram::new_with_bounds(1, LONGEST, digits).unwrap_or_else(|_| unreachable!("valid bounds"))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LONGEST)
}

impl Recorder {
    /// Counts requests whose intended start lies between `begin` and `end`; `start` is that of the warm-up.
    pub(crate) fn new(start: Instant, begin: Instant, end: Instant) -> Self {
        let state = State {
            begin,
            end,
            latency: histogram(3),
            lateness: histogram(2),
            answered: 0,
            answered_within: 0,
            failures: Vec::new(),
            bytes: 0,
            busy: 0.0,
            in_flight: 0,
            recent: histogram(2),
            recent_since: start,
        };
        Self { state: Mutex::new(state), start, begin }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts stay counts where a thread panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is begun, `late` after its intended start.
    pub(crate) fn begun(&self, intended: Instant, late: Duration) {
        let mut state = self.lock();
        state.in_flight += 1;
        if state.counts(intended) {
            state.lateness.saturating_record(micros(late));
        }
    }

    /// A request that was [`begun`](Self::begun) has ended.
    pub(crate) fn ended(&self, intended: Instant, sent: Option<Instant>, outcome: Outcome) {
        let done = Instant::now();
        let mut state = self.lock();
        state.in_flight -= 1;
        let took = micros(done.saturating_duration_since(intended));
        if let Some(sent) = sent {
            let (from, to) = (sent.max(state.begin), done.min(state.end));
            state.busy += to.saturating_duration_since(from).as_secs_f64();
        }
        if outcome.is_ok() {
            state.recent.saturating_record(took);
            state.answered_within += u64::from((state.begin..=state.end).contains(&done));
        }
        if !state.counts(intended) {
            return;
        }
        match outcome {
            Ok(bytes) => {
                state.answered += 1;
                state.bytes += bytes;
                state.latency.saturating_record(took);
            }
            Err(failure) => {
                if failure.is_given_up() {
                    state.latency.saturating_record(took);
                }
                state.failed(failure);
            }
        }
    }

    /// A request that was never begun.
    pub(crate) fn unsent(&self, intended: Instant) {
        let mut state = self.lock();
        if state.counts(intended) {
            state.failed(Failure::Unsent);
        }
    }

    /// The run ends now, before its time. What is in flight is cut.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.end = Instant::now().min(state.end).max(state.begin);
        for _ in 0..state.in_flight {
            state.failed(Failure::Cut);
        }
    }

    /// Empties what is kept for the view.
    pub(crate) fn progress(&self, total: Duration) -> Progress {
        let now = Instant::now();
        let mut state = self.lock();
        let seconds = now.saturating_duration_since(state.recent_since).as_secs_f64().max(1e-3);
        let quantile = |quantile| {
            (!state.recent.is_empty()).then(|| Duration::from_micros(state.recent.value_at_quantile(quantile)))
        };
        let progress = Progress {
            elapsed: now.saturating_duration_since(self.start),
            total,
            warming_up: now < self.begin,
            answered: state.answered,
            failed: state.failures.iter().map(|(_, count)| count).sum(),
            in_flight: state.in_flight,
            rps: state.recent.len() as f64 / seconds,
            p50: quantile(0.5),
            p99: quantile(0.99),
        };
        state.recent.reset();
        state.recent_since = now;
        progress
    }

    /// Reads the counts.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }
}

impl State {
    fn counts(&self, intended: Instant) -> bool {
        (self.begin..self.end).contains(&intended)
    }

    fn failed(&mut self, failure: Failure) {
        match self.failures.iter_mut().find(|(known, _)| *known == failure) {
            Some((_, count)) => *count += 1,
            None => self.failures.push((failure, 1)),
        }
    }
}
