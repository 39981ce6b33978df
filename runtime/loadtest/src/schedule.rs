//! When requests of an open loop should start: decided before the first is sent, whatever becomes of it.

use std::time::Duration;

use serde::Serialize;

/// How the starts of an open loop are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Equal gaps.
    #[default]
    Constant,
    /// Gaps drawn from the exponential distribution, as independent users make them.
    Poisson,
}

/// Offsets from the first start, without end and never going back.
pub(crate) struct Schedule {
    gap: f64,
    arrivals: Arrivals,
    random: fastrand::Rng,
    next: f64,
    index: u64,
}

impl Schedule {
    /// `rate` starts a second, which must be more than 0.
    pub(crate) fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        Self { gap: 1.0 / rate, arrivals, random: fastrand::Rng::with_seed(seed), next: 0.0, index: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = self.next;
        self.index += 1;
        self.next = match self.arrivals {
            // From the index: sums of a gap that is no binary fraction would drift.
            Arrivals::Constant => self.gap * self.index as f64,
            Arrivals::Poisson => at + self.gap * exponential(&mut self.random),
        };
        Some(Duration::from_secs_f64(at))
    }
}

/// A draw from the exponential distribution of mean 1, by inversion.
pub(crate) fn exponential(random: &mut fastrand::Rng) -> f64 {
    // `f64` is in [0, 1): its complement is never 0.
    -(1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_do_not_drift() {
        let at = Schedule::new(3.0, Arrivals::Constant, 0).nth(3_000_000).expect("endless");
        assert!(at.abs_diff(Duration::from_secs(1_000_000)) < Duration::from_micros(1), "{at:?}");
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let starts: Vec<f64> =
            Schedule::new(50.0, Arrivals::Poisson, 7).take(100_001).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 50.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "the exponential's deviation is its mean");
        assert_eq!(
            Schedule::new(50.0, Arrivals::Poisson, 7).nth(99),
            Schedule::new(50.0, Arrivals::Poisson, 7).nth(99)
        );
    }
}
