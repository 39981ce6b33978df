//! A trace of request rates.

use crate::schedule::{Arrivals, exponential};
use crate::simulate::{LONGEST, SECOND, SimulateError, Time};

/// Rates over time: each holds until the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Starts and rates a second.
    steps: Vec<(Time, f64)>,
    end: Time,
}

impl Trace {
    /// Of starts and rates, in the order of their times, the first at 0, and the end.
    ///
    /// # Errors
    /// Where the trace is longer than a simulation may be.
    pub(super) fn new(steps: Vec<(Time, f64)>, end: Time) -> Result<Self, SimulateError> {
        if end > LONGEST * SECOND {
            let what = format!("the trace takes {:.0} s", end as f64 / SECOND as f64);
            return Err(SimulateError::TooLarge { what, limit: LONGEST });
        }
        Ok(Self { steps, end })
    }

    /// One rate, for as long as it is wanted.
    pub(in crate::simulate) fn steady(rate: f64, end: Time) -> Self {
        Self { steps: vec![(0, rate)], end }
    }

    /// When it ends.
    pub(in crate::simulate) fn end(&self) -> Time {
        self.end
    }

    /// The rate at a time, a second.
    pub(in crate::simulate) fn rate(&self, at: Time) -> f64 {
        let index = self.steps.partition_point(|(start, _)| *start <= at);
        if at >= self.end { 0.0 } else { index.checked_sub(1).map_or(0.0, |index| self.steps[index].1) }
    }

    /// Expected requests in all.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.segments().map(|(start, end, rate)| (end - start) as f64 / SECOND as f64 * rate).sum()
    }

    /// Expected requests between two times.
    pub(in crate::simulate) fn between(&self, from: Time, to: Time) -> f64 {
        let first = self.steps.partition_point(|(start, _)| *start <= from).saturating_sub(1);
        let ends = self.steps.iter().skip(first + 1).map(|(start, _)| *start).chain([self.end]);
        let parts = self.steps[first..].iter().zip(ends).take_while(|((start, _), _)| *start < to);
        let overlap = |start: Time, end: Time| end.min(to).saturating_sub(start.max(from));
        parts.map(|(&(start, rate), end)| overlap(start, end) as f64 / SECOND as f64 * rate).sum()
    }

    fn segments(&self) -> impl Iterator<Item = (Time, Time, f64)> + '_ {
        let ends = self.steps.iter().skip(1).map(|(start, _)| *start).chain([self.end]);
        self.steps.iter().zip(ends).map(|(&(start, rate), end)| (start, end, rate))
    }

    /// When requests come.
    pub(in crate::simulate) fn arrivals(&self, arrivals: Arrivals, seed: u64) -> impl Iterator<Item = Time> + use<> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut gap = move || match arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => exponential(&mut random),
        };
        let segments: Vec<(Time, Time, f64)> = self.segments().collect();
        let mut segment = 0;
        // A request is due when the integral of the rate has grown by `left`: half a gap before the first, so that
        // equal gaps do not all begin with the trace.
        let mut left = gap() / 2.0;
        let mut now = 0.0;
        std::iter::from_fn(move || {
            while let Some(&(_, end, rate)) = segments.get(segment) {
                let room = (end as f64 - now) / SECOND as f64 * rate;
                if room >= left {
                    now += left / rate * SECOND as f64;
                    left = gap();
                    return Some(now as Time);
                }
                left -= room;
                now = end as f64;
                segment += 1;
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_hold_until_the_next() {
        let trace = Trace::parse("seconds,rate\n# a comment\n0, 10\n\n2.5,0\n4,100\n5,7\n").expect("valid");
        let rates = [0.0, 2.4, 2.5, 3.9, 4.0, 4.9, 5.0].map(|seconds| trace.rate((seconds * 1e6) as Time));
        assert_eq!(rates, [10.0, 10.0, 0.0, 0.0, 100.0, 100.0, 0.0]);
        let arrivals: Vec<Time> = trace.arrivals(Arrivals::Constant, 0).collect();
        assert_eq!(arrivals.iter().filter(|at| **at < 2_500_000).count(), 25);
        assert_eq!(arrivals.iter().filter(|at| (2_500_000..4_000_000).contains(*at)).count(), 0);
        assert_eq!(arrivals.len(), 125);
        assert!(arrivals.is_sorted());
        assert_eq!(arrivals[0], 50_000);
        let between = |from: f64, to: f64| trace.between((from * 1e6).round() as Time, (to * 1e6).round() as Time);
        assert!((between(0.0, 9.0) - 125.0).abs() < 1e-9 && (between(2.0, 4.1) - 15.0).abs() < 1e-9);
        assert_eq!(between(2.5, 4.0), 0.0);
    }

    #[test]
    fn random_arrivals_follow_the_rate_and_the_seed() {
        let trace = Trace::parse("0,1000\n10,0\n20,1000\n30,0").expect("valid");
        let arrivals: Vec<Time> = trace.arrivals(Arrivals::Poisson, 3).collect();
        assert!((19_000..21_000).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(!arrivals.iter().any(|at| (10 * SECOND..20 * SECOND).contains(at)));
        assert!(trace.arrivals(Arrivals::Poisson, 3).eq(arrivals));
    }
}
