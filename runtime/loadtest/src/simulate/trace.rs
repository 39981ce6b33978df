//! A trace of request rates: a CSV file of seconds and rates.

use super::{SECOND, SimulateError, Time};
use crate::schedule::Arrivals;
use crate::schedule::exponential;

/// The most requests of a simulation.
const MAX_REQUESTS: u64 = 50_000_000;

/// The most rows of a trace.
const MAX_ROWS: usize = 1_000_000;

/// Rates over time: each holds until the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Starts and rates a second.
    steps: Vec<(Time, f64)>,
    end: Time,
}

impl Trace {
    /// Parses lines of `seconds,rate`. A first line that is no number is a heading; empty lines and those that begin
    /// with `#` are left out. The first row is at 0, and the last says when the trace ends: its rate is not used.
    ///
    /// # Errors
    /// Names the line.
    pub fn parse(text: &str) -> Result<Self, SimulateError> {
        let mut rows: Vec<(Time, f64)> = Vec::new();
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let wrong = |reason: String| SimulateError::Trace { line: line_number, reason };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split(',').map(str::trim);
            let (Some(seconds), Some(rate), None) = (fields.next(), fields.next(), fields.next()) else {
                return Err(wrong(format!("'{line}'; expected seconds,rate")));
            };
            let (seconds, rate) = match (seconds.parse::<f64>(), rate.parse::<f64>()) {
                (Ok(seconds), Ok(rate)) => (seconds, rate),
                _ if rows.is_empty() && index == 0 => continue,
                _ => return Err(wrong(format!("'{line}'; expected two numbers: seconds,rate"))),
            };
            if !(0.0..=1e9).contains(&seconds) || !(0.0..=1e9).contains(&rate) {
                return Err(wrong(format!("'{line}'; expected seconds and a rate from 0 to 1e9")));
            }
            let at = (seconds * SECOND as f64).round() as Time;
            match rows.last() {
                None if at != 0 => return Err(wrong(format!("the trace begins at {seconds} s; expected 0"))),
                Some((before, _)) if at <= *before => {
                    return Err(wrong(format!("{seconds} s does not come after the row before")));
                }
                _ => {}
            }
            if rows.len() == MAX_ROWS {
                return Err(wrong(format!("more than {MAX_ROWS} rows")));
            }
            rows.push((at, rate));
            last = line_number;
        }
        if rows.len() < 2 {
            let reason = "expected at least two rows: the last says when the trace ends".to_owned();
            return Err(SimulateError::Trace { line: last.max(1), reason });
        }
        let (end, _) = rows.pop().unwrap_or_default();
        let trace = Self { steps: rows, end };
        let requests = trace.requests();
        if requests > MAX_REQUESTS as f64 {
            let what = format!("the trace has {requests:.0} requests");
            return Err(SimulateError::TooLarge { what, limit: MAX_REQUESTS });
        }
        Ok(trace)
    }

    /// When it ends.
    pub(super) fn end(&self) -> Time {
        self.end
    }

    /// The rate at a time, a second.
    #[must_use]
    pub(super) fn rate(&self, at: Time) -> f64 {
        let index = self.steps.partition_point(|(start, _)| *start <= at);
        if at >= self.end { 0.0 } else { index.checked_sub(1).map_or(0.0, |index| self.steps[index].1) }
    }

    /// Expected requests in all.
    fn requests(&self) -> f64 {
        self.segments().map(|(start, end, rate)| (end - start) as f64 / SECOND as f64 * rate).sum()
    }

    fn segments(&self) -> impl Iterator<Item = (Time, Time, f64)> + '_ {
        let ends = self.steps.iter().skip(1).map(|(start, _)| *start).chain([self.end]);
        self.steps.iter().zip(ends).map(|(&(start, rate), end)| (start, end, rate))
    }

    /// When requests come.
    pub(super) fn arrivals(&self, arrivals: Arrivals, seed: u64) -> impl Iterator<Item = Time> + use<> {
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
    }

    #[test]
    fn random_arrivals_follow_the_rate_and_the_seed() {
        let trace = Trace::parse("0,1000\n10,0\n20,1000\n30,0").expect("valid");
        let arrivals: Vec<Time> = trace.arrivals(Arrivals::Poisson, 3).collect();
        assert!((19_000..21_000).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(!arrivals.iter().any(|at| (10 * SECOND..20 * SECOND).contains(at)));
        assert!(trace.arrivals(Arrivals::Poisson, 3).eq(arrivals));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, words) in [
            ("", 1, "at least two rows"),
            ("0,1", 1, "at least two rows"),
            ("0,1\nx,2", 2, "expected two numbers"),
            ("0,1\n1,2,3", 2, "expected seconds,rate"),
            ("0,1\n0,2", 2, "does not come after"),
            ("5,1\n6,2", 1, "begins at 5 s"),
            ("0,-1\n6,2", 1, "from 0 to 1e9"),
            ("0,NaN\n6,2", 1, "from 0 to 1e9"),
        ] {
            match Trace::parse(text) {
                Err(SimulateError::Trace { line: named, reason }) => {
                    assert_eq!(named, line, "{text:?}: {reason}");
                    assert!(reason.contains(words), "{text:?}: {reason}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(Trace::parse("0,1e9\n100,0"), Err(SimulateError::TooLarge { .. })));
    }
}
