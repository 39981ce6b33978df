//! Where a listener stands between its start and its end, seen and awaited from everywhere.

use std::sync::Arc;

use tokio::sync::watch;

/// A stage between a listener's start and its end. A later stage is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests are answered as usual.
    Serving,
    /// Requests are still answered, on new connections too, while clients are told to go elsewhere. A readiness probe
    /// should fail from here on.
    Leaving,
    /// No new connections are accepted; those there are end with the requests they hold.
    Closing,
    /// What is left is dropped.
    Cut,
}

/// The current [`Phase`]; clones share it.
///
/// The listener moves it forward when it is told to stop. Others read it: a readiness probe, or a stream of answers
/// that has to end.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<Phase>>);

impl Drain {
    /// Begins in [`Phase::Serving`].
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once `phase`, or a later one, has begun.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Begins `phase`, unless a later one has begun.
    pub fn enter(&self, phase: Phase) {
        self.0.send_modify(|now| *now = phase.max(*now));
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
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
