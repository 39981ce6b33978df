//! When to ask again, and when to give up: by what has come, not by how often it was asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::{Fault, FaultKind};

/// The first pause; each that follows is twice as long.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause of our own making.
const LONGEST: Duration = Duration::from_secs(5);

/// Shared by all requests for one object: what one brings gives the others new time.
#[derive(Debug)]
pub(crate) struct Patience {
    timeout: Duration,
    last: Mutex<Instant>,
}

impl Patience {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, last: Mutex::new(Instant::now()) }
    }

    /// Something came.
    pub(crate) fn renew(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits before the next try, unless there is to be none.
    pub(crate) async fn wait(&self, fault: Fault, tries: &mut u32) -> Result<(), Fault> {
        let idle = self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let pause = self.pause(fault, idle, *tries)?;
        *tries += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// How long to wait after `tries` tries in a row that brought nothing, when nothing has come for `idle`.
    fn pause(&self, fault: Fault, idle: Duration, tries: u32) -> Result<Duration, Fault> {
        let FaultKind::Passing(wish) = fault.kind else { return Err(fault) };
        let own = FIRST.saturating_mul(1 << tries.min(16)).min(LONGEST);
        let left = self.timeout.saturating_sub(idle);
        let seconds = self.timeout.as_secs_f64();
        match wish {
            Some(wish) if wish > left => {
                let wish = wish.as_secs();
                let reason =
                    format!("{}; it asks to wait {wish} s, which is more than --download-timeout leaves", fault.reason);
                Err(Fault { kind: FaultKind::Refused, reason })
            }
            _ if left.is_zero() => Err(Fault {
                kind: FaultKind::Silent,
                reason: format!("nothing came for {seconds} s (--download-timeout); the last try: {}", fault.reason),
            }),
            wish => Ok(wish.unwrap_or_default().max(own.min(left))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience::new(60 * SECOND);
        let pause = |kind, idle, tries| patience.pause(Fault { kind, reason: "busy".to_owned() }, idle, tries);
        let passing = FaultKind::Passing(None);
        assert_eq!(pause(passing, Duration::ZERO, 0).expect("again"), FIRST);
        assert_eq!(pause(passing, Duration::ZERO, 1).expect("again"), 2 * FIRST);
        assert_eq!(pause(passing, Duration::ZERO, 30).expect("again"), LONGEST);
        assert_eq!(pause(passing, 58 * SECOND, 30).expect("again"), 2 * SECOND);
        let end = pause(passing, 60 * SECOND, 1).expect_err("enough");
        assert_eq!(end.reason, "nothing came for 60 s (--download-timeout); the last try: busy");
        for kind in [FaultKind::Refused, FaultKind::Missing, FaultKind::Changed] {
            assert_eq!(pause(kind, Duration::ZERO, 0).expect_err("final").kind, kind);
        }
    }

    #[test]
    fn the_server_s_wish_counts_within_the_time_that_is_left() {
        let patience = Patience::new(60 * SECOND);
        let pause = |wish, idle| {
            patience.pause(Fault { kind: FaultKind::Passing(Some(wish)), reason: "busy".to_owned() }, idle, 0)
        };
        assert_eq!(pause(30 * SECOND, 20 * SECOND).expect("again"), 30 * SECOND);
        assert_eq!(pause(Duration::ZERO, 20 * SECOND).expect("again"), FIRST);
        assert!(pause(41 * SECOND, 20 * SECOND).expect_err("too long").reason.contains("asks to wait 41 s"));
    }
}
