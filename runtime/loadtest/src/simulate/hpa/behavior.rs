//! How fast replicas may change: stabilization, policies and bounds.

use std::collections::VecDeque;

use crate::simulate::settings::{Hpa, Rules, SelectPolicy};
use crate::simulate::{SECOND, Time};

/// Without a behavior, an HPA doubles at most, but may always have four.
const UP_FACTOR: f64 = 2.0;
const UP_LEAST: f64 = 4.0;

/// The longest window that Kubernetes takes.
const LONGEST: Time = 3600 * SECOND;

/// What was recommended and done.
#[derive(Debug, Default)]
pub(super) struct History {
    recommendations: VecDeque<(Time, i32)>,
    ups: VecDeque<(Time, i32)>,
    downs: VecDeque<(Time, i32)>,
}

/// What a metric asks for, and what may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) now: Time,
    pub(super) current: i32,
    pub(super) desired: i32,
    pub(super) min: i32,
    pub(super) max: i32,
}

impl History {
    /// What was there when the controller came counts as recommended.
    pub(super) fn begin(&mut self, now: Time, current: i32) {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
    }

    /// The replicas that a wish leads to.
    pub(super) fn normalize(&mut self, settings: &Hpa, wish: Wish) -> i32 {
        while self.recommendations.front().is_some_and(|(at, _)| at + LONGEST < wish.now) {
            self.recommendations.pop_front();
        }
        match (&settings.scale_up, &settings.scale_down) {
            (Some(up), Some(down)) => self.by_rules(up, down, wish),
            _ => self.without_rules(settings.downscale_stabilization, wish),
        }
    }

    /// A change that was made.
    pub(super) fn scaled(&mut self, now: Time, before: i32, after: i32) {
        let (events, change) =
            if after > before { (&mut self.ups, after - before) } else { (&mut self.downs, before - after) };
        while events.front().is_some_and(|(at, _)| at + LONGEST < now) {
            events.pop_front();
        }
        events.push_back((now, change));
    }

    /// `normalizeDesiredReplicas`.
    fn without_rules(&mut self, window: u32, wish: Wish) -> i32 {
        let Wish { now, current, desired, min, max } = wish;
        let window = Time::from(window) * SECOND;
        let recent = self.recommendations.iter().filter(|(at, _)| at + window >= now);
        let stabilized = recent.map(|(_, replicas)| *replicas).fold(desired, i32::max);
        self.recommendations.push_back((now, desired));
        let most = max.min((UP_FACTOR * f64::from(current)).max(UP_LEAST) as i32);
        if stabilized < min { min } else { stabilized.min(most) }
    }

    /// `normalizeDesiredReplicasWithBehaviors`.
    fn by_rules(&mut self, up: &Rules, down: &Rules, wish: Wish) -> i32 {
        let Wish { now, current, desired, min, max } = wish;
        let within = |rules: &Rules, at: Time| at + Time::from(rules.stabilization_window) * SECOND > now;
        let (mut least, mut most) = (desired, desired);
        for &(at, replicas) in &self.recommendations {
            if within(up, at) {
                least = least.min(replicas);
            }
            if within(down, at) {
                most = most.max(replicas);
            }
        }
        // In Kubernetes' order: the upper limit wins.
        let stabilized = current.max(least).min(most);
        self.recommendations.push_back((now, desired));
        if stabilized > current {
            stabilized.min(max.min(self.up_limit(now, current, up).max(current)))
        } else if stabilized < current {
            stabilized.max(min.max(self.down_limit(now, current, down).min(current)))
        } else {
            stabilized
        }
    }

    /// Replicas when a period began that ends now.
    fn at_begin(&self, now: Time, current: i32, period: u32) -> i32 {
        let period = Time::from(period) * SECOND;
        let of = |events: &VecDeque<(Time, i32)>| {
            events.iter().filter(|(at, _)| at + period > now).map(|(_, change)| *change).sum::<i32>()
        };
        current - of(&self.ups) + of(&self.downs)
    }

    fn up_limit(&self, now: Time, current: i32, rules: &Rules) -> i32 {
        let begin = self.at_begin(now, current, rules.period);
        let pods = (rules.pods > 0).then(|| begin.saturating_add(rules.pods.min(i32::MAX as u32) as i32));
        let percent = f64::from(begin) * (1.0 + f64::from(rules.percent) / 100.0);
        let percent = (rules.percent > 0).then(|| percent.ceil() as i32);
        let policies = [pods, percent].into_iter().flatten();
        match rules.select_policy {
            SelectPolicy::Max => policies.max(),
            SelectPolicy::Min => policies.min(),
            SelectPolicy::Disabled => None,
        }
        .unwrap_or(current)
    }

    fn down_limit(&self, now: Time, current: i32, rules: &Rules) -> i32 {
        let begin = self.at_begin(now, current, rules.period);
        let pods = (rules.pods > 0).then(|| begin.saturating_sub(rules.pods.min(i32::MAX as u32) as i32));
        let percent = f64::from(begin) * (1.0 - f64::from(rules.percent) / 100.0);
        // Cut, as the conversion in Kubernetes does.
        let percent = (rules.percent > 0).then_some(percent as i32);
        let policies = [pods, percent].into_iter().flatten();
        match rules.select_policy {
            SelectPolicy::Max => policies.min(),
            SelectPolicy::Min => policies.max(),
            SelectPolicy::Disabled => None,
        }
        .unwrap_or(current)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Wishes 15 s apart, each granted; what came of them.
    fn granted(settings: &Hpa, begin: i32, wishes: &[i32]) -> Vec<i32> {
        let (mut history, mut current) = (History::default(), begin);
        let grant = |(index, desired): (usize, &i32)| {
            let now = (index as Time + 1) * 15 * SECOND;
            history.begin(now, current);
            let after = history.normalize(settings, Wish { now, current, desired: *desired, min: 1, max: 1000 });
            if after != current {
                history.scaled(now, current, after);
            }
            current = after;
            after
        };
        wishes.iter().enumerate().map(grant).collect()
    }

    fn ruled(change: impl Fn(&mut Hpa)) -> Hpa {
        let mut settings = Hpa::default();
        settings.up();
        change(&mut settings);
        settings
    }

    #[test]
    fn up_is_fast_and_down_waits_five_minutes() {
        assert_eq!(granted(&Hpa::default(), 1, &[100; 6]), [4, 8, 16, 32, 64, 100]);
        // With Kubernetes' default rules four pods may always be added, so the first step is one more.
        assert_eq!(granted(&ruled(|_| {}), 1, &[100; 6]), [5, 10, 20, 40, 80, 100]);
        for settings in [Hpa::default(), ruled(|_| {})] {
            let mut wishes = vec![10; 2];
            wishes.extend([1; 25]);
            let seen = granted(&settings, 10, &wishes);
            let first = seen.iter().position(|replicas| *replicas < 10).expect("it ends");
            // The last wish for ten is at 30 s; whether the 300th second counts differs.
            assert!((22..=23).contains(&(first + 1)), "{first}");
            assert_eq!(seen[first], 1);
        }
    }

    #[test]
    fn policies_bound_each_period() {
        let slow = ruled(|settings| *settings.up() = Rules { pods: 2, percent: 0, period: 60, ..Rules::up() });
        assert_eq!(granted(&slow, 1, &[100; 9]), [3, 3, 3, 3, 5, 5, 5, 5, 7]);
        let least = ruled(|settings| settings.up().select_policy = SelectPolicy::Min);
        assert_eq!(granted(&least, 10, &[100; 3]), [14, 18, 22]);
        let off = ruled(|settings| settings.up().select_policy = SelectPolicy::Disabled);
        assert_eq!(granted(&off, 2, &[100; 3]), [2, 2, 2]);
        let tenth = ruled(|settings| {
            *settings.down() = Rules { stabilization_window: 0, percent: 10, ..Rules::down() };
        });
        assert_eq!(granted(&tenth, 100, &[1; 3]), [90, 81, 72]);
        let waits = ruled(|settings| settings.up().stabilization_window = 60);
        assert_eq!(granted(&waits, 1, &[9; 6]), [1, 1, 1, 1, 5, 9]);
    }

    proptest! {
        #[test]
        fn bounds_and_steps_hold_whatever_is_wished(wishes in prop::collection::vec(0_i32..2000, 1..80), rules in any::<bool>()) {
            let settings = if rules { ruled(|_| {}) } else { Hpa::default() };
            let mut before = 3;
            for after in granted(&settings, before, &wishes) {
                prop_assert!((1..=1000).contains(&after));
                prop_assert!(after <= (before * 2).max(before + 4));
                before = after;
            }
        }
    }
}
