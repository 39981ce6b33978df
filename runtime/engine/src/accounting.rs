//! Requests in flight, and their integral over time: the number that autoscalers read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Requests in flight of one model, or of the server.
///
/// The average concurrency between two moments is the difference of [`Concurrency::integral`] over the time between
/// them, which is Knative's definition (time-weighted average); every reader takes its own difference, so that none
/// disturbs another.
#[derive(Debug)]
pub struct Concurrency {
    // Three numbers change together and nothing is awaited in between, so a std Mutex is the right lock.
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    in_flight: u64,
    /// Request-seconds up to `since`.
    integral: f64,
    since: Instant,
}

impl Numbers {
    fn advance(&mut self, now: Instant) {
        self.integral += self.in_flight as f64 * now.saturating_duration_since(self.since).as_secs_f64();
        // Two threads may read the clock in one order and take the lock in the other.
        self.since = self.since.max(now);
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { numbers: Mutex::new(Numbers { in_flight: 0, integral: 0.0, since: Instant::now() }) }
    }
}

impl Concurrency {
    /// Counts one request until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.change(Instant::now(), 1);
        InFlight(Arc::clone(self))
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.lock().in_flight
    }

    /// Request-seconds since the start: ∫ in-flight dt.
    #[must_use]
    pub fn integral(&self) -> f64 {
        self.integral_at(Instant::now())
    }

    fn integral_at(&self, now: Instant) -> f64 {
        let mut numbers = self.lock();
        numbers.advance(now);
        numbers.integral
    }

    fn change(&self, now: Instant, by: i64) {
        let mut numbers = self.lock();
        numbers.advance(now);
        numbers.in_flight = numbers.in_flight.saturating_add_signed(by);
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that is counted; dropping it ends the count.
#[derive(Debug)]
pub struct InFlight(Arc<Concurrency>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.change(Instant::now(), -1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn guards_count() {
        let concurrency = Arc::new(Concurrency::default());
        let first = concurrency.enter();
        let second = concurrency.enter();
        assert_eq!(concurrency.in_flight(), 2);
        drop(first);
        drop(second);
        assert_eq!(concurrency.in_flight(), 0);
    }

    proptest! {
        /// Against the definition: the sum over requests of the time each was in flight.
        #[test]
        fn the_integral_is_the_sum_of_residence_times(mut spans in prop::collection::vec((0_u64..10_000, 0_u64..10_000), 0..50)) {
            let start = Instant::now();
            let concurrency = Concurrency {
                numbers: Mutex::new(Numbers { in_flight: 0, integral: 0.0, since: start }),
            };
            let mut events = Vec::new();
            for (from, length) in &mut spans {
                events.push((*from, 1_i64));
                events.push((*from + *length, -1));
            }
            events.sort_by_key(|(at, change)| (*at, -change));
            for (at, change) in events {
                concurrency.change(start + Duration::from_millis(at), change);
            }
            let expected: f64 = spans.iter().map(|(_, length)| *length as f64 / 1000.0).sum();
            let seen = concurrency.integral_at(start + Duration::from_secs(100));
            prop_assert!((seen - expected).abs() < 1e-6, "{seen} against {expected}");
            prop_assert_eq!(concurrency.in_flight(), 0);
        }
    }
}
