//! From the desired scale to the replicas that are asked for: bounds, activity, the way to zero.

use crate::simulate::settings::Autoscaling;
use crate::simulate::{SECOND, Time};

/// Whether a revision has traffic: the `Active` condition, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Active { since: Time },
    Activating,
    Inactive { since: Time },
}

/// The reconciler of one revision.
#[derive(Debug)]
pub(super) struct Scaler {
    settings: Autoscaling,
    activity: Activity,
    replicas: u32,
    /// The initial scale has been reached, and no longer counts.
    is_initialized: bool,
    /// Since when the activator is in the path.
    proxied_since: Option<Time>,
}

impl Scaler {
    /// A revision with so many ready replicas.
    pub(super) fn new(settings: &Autoscaling, replicas: u32) -> Self {
        let activity = if replicas > 0 { Activity::Active { since: 0 } } else { Activity::Inactive { since: 0 } };
        Self {
            settings: settings.clone(),
            activity,
            replicas,
            is_initialized: replicas >= settings.initial_scale || replicas == 0,
            proxied_since: Some(0),
        }
    }

    pub(super) fn replicas(&self) -> u32 {
        self.replicas
    }

    /// Whether requests go through the activator.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxied_since.is_some()
    }

    /// Applies what the last decision was; none while there has been none.
    pub(super) fn reconcile(&mut self, now: Time, desired: Option<i32>, excess_burst_capacity: i32, ready: u32) {
        let least = if self.is_initialized {
            self.settings.min_scale
        } else {
            self.settings.min_scale.max(self.settings.initial_scale)
        };
        let want = match desired {
            None if self.activity != Activity::Activating => None,
            desired => {
                let desired = u32::try_from(desired.unwrap_or(0)).unwrap_or(0);
                let most = if self.settings.max_scale == 0 { u32::MAX } else { self.settings.max_scale };
                // In Knative's order: the lower bound wins.
                let bounded = if desired < least { least } else { desired.min(most) };
                if bounded == 0 { self.go_to_zero(now) } else { self.apply(bounded) }
            }
        };

        let is_serving = want.is_some_and(|want| want > 0) && excess_burst_capacity >= 0;
        self.proxied_since = if is_serving { None } else { self.proxied_since.or(Some(now)) };

        let enough = least.max(1);
        self.is_initialized |= ready >= enough;
        let is_inactive = matches!(self.activity, Activity::Inactive { .. });
        self.activity = match (want, self.activity) {
            (Some(0), Activity::Inactive { since }) => Activity::Inactive { since },
            (Some(0), _) => Activity::Inactive { since: now },
            (None, _) if is_inactive => self.activity,
            (_, _) if ready < enough => Activity::Activating,
            (_, Activity::Active { since }) => Activity::Active { since },
            (_, _) => Activity::Active { since: now },
        };
    }

    fn apply(&mut self, replicas: u32) -> Option<u32> {
        self.replicas = replicas;
        Some(replicas)
    }

    /// `handleScaleToZero`: a revision is active for a stable window, then inactive for the grace period with the
    /// activator in the path, then gone.
    fn go_to_zero(&mut self, now: Time) -> Option<u32> {
        if !self.settings.enable_scale_to_zero {
            return self.apply(1);
        }
        let seconds = |seconds: u32| Time::from(seconds) * SECOND;
        match self.activity {
            Activity::Activating => None,
            Activity::Active { since } if now - since >= seconds(self.settings.window) => Some(0),
            Activity::Active { .. } => self.apply(1),
            Activity::Inactive { since } => {
                let grace = seconds(self.settings.scale_to_zero_grace_period);
                let retention = seconds(self.settings.scale_to_zero_pod_retention_period);
                let inactive = now - since;
                let proxied = self.proxied_since.map_or(0, |since| now - since);
                if inactive >= grace.max(retention) || (inactive >= retention && proxied >= grace) {
                    return self.apply(0);
                }
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second at which an idle revision of one pod is gone, ticking every other second.
    fn gone(settings: &Autoscaling, excess: i32) -> u64 {
        let mut scaler = Scaler::new(settings, 1);
        (1..1000)
            .map(|tick| tick * 2)
            .find(|second| {
                scaler.reconcile(second * SECOND, Some(0), excess, 1);
                scaler.replicas() == 0
            })
            .expect("it goes")
    }

    #[test]
    fn the_way_to_zero_takes_a_window_and_the_grace_period() {
        // In the path from the start, the activator needs no grace.
        assert_eq!(gone(&Autoscaling::default(), -1), 62);
        // Not in the path until the revision is inactive.
        let direct = Autoscaling { target_burst_capacity: 0.0, ..Autoscaling::default() };
        let mut scaler = Scaler::new(&direct, 1);
        scaler.reconcile(2 * SECOND, Some(1), 0, 1);
        assert!(!scaler.is_proxied());
        let retained = Autoscaling { scale_to_zero_pod_retention_period: 120, ..Autoscaling::default() };
        assert_eq!(gone(&retained, -1), 180);
    }

    #[test]
    fn the_last_pod_stays_for_the_rest_of_the_window() {
        let mut scaler = Scaler::new(&Autoscaling::default(), 5);
        scaler.reconcile(2 * SECOND, Some(0), -1, 5);
        assert_eq!(scaler.replicas(), 1);
        let kept = Autoscaling { enable_scale_to_zero: false, ..Autoscaling::default() };
        let mut scaler = Scaler::new(&kept, 5);
        scaler.reconcile(1000 * SECOND, Some(0), -1, 5);
        assert_eq!(scaler.replicas(), 1);
    }

    #[test]
    fn bounds_hold() {
        let bounded = Autoscaling { min_scale: 2, max_scale: 6, ..Autoscaling::default() };
        let mut scaler = Scaler::new(&bounded, 2);
        let mut scaled = |desired| {
            scaler.reconcile(2 * SECOND, Some(desired), -1, 2);
            scaler.replicas()
        };
        assert_eq!([scaled(0), scaled(4), scaled(9)], [2, 4, 6]);
    }

    #[test]
    fn a_revision_comes_back_from_zero() {
        let mut scaler = Scaler::new(&Autoscaling::default(), 0);
        scaler.reconcile(2 * SECOND, None, -1, 0);
        assert_eq!(scaler.replicas(), 0);
        scaler.reconcile(4 * SECOND, Some(3), -1, 0);
        assert_eq!((scaler.replicas(), scaler.activity), (3, Activity::Activating));
        // While it comes, a lull does not send it away.
        scaler.reconcile(6 * SECOND, Some(0), -1, 0);
        assert_eq!((scaler.replicas(), scaler.activity), (3, Activity::Activating));
        scaler.reconcile(8 * SECOND, Some(3), -1, 3);
        assert_eq!(scaler.activity, Activity::Active { since: 8 * SECOND });
    }
}
