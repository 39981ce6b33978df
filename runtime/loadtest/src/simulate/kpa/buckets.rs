//! Averages over a window of one-second buckets: `TimedFloat64Buckets` and `WeightedFloat64Buckets`.

use crate::simulate::settings::Aggregation;

/// The least decay of the weighted average.
const MIN_EXPONENT: f64 = 0.2;

/// What its weights sum to, at least.
const WEIGHT_PRECISION: f64 = 0.9999;

/// A ring of seconds. The sums are made in Knative's order, so that they round alike.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    values: Vec<f64>,
    first: Option<i64>,
    last: Option<i64>,
    total: f64,
    aggregation: Aggregation,
}

impl Buckets {
    /// A window of so many seconds, at least 1.
    pub(super) fn new(seconds: u32, aggregation: Aggregation) -> Self {
        Self { values: vec![0.0; seconds.max(1) as usize], first: None, last: None, total: 0.0, aggregation }
    }

    fn window(&self) -> i64 {
        self.values.len() as i64
    }

    fn slot(&self, second: i64) -> usize {
        second.rem_euclid(self.window()) as usize
    }

    /// Adds to the bucket of a second.
    pub(super) fn record(&mut self, second: i64, value: f64) {
        match self.last {
            Some(last) if last == second => {}
            Some(last) if second + self.window() <= last => return,
            last => {
                if self.first.is_none_or(|first| first > second) {
                    self.first = Some(second);
                }
                match last {
                    Some(last) if second < last => {}
                    Some(last) if second - last < self.window() => {
                        for skipped in last + 1..=second {
                            let slot = self.slot(skipped);
                            self.total -= self.values[slot];
                            self.values[slot] = 0.0;
                        }
                        self.last = Some(second);
                    }
                    _ => {
                        self.first = Some(second);
                        self.values.fill(0.0);
                        self.total = 0.0;
                        self.last = Some(second);
                    }
                }
            }
        }
        let slot = self.slot(second);
        self.values[slot] += value;
        self.total += value;
    }

    /// Whether a whole window has passed without a record.
    pub(super) fn is_empty(&self, now: i64) -> bool {
        self.last.is_none_or(|last| now - last > self.window())
    }

    /// The average at a second.
    pub(super) fn average(&self, now: i64) -> f64 {
        match self.aggregation {
            Aggregation::Linear => self.linear(now),
            Aggregation::WeightedExponential => self.weighted(now),
        }
    }

    fn linear(&self, now: i64) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.last) else { return 0.0 };
        let since = now - last;
        if since >= self.window() {
            return 0.0;
        }
        let mut total = self.total;
        for gone in last + 1..=now {
            total -= self.values[self.slot(gone)];
        }
        let valid = (last - first + 1).min(self.window() - since.max(0));
        round(total / valid as f64)
    }

    fn weighted(&self, now: i64) -> f64 {
        let Some(last) = self.last.filter(|_| !self.is_empty(now)) else { return 0.0 };
        let decay = (1.0 - (1.0 - WEIGHT_PRECISION).powf(1.0 / self.window() as f64)).max(MIN_EXPONENT);
        let zeros = (now - last).max(0);
        let mut weight = decay;
        if zeros > 0 {
            weight *= (1.0 - decay).powf(zeros as f64);
        }
        let mut sum = 0.0;
        for back in 0..self.window() - zeros {
            sum += self.values[self.slot(last - back)] * weight;
            weight *= 1.0 - decay;
        }
        sum
    }
}

/// To six digits behind the point.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(seconds: u32, records: &[(i64, f64)]) -> Buckets {
        let mut buckets = Buckets::new(seconds, Aggregation::Linear);
        records.iter().for_each(|&(second, value)| buckets.record(second, value));
        buckets
    }

    #[test]
    fn a_partial_window_is_averaged_over_what_there_is() {
        let buckets = filled(6, &[(10, 1.0), (11, 2.0), (12, 6.0)]);
        assert_eq!(buckets.average(12), 3.0);
        // Two seconds without a record: the window still reaches back to the first.
        assert_eq!(buckets.average(14), 3.0);
        // Now the first two fall out.
        assert_eq!(buckets.average(17), 6.0);
        assert_eq!(buckets.average(18), 0.0);
        assert!(!buckets.is_empty(18) && buckets.is_empty(19));
    }

    #[test]
    fn gaps_are_zeros_and_values_of_one_second_add_up() {
        let buckets = filled(4, &[(0, 4.0), (0, 4.0), (3, 4.0)]);
        assert_eq!(buckets.average(3), 3.0);
        let buckets = filled(4, &[(0, 4.0), (3, 4.0), (4, 1.0)]);
        assert_eq!(buckets.average(4), 1.25);
    }

    #[test]
    fn a_window_without_records_begins_anew() {
        let buckets = filled(4, &[(0, 100.0), (4, 2.0)]);
        assert_eq!(buckets.average(4), 2.0);
        // What is older than the window is not taken.
        let buckets = filled(4, &[(10, 2.0), (6, 100.0), (7, 2.0)]);
        assert_eq!(buckets.average(10), 1.0);
    }

    #[test]
    fn averages_have_six_digits() {
        assert_eq!(filled(6, &[(0, 1.0), (1, 0.0), (2, 0.0)]).average(2), 0.333333);
    }

    #[test]
    fn the_weighted_average_prefers_the_latest() {
        let mut buckets = Buckets::new(4, Aggregation::WeightedExponential);
        for (second, value) in [(0, 10.0), (1, 10.0), (2, 5.0), (3, 5.0)] {
            buckets.record(second, value);
        }
        // 1 - 0.0001^(1/4) = 0.9, so 5·0.9 + 5·0.09 + 10·0.009 + 10·0.0009.
        assert!((buckets.average(3) - 5.049).abs() < 1e-9, "{}", buckets.average(3));
        assert!((buckets.average(4) - 0.5049 + 0.0009).abs() < 1e-9, "{}", buckets.average(4));
    }
}
