//! How long a pod works on a request.

use serde::Serialize;

use super::curve::Curve;
use super::quantiles;
use super::{SECOND, Time};
use crate::report::Latency;
use crate::schedule::exponential;

/// Half of a standard normal's quantile at 0.99: what relates a log-normal's median and p99.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// A distribution of service times, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceTime {
    /// Always the same.
    Constant(f64),
    /// Of this mean.
    Exponential(f64),
    /// Of this median and 99th percentile.
    LogNormal(f64, f64),
    /// Quantiles, straight lines between them: (share, milliseconds), from 0 to 1, rising.
    Measured(Vec<(f64, f64)>),
    /// By how many requests are in flight in the pod.
    Curve(Curve),
}

/// What one request costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// From when the pod begins to when it is done.
    pub(super) takes: Time,
    /// What it would take on a pod of its own.
    pub(super) alone: Time,
}

impl ServiceTime {
    /// What was seen of requests that were alone on the server.
    #[must_use]
    pub fn measured(latency: &Latency) -> Self {
        Self::Measured(quantiles::of(latency))
    }

    /// Each time longer by as much, in milliseconds. What is drawn by its mean or its median alone stays what it is drawn by.
    #[must_use]
    pub fn plus(&self, longer: f64) -> Self {
        match self {
            Self::Constant(time) => Self::Constant(time + longer),
            Self::Exponential(mean) => Self::Exponential(mean + longer),
            Self::LogNormal(p50, p99) => Self::LogNormal(p50 + longer, p99 + longer),
            Self::Measured(quantiles) => {
                Self::Measured(quantiles.iter().map(|(share, time)| (*share, time + longer)).collect())
            }
            Self::Curve(curve) => Self::Curve(curve.later(longer)),
        }
    }

    /// So many times as long; what was measured becomes no longer than `most` by that, in milliseconds.
    #[must_use]
    pub fn times(&self, factor: f64, most: f64) -> Self {
        match self {
            Self::Constant(time) => Self::Constant(time * factor),
            Self::Exponential(mean) => Self::Exponential(mean * factor),
            Self::LogNormal(p50, p99) => Self::LogNormal(p50 * factor, p99 * factor),
            Self::Measured(quantiles) => {
                let longer = |time: f64| (time * factor).min(most.max(time));
                Self::Measured(quantiles.iter().map(|(share, time)| (*share, longer(*time))).collect())
            }
            Self::Curve(curve) => Self::Curve(curve.slower(factor)),
        }
    }

    /// In milliseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant(time) | Self::Exponential(time) => *time,
            Self::LogNormal(p50, p99) => p50 * (((p99 / p50).ln() / NORMAL_P99).powi(2) / 2.0).exp(),
            Self::Measured(quantiles) => quantiles::mean(quantiles),
            Self::Curve(curve) => curve.points().first().map_or(0.0, |first| quantiles::mean(&first.quantiles)),
        }
    }

    /// Requests that a pod works on at the same time, where that was measured.
    pub(super) fn width(&self) -> Option<u32> {
        match self {
            Self::Curve(curve) => Some(curve.width()),
            _ => None,
        }
    }

    /// Requests a second of a pod that works on so many at the same time.
    pub(super) fn most(&self, width: u32) -> f64 {
        match self {
            Self::Curve(curve) => curve.throughput(width),
            _ => f64::from(width) / self.mean() * 1e3,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let valid = match self {
            Self::Constant(time) | Self::Exponential(time) => positive(*time),
            Self::LogNormal(p50, p99) => positive(*p50) && positive(*p99) && p99 >= p50,
            Self::Measured(quantiles) => quantiles::is_valid(quantiles),
            Self::Curve(curve) => return curve.check(),
        };
        if valid { Ok(()) } else { Err(format!("a service time of {self:?}; expected times above 0, rising")) }
    }

    /// One draw for a request that makes so many in flight in its pod; at least a microsecond.
    pub(super) fn draw(&self, random: &mut fastrand::Rng, in_flight: u32) -> Draw {
        let milliseconds = match self {
            Self::Constant(time) => *time,
            Self::Exponential(mean) => mean * exponential(random),
            Self::LogNormal(p50, p99) => {
                let sigma = (p99 / p50).ln() / NORMAL_P99;
                // Box-Muller: two uniform draws make a normal one.
                let normal = (2.0 * exponential(random)).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
                p50 * (sigma * normal).exp()
            }
            Self::Measured(quantiles) => quantiles::at(quantiles, random.f64()),
            Self::Curve(curve) => {
                let share = random.f64();
                let (takes, alone) = (micros(curve.time(in_flight, share)), micros(curve.time(1, share)));
                return Draw { takes, alone: alone.min(takes) };
            }
        };
        let takes = micros(milliseconds);
        Draw { takes, alone: takes }
    }
}

fn micros(milliseconds: f64) -> Time {
    ((milliseconds * SECOND as f64 / 1e3) as Time).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(service: &ServiceTime) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(11);
        let mut times: Vec<f64> = (0..50_000).map(|_| service.draw(&mut random, 1).takes as f64 / 1e3).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    fn close(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 0.05, "{value}, expected {expected}");
    }

    #[test]
    fn draws_have_the_quantiles_that_were_given() {
        assert!(drawn(&ServiceTime::Constant(20.0)).iter().all(|time| (time - 20.0).abs() < 1e-9));
        let times = drawn(&ServiceTime::Exponential(20.0));
        close(times.iter().sum::<f64>() / times.len() as f64, 20.0);
        let times = drawn(&ServiceTime::LogNormal(20.0, 100.0));
        close(times[25_000], 20.0);
        close(times[49_500], 100.0);
        let times = drawn(&ServiceTime::Measured(vec![(0.0, 10.0), (0.5, 20.0), (1.0, 40.0)]));
        close(times[12_500], 15.0);
        close(times[37_500], 30.0);
        for service in [
            ServiceTime::Constant(20.0),
            ServiceTime::Exponential(20.0),
            ServiceTime::LogNormal(20.0, 100.0),
            ServiceTime::Measured(vec![(0.0, 10.0), (0.5, 20.0), (1.0, 40.0)]),
        ] {
            let times = drawn(&service);
            close(times.iter().sum::<f64>() / times.len() as f64, service.mean());
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for wrong in [
            ServiceTime::Constant(0.0),
            ServiceTime::LogNormal(10.0, 5.0),
            ServiceTime::Exponential(f64::NAN),
            ServiceTime::Measured(vec![(0.0, 5.0), (1.0, 2.0)]),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
