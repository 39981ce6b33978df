//! Requests in flight, and their averages over time: the numbers that autoscalers read.

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

/// Knative's own request statistics: what its autoscaler expects of a pod, to the last bit.
///
/// [`Concurrency`] serves any number of readers; this has one, since each [`RequestStats::report`] begins a new window.
/// The rules are those of `pkg/http/stats/request.go` in knative.dev/networking: time that goes back is ignored, a
/// window in which no time passed has averages of 0, and a request counts in the window in which it arrived.
#[derive(Debug)]
pub struct RequestStats {
    all: Window,
    proxied: Window,
    since: Instant,
    /// Seconds of this window, summed piece by piece as the integrals are.
    seconds: f64,
}

/// One kind of request in the current window.
#[derive(Debug, Default)]
struct Window {
    in_flight: u64,
    arrived: u64,
    /// Request-seconds.
    integral: f64,
}

/// What one window saw. Proxied requests came through Knative's activator, which reports them itself; they are in the
/// other two numbers too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestStatsReport {
    /// Requests in flight, averaged over the window.
    pub average_concurrency: f64,
    /// Of these, the proxied ones.
    pub average_proxied_concurrency: f64,
    /// Requests that arrived in the window.
    pub request_count: u64,
    /// Of these, the proxied ones.
    pub proxied_request_count: u64,
}

impl RequestStats {
    /// Begins the first window.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self { all: Window::default(), proxied: Window::default(), since: start, seconds: 0.0 }
    }

    /// A request arrives.
    pub fn enter(&mut self, now: Instant, proxied: bool) {
        self.advance(now);
        for window in self.windows(proxied) {
            window.arrived += 1;
            window.in_flight += 1;
        }
    }

    /// A request that arrived as `proxied` says ends.
    pub fn leave(&mut self, now: Instant, proxied: bool) {
        self.advance(now);
        for window in self.windows(proxied) {
            window.in_flight = window.in_flight.saturating_sub(1);
        }
    }

    /// Ends the window, and begins the next one with what is in flight.
    pub fn report(&mut self, now: Instant) -> RequestStatsReport {
        self.advance(now);
        let seconds = std::mem::take(&mut self.seconds);
        let average = |window: &mut Window| {
            let integral = std::mem::take(&mut window.integral);
            if seconds > 0.0 { integral / seconds } else { 0.0 }
        };
        RequestStatsReport {
            average_concurrency: average(&mut self.all),
            average_proxied_concurrency: average(&mut self.proxied),
            request_count: std::mem::take(&mut self.all.arrived),
            proxied_request_count: std::mem::take(&mut self.proxied.arrived),
        }
    }

    fn windows(&mut self, proxied: bool) -> impl Iterator<Item = &mut Window> {
        std::iter::once(&mut self.all).chain(proxied.then_some(&mut self.proxied))
    }

    fn advance(&mut self, now: Instant) {
        let Some(passed) = now.checked_duration_since(self.since) else { return };
        // Whole seconds and the rest are divided apart, as Go's `Seconds` does, and product and sum are rounded apart.
        let seconds = passed.as_secs_f64();
        self.seconds += seconds;
        for window in [&mut self.all, &mut self.proxied] {
            window.integral += window.in_flight as f64 * seconds;
        }
        self.since = now;
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

    #[test]
    fn two_requests_of_half_a_second_make_one_in_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut stats = RequestStats::new(start);
        stats.enter(at(0), false);
        stats.enter(at(0), true);
        stats.leave(at(500), false);
        stats.leave(at(500), true);
        let expected = RequestStatsReport {
            average_concurrency: 1.0,
            average_proxied_concurrency: 0.5,
            request_count: 2,
            proxied_request_count: 1,
        };
        assert_eq!(stats.report(at(1000)), expected);
        assert_eq!(stats.report(at(2000)), RequestStatsReport::default(), "each window has its own numbers");
    }

    #[test]
    fn what_is_in_flight_goes_on_into_the_next_window() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut stats = RequestStats::new(start);
        stats.enter(at(750), false);
        let first = stats.report(at(1000));
        assert_eq!((first.average_concurrency, first.request_count), (0.25, 1));
        let second = stats.report(at(2000));
        assert_eq!((second.average_concurrency, second.request_count), (1.0, 0));
    }

    #[test]
    fn time_that_stands_or_goes_back_is_no_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut stats = RequestStats::new(at(1000));
        stats.enter(at(400), false);
        assert_eq!(stats.report(at(1000)).average_concurrency, 0.0, "no time has passed");
        stats.leave(at(900), false);
        stats.enter(at(1500), false);
        assert_eq!(stats.report(at(2000)).average_concurrency, 0.5);
    }

    proptest! {
        /// The two ways of counting agree: an average times its window is the integral's difference.
        #[test]
        fn both_accounts_agree(steps in prop::collection::vec((0_u64..3_000, 0_u8..3), 1..100)) {
            let start = Instant::now();
            let concurrency = Concurrency {
                numbers: Mutex::new(Numbers { in_flight: 0, integral: 0.0, since: start }),
            };
            let mut stats = RequestStats::new(start);
            let (mut now, mut begin, mut before) = (start, start, 0.0);
            for (wait, step) in steps {
                now += Duration::from_millis(wait);
                match step {
                    0 => {
                        concurrency.change(now, 1);
                        stats.enter(now, false);
                    }
                    1 if concurrency.in_flight() > 0 => {
                        concurrency.change(now, -1);
                        stats.leave(now, false);
                    }
                    _ => {
                        let after = concurrency.integral_at(now);
                        let seen = stats.report(now).average_concurrency * (now - begin).as_secs_f64();
                        prop_assert!((seen - (after - before)).abs() < 1e-6, "{seen} against {}", after - before);
                        (begin, before) = (now, after);
                    }
                }
            }
        }
    }
}
