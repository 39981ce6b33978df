//! What a pod does at each concurrency, as a sweep measured it.
//!
//! A pod is a flow-equivalent server (Chandy, Herzog and Woo 1975): the requests in flight alone say how fast it is. A request
//! that makes n in flight takes what requests took when n callers were measured, on average n / throughput(n) by Little's law, so
//! that n callers get the measured throughput and latencies back. A server whose batches pay is faster for each request as n
//! grows, workers that each take one request are not; neither has to be said. Beyond the largest concurrency that was measured
//! requests wait.

use serde::Serialize;

use super::quantiles::{self, Quantiles};
use crate::sweep::{Step, is_good};

/// One concurrency.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Requests in flight.
    pub concurrency: u32,
    /// Answers a second.
    pub rps: f64,
    /// (share, milliseconds) of a request, whose mean is concurrency / rps.
    pub quantiles: Vec<(f64, f64)>,
}

/// A measured sweep, in the order of concurrency.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Curve {
    points: Vec<CurvePoint>,
}

impl Curve {
    /// Of the steps whose requests were answered.
    ///
    /// # Errors
    /// One line, where there is none.
    pub fn of(steps: &[Step]) -> Result<Self, String> {
        let mut good: Vec<&Step> = steps.iter().filter(|step| is_good(step, None)).collect();
        good.sort_by_key(|step| step.concurrency);
        good.dedup_by_key(|step| step.concurrency);
        let points: Vec<CurvePoint> = good.into_iter().filter_map(point).collect();
        if points.is_empty() {
            return Err("no concurrency was measured at which requests are answered".to_owned());
        }
        Ok(Self { points })
    }

    /// The concurrencies that were measured.
    #[must_use]
    pub fn points(&self) -> &[CurvePoint] {
        &self.points
    }

    /// The largest concurrency that was measured.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.points.last().map_or(1, |point| point.concurrency)
    }

    /// Answers a second with so many in flight, along straight lines; as the last point beyond it.
    pub(super) fn throughput(&self, in_flight: u32) -> f64 {
        match self.around(in_flight) {
            (before, Some((after, weight))) => before.rps + (after.rps - before.rps) * weight,
            // Below the first point requests take as long as there.
            (only, None) if in_flight < only.concurrency => {
                only.rps * f64::from(in_flight) / f64::from(only.concurrency)
            }
            (only, None) => only.rps,
        }
    }

    /// Milliseconds that a request at this share of the distribution takes, which makes so many in flight.
    pub(super) fn time(&self, in_flight: u32, share: f64) -> f64 {
        let (before, after) = self.around(in_flight);
        let Some((after, weight)) = after else { return quantiles::at(&before.quantiles, share) };
        let of = |point: &CurvePoint| quantiles::at(&point.quantiles, share) * point.rps / f64::from(point.concurrency);
        let shape = of(before) * (1.0 - weight) + of(after) * weight;
        shape * f64::from(in_flight) / self.throughput(in_flight)
    }

    /// The points next to it, the second with its weight; one where it is no more than the first, or no less than the last.
    fn around(&self, in_flight: u32) -> (&CurvePoint, Option<(&CurvePoint, f64)>) {
        let after = self.points.partition_point(|point| point.concurrency <= in_flight);
        match (after.checked_sub(1), self.points.get(after)) {
            (Some(before), Some(after)) => {
                let before = &self.points[before];
                let gap = f64::from(after.concurrency - before.concurrency);
                (before, Some((after, f64::from(in_flight - before.concurrency) / gap)))
            }
            (Some(before), None) => (&self.points[before], None),
            (None, _) => (&self.points[0], None),
        }
    }

    /// The same with requests that take so many times as long.
    pub(super) fn slower(&self, factor: f64) -> Self {
        self.retimed(|time| time * factor)
    }

    /// The same with requests that each take longer by so many milliseconds.
    pub(super) fn later(&self, longer: f64) -> Self {
        self.retimed(|time| time + longer)
    }

    fn retimed(&self, retime: impl Fn(f64) -> f64) -> Self {
        let retimed = |point: &CurvePoint| {
            let quantiles: Quantiles = point.quantiles.iter().map(|(share, time)| (*share, retime(*time))).collect();
            let rps = f64::from(point.concurrency) / quantiles::mean(&quantiles) * 1e3;
            CurvePoint { concurrency: point.concurrency, rps, quantiles }
        };
        Self { points: self.points.iter().map(retimed).collect() }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self.points.iter().find(|point| !quantiles::is_valid(&point.quantiles) || point.concurrency == 0) {
            Some(point) => Err(format!("what was measured at concurrency {} is no latency above 0", point.concurrency)),
            None => Ok(()),
        }
    }
}

fn point(step: &Step) -> Option<CurvePoint> {
    let concurrency = u32::try_from(step.concurrency).ok().filter(|concurrency| *concurrency > 0)?;
    let rps = step.report.rps;
    let measured: Quantiles = quantiles::of(&step.report.latency);
    let mean = quantiles::mean(&measured);
    if !(rps.is_finite() && rps > 0.0 && mean > 0.0) {
        return None;
    }
    // Straight lines between percentiles do not have the mean of what was measured.
    let factor = f64::from(concurrency) / rps * 1e3 / mean;
    let quantiles = measured.into_iter().map(|(share, time)| (share, time * factor)).collect();
    Some(CurvePoint { concurrency, rps, quantiles })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::curve;
    use crate::sweep::throughput_at;

    /// Batches of up to eight, of 20 ms and 2.5 ms a request.
    fn batching() -> Vec<Step> {
        [1, 2, 4, 8, 12]
            .map(|callers: usize| {
                let run = 20.0 + 2.5 * callers.min(8) as f64;
                curve(callers, run * (callers as f64 / 8.0).max(1.0))
            })
            .to_vec()
    }

    #[test]
    fn throughput_is_that_of_the_sweep() {
        let steps = batching();
        let known = Curve::of(&steps).expect("good steps");
        for in_flight in 1..=12 {
            let expected = throughput_at(&steps, f64::from(in_flight));
            assert!((known.throughput(in_flight) - expected).abs() < 1e-9, "{in_flight}");
        }
        assert_eq!(known.throughput(50), known.throughput(12));
        assert_eq!((known.width(), known.points().len()), (12, 5));
        // One request is a batch of one, eight share a run.
        assert!((known.time(1, 0.5) - 22.5).abs() < 1e-9 && (known.time(8, 0.5) - 40.0).abs() < 1e-9);
        assert!(known.time(6, 0.5) > 22.5 && known.time(6, 0.5) < 40.0);
        let (slower, later) = (known.slower(2.0), known.later(10.0));
        assert!((slower.time(8, 0.5) - 80.0).abs() < 1e-9 && (slower.throughput(8) - 100.0).abs() < 1e-9);
        assert!((later.time(8, 0.5) - 50.0).abs() < 1e-9 && (later.throughput(8) - 160.0).abs() < 1e-9);
    }

    #[test]
    fn below_the_first_step_a_request_takes_as_long_as_there() {
        let known = Curve::of(&[curve(4, 40.0)]).expect("a good step");
        assert_eq!((known.time(1, 0.9), known.time(4, 0.9)), (40.0, 40.0));
        assert!((known.throughput(1) - 25.0).abs() < 1e-9);
    }

    #[test]
    fn a_sweep_without_answers_is_no_curve() {
        let mut dead = curve(1, 10.0);
        dead.report.answered = 0;
        assert!(Curve::of(&[dead]).is_err());
        let mut nothing = curve(1, 10.0);
        nothing.report.latency = crate::Latency::default();
        assert!(Curve::of(&[nothing]).is_err());
    }
}
