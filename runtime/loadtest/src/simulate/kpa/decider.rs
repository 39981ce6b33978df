//! `Scale`: from observed averages and ready pods to the desired scale, with panic mode.

use super::buckets::Buckets;
use super::delay::DelayWindow;
use crate::simulate::settings::{Autoscaling, Metric, Spec};
use crate::simulate::{SECOND, Time};

/// What is remembered between ticks.
#[derive(Debug)]
pub(super) struct Decider {
    settings: Autoscaling,
    spec: Spec,
    stable: Buckets,
    panic: Buckets,
    panic_since: Option<Time>,
    max_panic_pods: i32,
    delay: Option<DelayWindow>,
}

/// What a tick made of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decision {
    /// Averages over the two windows.
    pub(super) stable: f64,
    pub(super) panic: f64,
    /// None where there was nothing to decide on.
    pub(super) desired: Option<i32>,
    pub(super) excess_burst_capacity: i32,
    pub(super) is_panicking: bool,
}

impl Decider {
    /// A new autoscaler begins in panic mode where several pods are ready, since it knows nothing of their load.
    pub(super) fn new(settings: &Autoscaling, ready: u32) -> Self {
        let spec = settings.spec();
        let aggregation = settings.metric_aggregation_algorithm;
        Self {
            settings: settings.clone(),
            spec,
            stable: Buckets::new(settings.window, aggregation),
            panic: Buckets::new(spec.panic_seconds, aggregation),
            panic_since: (ready > 1).then_some(0),
            max_panic_pods: ready as i32,
            delay: DelayWindow::new(settings.scale_down_delay),
        }
    }

    /// Records what was seen in a second.
    pub(super) fn record(&mut self, now: Time, concurrency: f64, requests: f64) {
        let second = (now / SECOND) as i64;
        let value = if self.settings.metric == Metric::Rps { requests } else { concurrency };
        self.stable.record(second, value);
        self.panic.record(second, value);
    }

    /// Decides.
    pub(super) fn scale(&mut self, now: Time, ready: u32) -> Decision {
        let second = (now / SECOND) as i64;
        let (stable, panic) = (self.stable.average(second), self.panic.average(second));
        let no_data = Decision {
            stable,
            panic,
            desired: None,
            excess_burst_capacity: 0,
            is_panicking: self.panic_since.is_some(),
        };
        if self.stable.is_empty(second) {
            return no_data;
        }
        let pods = f64::from(ready).max(1.0);
        let most = (self.settings.max_scale_up_rate * pods).ceil();
        let least = (pods / self.settings.max_scale_down_rate).floor();
        let wanted_stable = (stable / self.spec.target).ceil();
        let wanted_panic = (panic / self.spec.target).ceil();
        let bounded = |wanted: f64| {
            let bounded = wanted.max(least).min(most) as i32;
            let activation = self.settings.activation_scale as i32;
            if activation > 1 && wanted > 0.0 { bounded.max(activation) } else { bounded }
        };
        let (desired_stable, desired_panic) = (bounded(wanted_stable), bounded(wanted_panic));

        let is_over = wanted_panic / pods >= self.settings.panic_threshold_percentage / 100.0;
        match self.panic_since {
            _ if is_over => self.panic_since = Some(now),
            Some(since) if since + self.spec.stable_window < now => {
                self.panic_since = None;
                self.max_panic_pods = 0;
            }
            _ => {}
        }
        let mut desired = desired_stable;
        if self.panic_since.is_some() {
            // Never down while in panic.
            self.max_panic_pods = self.max_panic_pods.max(desired_stable).max(desired_panic);
            desired = self.max_panic_pods;
        }
        if let Some(delay) = &mut self.delay {
            desired = delay.record(second, desired);
        }
        let burst = self.settings.target_burst_capacity;
        let excess = if burst == 0.0 {
            0.0
        } else if burst > 0.0 {
            (f64::from(ready) * self.spec.total - burst - panic).floor()
        } else {
            -1.0
        };
        Decision {
            desired: Some(desired),
            excess_burst_capacity: excess as i32,
            is_panicking: self.panic_since.is_some(),
            ..no_data
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(target: f64) -> Autoscaling {
        Autoscaling { target: Some(target), ..Autoscaling::default() }
    }

    /// Records `concurrency` in each second up to `until` and decides every other.
    fn steady(settings: &Autoscaling, concurrency: f64, until: u64, ready: impl Fn(i32) -> u32) -> Vec<Decision> {
        let mut decider = Decider::new(settings, 0);
        let mut decisions: Vec<Decision> = Vec::new();
        for second in 1..=until {
            decider.record(second * SECOND, concurrency, concurrency);
            if second % 2 == 0 {
                let desired = decisions.last().and_then(|decision| decision.desired).unwrap_or(1);
                decisions.push(decider.scale(second * SECOND, ready(desired)));
            }
        }
        decisions
    }

    #[test]
    fn five_in_flight_at_target_one_are_eight_pods_at_seventy_percent() {
        let last = |settings: &Autoscaling| {
            steady(settings, 5.0, 200, |desired| desired as u32).last().expect("ticks").desired
        };
        assert_eq!(last(&settings(1.0)), Some(8));
        let full = Autoscaling { target_utilization_percentage: 100.0, ..settings(1.0) };
        assert_eq!(last(&full), Some(5));
        // The sample's burst: 50 in flight.
        assert_eq!(
            steady(&settings(1.0), 50.0, 200, |desired| desired as u32).last().expect("ticks").desired,
            Some(72)
        );
        assert_eq!(
            steady(&settings(10.0), 50.0, 200, |desired| desired as u32).last().expect("ticks").desired,
            Some(8)
        );
    }

    #[test]
    fn panic_begins_at_twice_the_pods_and_ends_a_stable_window_later() {
        let mut decider = Decider::new(&settings(1.0), 0);
        let mut panicking = Vec::new();
        for second in 1..=140 {
            let concurrency = if second <= 20 { 7.0 } else { 0.0 };
            decider.record(second * SECOND, concurrency, 0.0);
            if second % 2 == 0 {
                let ready = if second < 4 { 1 } else { 10 };
                let decision = decider.scale(second * SECOND, ready);
                panicking.push(decision.is_panicking);
                if decision.is_panicking {
                    assert_eq!(decision.desired, Some(10), "never down in panic, at {second}");
                }
            }
        }
        // Over the threshold only at 2 s; it ends at the first tick more than 60 s later, at 64 s.
        assert_eq!(panicking.iter().filter(|panicking| **panicking).count(), 31);
        assert!(panicking[0] && panicking[30] && !panicking[31]);
    }

    #[test]
    fn rates_bound_the_steps() {
        let slow = Autoscaling { max_scale_up_rate: 2.0, ..settings(1.0) };
        assert_eq!(steady(&slow, 70.0, 2, |_| 1)[0].desired, Some(2));
        // From 100 pods at no load: half of them each time.
        let mut decider = Decider::new(&settings(1.0), 0);
        decider.record(SECOND, 0.0, 0.0);
        assert_eq!(decider.scale(2 * SECOND, 100).desired, Some(50));
        assert_eq!(decider.scale(4 * SECOND, 1).desired, Some(0));
    }

    #[test]
    fn without_records_nothing_is_decided() {
        let mut decider = Decider::new(&settings(1.0), 0);
        assert_eq!(decider.scale(2 * SECOND, 1).desired, None);
        decider.record(2 * SECOND, 1.0, 1.0);
        assert_eq!(decider.scale(62 * SECOND, 1).desired, Some(0));
        assert_eq!(decider.scale(64 * SECOND, 1).desired, None);
    }

    #[test]
    fn the_activator_stays_until_there_is_room_for_a_burst() {
        let excess = |burst, ready| {
            let settings = Autoscaling { target_burst_capacity: burst, ..settings(10.0) };
            let mut decider = Decider::new(&settings, 0);
            decider.record(SECOND, 5.5, 0.0);
            decider.scale(2 * SECOND, ready).excess_burst_capacity
        };
        assert_eq!(excess(211.0, 10), 100 - 211 - 6);
        assert_eq!(excess(211.0, 22), 3);
        assert_eq!((excess(0.0, 1), excess(-1.0, 100)), (0, -1));
    }

    #[test]
    fn an_activation_scale_lifts_what_is_not_zero() {
        let lifted = Autoscaling { activation_scale: 5, ..settings(1.0) };
        assert_eq!(steady(&lifted, 0.5, 2, |_| 1)[0].desired, Some(5));
        assert_eq!(steady(&lifted, 0.0, 2, |_| 1)[0].desired, Some(0));
    }
}
