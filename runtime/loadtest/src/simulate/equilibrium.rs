//! What pods that stay as they are make of requests that come at a steady rate: measured with `events`, for `fluid`.

use std::collections::BTreeMap;

use super::control::{Control, Fleet, Log, Meter, View};
use super::loads::Trace;
use super::quantiles::{self, Quantiles};
use super::{SECOND, Scenario, SimulateError, Time, events};
use crate::report::Latency;

/// Shares of what pods can do, and the requests that each is measured with: the fuller they are the slower the queues even out.
const LOADS: [(f64, f64); 16] = [
    (0.1, 4e3),
    (0.2, 4e3),
    (0.3, 4e3),
    (0.4, 4e3),
    (0.5, 1e4),
    (0.55, 1e4),
    (0.6, 1e4),
    (0.65, 1e4),
    (0.7, 1e4),
    (0.75, 1e4),
    (0.8, 15e3),
    (0.85, 2e4),
    (0.9, 3e4),
    (0.93, 3e4),
    (0.95, 3e4),
    (0.97, 4e4),
];

/// Numbers of pods that are measured: more of them behave as the most do.
const FLEETS: [u32; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// One load.
#[derive(Debug)]
pub(super) struct Load {
    /// Requests a second of one pod.
    rate: f64,
    /// Requests in flight of one pod.
    in_flight: f64,
    /// In milliseconds.
    pub(super) mean: f64,
    pub(super) latency: Quantiles,
    pub(super) waiting: Quantiles,
    pub(super) lateness: Quantiles,
}

/// All loads of one fleet, in the order of their rates.
#[derive(Debug)]
pub(super) struct Equilibrium {
    pub(super) loads: Vec<Load>,
    /// The most requests a second of one pod.
    capacity: f64,
}

impl Equilibrium {
    /// Requests a second that leave a pod with so many in flight: the rate at which that many are.
    pub(super) fn leaving(&self, in_flight: f64) -> f64 {
        let Some(last) = self.loads.last() else { return 0.0 };
        if in_flight >= last.in_flight {
            // As of every queue, what is left of the capacity is one over the length.
            let spare = (self.capacity - last.rate).max(0.0) * last.in_flight / in_flight.max(1e-9);
            return self.capacity - spare;
        }
        let points = self.loads.iter().map(|load| (load.in_flight, load.rate));
        line(points, in_flight)
    }

    /// Requests in flight of a pod to which so many come a second; none where it cannot keep up.
    pub(super) fn in_flight(&self, rate: f64) -> Option<f64> {
        let last = self.loads.last()?;
        if rate >= self.capacity {
            return None;
        }
        if rate >= last.rate {
            return Some((self.capacity - last.rate).max(0.0) * last.in_flight / (self.capacity - rate).max(1e-9));
        }
        Some(line(self.loads.iter().map(|load| (load.rate, load.in_flight)), rate))
    }

    /// The two loads between which a pod with so many in flight is, and the weight of the second.
    pub(super) fn around(&self, in_flight: f64) -> (usize, usize, f64) {
        let after = self.loads.partition_point(|load| load.in_flight <= in_flight).min(self.loads.len() - 1);
        let before = after.saturating_sub(1);
        let (low, high) = (self.loads[before].in_flight, self.loads[after].in_flight);
        let weight = if high > low { ((in_flight - low) / (high - low)).clamp(0.0, 1.0) } else { 1.0 };
        (before, after, weight)
    }
}

/// The value at a place, along straight lines from 0 through the points.
fn line(points: impl Iterator<Item = (f64, f64)>, at: f64) -> f64 {
    let mut before = (0.0, 0.0);
    for point in points {
        if at <= point.0 {
            let gap = point.0 - before.0;
            return if gap > 0.0 { before.1 + (point.1 - before.1) * (at - before.0) / gap } else { point.1 };
        }
        before = point;
    }
    before.1
}

/// Those that were needed so far.
#[derive(Debug)]
pub(super) struct Equilibria<'a> {
    scenario: &'a Scenario,
    known: BTreeMap<(u32, bool), Equilibrium>,
}

/// Pods, and whether requests come through what holds them.
pub(super) type Key = (u32, bool);

impl<'a> Equilibria<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        Self { scenario, known: BTreeMap::new() }
    }

    /// The fleet that so many pods behave as.
    pub(super) fn key(ready: u32, is_proxied: bool) -> Key {
        let place = FLEETS.partition_point(|pods| *pods <= ready).saturating_sub(1);
        (FLEETS[place], is_proxied)
    }

    /// Measured when it is first asked for.
    pub(super) fn of(&mut self, key: Key) -> Result<&Equilibrium, SimulateError> {
        if !self.known.contains_key(&key) {
            let measured = measured(self.scenario, key)?;
            self.known.insert(key, measured);
        }
        Ok(&self.known[&key])
    }
}

fn measured(scenario: &Scenario, (pods, is_proxied): Key) -> Result<Equilibrium, SimulateError> {
    let capacity = scenario.pod.capacity(scenario.autoscaling.container_concurrency);
    let mut loads: Vec<Load> = Vec::with_capacity(LOADS.len());
    for (share, requests) in LOADS {
        let rate = share * capacity;
        let all = rate * f64::from(pods);
        let steady = Scenario {
            trace: Trace::steady(all, (requests / all * SECOND as f64) as Time),
            start_replicas: pods,
            ..scenario.clone()
        };
        let mut fixed = Fixed { replicas: pods, is_proxied };
        let (summary, _) = events::run(&steady, None, &mut fixed)?;
        // By Little's law. Chance must not make a fuller pod look emptier.
        let in_flight = rate * summary.latency.mean_ms / 1e3;
        let in_flight = loads.last().map_or(in_flight, |before| in_flight.max(before.in_flight));
        let of = |latency: &Latency| quantiles::of(latency);
        loads.push(Load {
            rate,
            in_flight,
            mean: summary.latency.mean_ms,
            latency: of(&summary.latency),
            waiting: of(&summary.waiting),
            lateness: of(&summary.lateness),
        });
    }
    Ok(Equilibrium { loads, capacity })
}

/// Nobody scales.
struct Fixed {
    replicas: u32,
    is_proxied: bool,
}

impl Control for Fixed {
    fn replicas(&self) -> u32 {
        self.replicas
    }

    fn is_proxied(&self) -> bool {
        self.is_proxied
    }

    fn holds(&self) -> bool {
        self.is_proxied
    }

    fn is_woken(&self) -> bool {
        false
    }

    fn held(&mut self, _: &View, _: &mut Meter) -> Result<(), SimulateError> {
        Ok(())
    }

    fn became_ready(&mut self, _: &View) {}

    fn second(&mut self, view: &View, meter: &mut Meter, _: &dyn Fleet) -> Result<(), SimulateError> {
        meter.restart(view.now, 0.0);
        Ok(())
    }

    fn log(&mut self) -> Log {
        Log::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Equilibrium {
        let load = |rate, in_flight| Load {
            rate,
            in_flight,
            mean: 1.0,
            latency: Vec::new(),
            waiting: Vec::new(),
            lateness: Vec::new(),
        };
        Equilibrium { loads: vec![load(5.0, 1.0), load(9.0, 9.0)], capacity: 10.0 }
    }

    #[test]
    fn what_leaves_and_what_is_in_flight_are_each_other_s_inverse() {
        let known = known();
        for rate in [0.1, 2.5, 5.0, 7.0, 9.0, 9.5, 9.99] {
            let in_flight = known.in_flight(rate).expect("it keeps up");
            assert!((known.leaving(in_flight) - rate).abs() < 1e-9, "{rate}: {in_flight}");
        }
        assert_eq!(known.in_flight(10.0), None);
        assert!(known.leaving(1e9) > 9.999 && known.leaving(0.0) == 0.0);
    }

    #[test]
    fn few_pods_are_measured_and_many_behave_as_the_most() {
        let keys = [1, 2, 5, 7, 31, 32, 5000].map(|ready| Equilibria::key(ready, true).0);
        assert_eq!(keys, [1, 2, 4, 6, 24, 32, 32]);
    }
}
