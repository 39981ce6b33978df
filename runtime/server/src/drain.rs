//! How the server stops: one sequence, each stage with its own limit, that loses no request it accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::listen::{Acceptors, Connections};
use crate::options::ServerOptions;

/// Where the server stands between its start and its end. Later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// As usual.
    Serving,
    /// No longer ready, but still answering, on new connections too.
    Leaving,
    /// No new connections; those there are end with the requests they hold.
    Closing,
    /// What is left is dropped.
    Cut,
}

/// The phase, seen and awaited from everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Drain(Arc<watch::Sender<Phase>>);

impl Drain {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once `phase`, or a later one, has begun.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_modify(|now| *now = phase.max(*now));
    }
}

/// How stopping went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were still unanswered when the time was up; 0 when all were answered.
    pub cut: usize,
    /// From the signal to the end.
    pub took: Duration,
}

/// How long a stopping server waits for connections that were dropped to be gone.
const CUT_LIMIT: Duration = Duration::from_secs(1);

/// Stops. `hurry` resolves at the second signal and cuts every stage short.
pub(crate) async fn stop(
    drain: &Drain,
    options: &ServerOptions,
    acceptors: Acceptors,
    connections: Connections,
    hurry: impl Future<Output = ()>,
) -> Drained {
    let begin = Instant::now();
    let deadline = tokio::time::Instant::now() + options.drain_timeout;
    tokio::pin!(hurry);

    // Readiness is off from here; endpoints disappear while predictions are still served.
    drain.enter(Phase::Leaving);
    tracing::info!(delay = ?options.drain_delay, timeout = ?options.drain_timeout, "draining");
    let mut hurried = tokio::select! {
        () = tokio::time::sleep(options.drain_delay.min(options.drain_timeout)) => false,
        () = &mut hurry => true,
    };

    // The listeners hand over what the kernel has accepted already, then close.
    drain.enter(Phase::Closing);
    acceptors.finished().await;

    // Idle connections are told to go; the others end with their last answer.
    if !hurried {
        tokio::select! {
            () = connections.gone() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = &mut hurry => hurried = true,
        }
    }

    // What is left has had its time.
    let cut = connections.requests();
    drain.enter(Phase::Cut);
    let _ = tokio::time::timeout(CUT_LIMIT, connections.gone()).await;

    let drained = Drained { cut, took: begin.elapsed() };
    if cut == 0 {
        tracing::info!(took = ?drained.took, hurried, "drained");
    } else {
        tracing::warn!(took = ?drained.took, hurried, cut, "stopped before every request was answered");
    }
    drained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_go_forward() {
        let drain = Drain::new();
        assert_eq!(drain.phase(), Phase::Serving);
        drain.enter(Phase::Closing);
        drain.enter(Phase::Leaving);
        assert_eq!(drain.phase(), Phase::Closing);
        drain.reached(Phase::Leaving).await;
        drain.reached(Phase::Closing).await;
    }
}
