//! Prometheus' `rate` of a counter that is scraped: `extrapolatedRate` in `promql/functions.go` of Prometheus 3.

use std::collections::VecDeque;

use crate::simulate::{SECOND, Time};

/// A counter of some pods that stand alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    samples: VecDeque<(Time, f64)>,
}

impl Series {
    /// A scrape. What is older than the window is forgotten.
    pub(super) fn scraped(&mut self, now: Time, value: f64, window: Time) {
        self.forget(now, window);
        self.samples.push_back((now, value));
    }

    /// Samples that no rate will see again.
    pub(super) fn forget(&mut self, now: Time, window: Time) {
        while self.samples.front().is_some_and(|(at, _)| at + window <= now) {
            self.samples.pop_front();
        }
    }

    /// Whether there will be no rate any more.
    pub(super) fn is_over(&self) -> bool {
        self.samples.len() < 2
    }

    /// The rate over the window that ends now, a second; none of fewer than two samples.
    pub(super) fn rate(&self, now: Time, window: Time) -> Option<f64> {
        let within = |at: &Time| *at + window > now;
        let mut samples = self.samples.iter().filter(|(at, _)| within(at));
        let (&(begin, first), &(end, last)) = (samples.next()?, samples.next_back()?);
        let between = samples.count() + 1;
        let seconds = |time: Time| time as f64 / SECOND as f64;
        let sampled = seconds(end - begin);
        let gap = sampled / between as f64;
        let delta = last - first;
        let mut before = seconds(begin + window - now);
        let mut after = seconds(now - end);
        // A series that ends within the window is not stretched to all of it.
        if before >= gap * 1.1 {
            before = gap / 2.0;
        }
        if delta > 0.0 {
            // No counter was below 0.
            before = before.min(sampled * first / delta);
        }
        if after >= gap * 1.1 {
            after = gap / 2.0;
        }
        Some(delta * (sampled + before + after) / sampled / seconds(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Time = 30 * SECOND;

    fn series(samples: &[(u64, f64)]) -> Series {
        let mut series = Series::default();
        samples.iter().for_each(|&(second, value)| series.scraped(second * SECOND, value, WINDOW));
        series
    }

    fn close(rate: Option<f64>, expected: f64) {
        assert!(rate.is_some_and(|rate| (rate - expected).abs() < 1e-9), "{rate:?}, expected {expected}");
    }

    #[test]
    fn a_steady_counter_has_its_slope_as_rate() {
        let steady = series(&(0..10).map(|scrape| (scrape * 5, 100.0 + scrape as f64 * 10.0)).collect::<Vec<_>>());
        close(steady.rate(45 * SECOND, WINDOW), 2.0);
        close(steady.rate(47 * SECOND, WINDOW), 2.0);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        assert_eq!(series(&[(5, 1.0)]).rate(6 * SECOND, WINDOW), None);
        // Two samples, 5 s apart: half a gap is added where the window is empty, but no counter was below 0.
        close(series(&[(20, 100.0), (25, 110.0)]).rate(25 * SECOND, WINDOW), 10.0 * 7.5 / 5.0 / 30.0);
        close(series(&[(20, 0.0), (25, 10.0)]).rate(25 * SECOND, WINDOW), 10.0 / 30.0);
        // One that ended 12 s ago.
        let ended = series(&[(5, 100.0), (10, 110.0), (15, 120.0), (20, 130.0)]);
        close(ended.rate(32 * SECOND, WINDOW), 30.0 * (15.0 + 2.5 + 3.0_f64.min(5.5)) / 15.0 / 30.0);
        assert_eq!(ended.rate(60 * SECOND, WINDOW), None);
    }
}
