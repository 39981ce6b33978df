//! When a child that ended is started again.

use std::time::{Duration, Instant};

/// So many ends in a row are followed by a start at once.
const FREE: f64 = 3.0;
/// After so long one end is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// With so many ends that are not forgotten the wait is the longest; more are not counted.
const MOST: f64 = 13.0;

/// The ends of the children of one model.
#[derive(Default)]
pub(crate) struct Backoff {
    /// Ends that are not forgotten, at the last of them.
    ends: f64,
    last: Option<Instant>,
}

impl Backoff {
    /// A process ended. One that had served before came to its end by what it was asked last, and another will serve as well:
    /// those who ask for that do not wait.
    pub(crate) fn ended(&mut self, now: Instant, had_served: bool) {
        if had_served {
            *self = Self::default();
            return;
        }
        self.ends = (self.remembered(now) + 1.0).min(MOST);
        self.last = Some(now);
    }

    /// How long the next start has to wait; none where it need not.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let beyond = self.ends - FREE;
        let since = now.saturating_duration_since(self.last?);
        let wait = if beyond <= 0.0 { Duration::ZERO } else { FIRST.mul_f64(2.0_f64.powf(beyond - 1.0)).min(LONGEST) };
        wait.checked_sub(since).filter(|left| !left.is_zero())
    }

    fn remembered(&self, now: Instant) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let forgotten = now.saturating_duration_since(last).as_secs_f64() / FORGOTTEN_AFTER.as_secs_f64();
        (self.ends - forgotten).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_ends_cost_nothing_and_many_cost_time() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        for _ in 0..3 {
            assert_eq!(backoff.wait(now), None);
            backoff.ended(now, false);
        }
        assert_eq!(backoff.wait(now), None);
        backoff.ended(now, false);
        assert_eq!(backoff.wait(now), Some(FIRST));
        now += FIRST;
        assert_eq!(backoff.wait(now), None);
        backoff.ended(now, false);
        assert!(backoff.wait(now).is_some_and(|wait| wait > FIRST && wait <= 2 * FIRST), "{:?}", backoff.wait(now));
        for _ in 0..20 {
            backoff.ended(now, false);
        }
        assert_eq!(backoff.wait(now), Some(LONGEST));
        backoff.ended(now, true);
        assert_eq!(backoff.wait(now), None, "it had served");
        // One that ends now and then starts at once.
        let mut rare = Backoff::default();
        for _ in 0..50 {
            rare.ended(now, false);
            now += FORGOTTEN_AFTER;
        }
        assert_eq!(rare.wait(now), None);
    }
}
