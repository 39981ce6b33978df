//! How a listener stops: one sequence, each stage with its own limit, that loses no request it accepted.

use std::time::{Duration, Instant};

use crate::accept::Acceptors;
use crate::counts::Counts;
use crate::drain::{Drain, Phase};
use crate::options::ListenerOptions;

/// How stopping went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were still unanswered when the time was up; 0 when all were answered.
    pub cut: usize,
    /// From the signal to the end.
    pub took: Duration,
}

/// How long a stopping listener waits for connections that were dropped to be gone.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// Stops. `hurry` resolves at the second signal and cuts every stage short.
pub(crate) async fn stop(
    drain: &Drain,
    options: &ListenerOptions,
    acceptors: Acceptors,
    counts: &Counts,
    hurry: impl Future<Output = ()>,
) -> Drained {
    let begin = Instant::now();
    let deadline = tokio::time::Instant::now() + options.drain_timeout;
    tokio::pin!(hurry);

    // Readiness is off from here; endpoints disappear while requests are still served.
    drain.enter(Phase::Leaving);
    tracing::info!(delay = ?options.drain_delay, timeout = ?options.drain_timeout, "draining");
    let mut hurried = tokio::select! {
        () = tokio::time::sleep(options.drain_delay.min(options.drain_timeout)) => false,
        () = &mut hurry => true,
    };

    // The acceptors hand over what the kernel has accepted already, then close their listeners.
    drain.enter(Phase::Closing);
    acceptors.finished().await;

    // Idle connections are told to go; the others end with their last answer.
    if !hurried {
        tokio::select! {
            () = counts.no_connection() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = &mut hurry => hurried = true,
        }
    }

    // What is left has had its time.
    let cut = counts.requests();
    drain.enter(Phase::Cut);
    let _ = tokio::time::timeout(CUT_LIMIT, counts.no_connection()).await;

    let drained = Drained { cut, took: begin.elapsed() };
    if cut == 0 {
        tracing::info!(took = ?drained.took, hurried, "drained");
    } else {
        tracing::warn!(took = ?drained.took, hurried, cut, "stopped before every request was answered");
    }
    drained
}
