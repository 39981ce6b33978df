//! The settings of the HPA, of KEDA and of the Prometheus that both ask, by their own names.

use serde::Serialize;

use crate::simulate::SimulateError;

/// Flags of the controller, and the fields of `spec.behavior`. Times are seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hpa {
    /// `--horizontal-pod-autoscaler-sync-period`.
    pub sync_period: u32,
    /// `--horizontal-pod-autoscaler-tolerance`.
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`, where there is no other window.
    pub downscale_stabilization: u32,
    /// `behavior.scaleUp`; none where the HPA has no behavior, as Knative's has without a window.
    pub scale_up: Option<Rules>,
    /// `behavior.scaleDown`, likewise.
    pub scale_down: Option<Rules>,
    /// Prometheus' `scrape_interval`.
    pub scrape_interval: u32,
    /// The range of the `rate` in the rule of prometheus-adapter and in KEDA's query.
    pub rate_window: u32,
}

/// How fast replicas may change in one direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    /// `stabilizationWindowSeconds`.
    pub stabilization_window: u32,
    /// Of the policy of type `Pods`; 0 is no such policy.
    pub pods: u32,
    /// Of the policy of type `Percent`; 0 is no such policy.
    pub percent: u32,
    /// `periodSeconds` of both.
    pub period: u32,
    /// Which policy counts.
    pub select_policy: SelectPolicy,
}

/// `selectPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SelectPolicy {
    /// That of the greatest change.
    #[default]
    Max,
    /// That of the least.
    Min,
    /// No change in this direction.
    Disabled,
}

impl Default for Hpa {
    fn default() -> Self {
        Self {
            sync_period: 15,
            tolerance: 0.1,
            downscale_stabilization: 300,
            scale_up: None,
            scale_down: None,
            scrape_interval: 5,
            rate_window: 30,
        }
    }
}

impl Rules {
    /// Kubernetes' defaults of `scaleUp`.
    #[must_use]
    pub fn up() -> Self {
        Self { stabilization_window: 0, pods: 4, percent: 100, period: 15, select_policy: SelectPolicy::Max }
    }

    /// Kubernetes' defaults of `scaleDown`.
    #[must_use]
    pub fn down() -> Self {
        Self { stabilization_window: 300, pods: 0, ..Self::up() }
    }
}

impl Hpa {
    /// The rules for more replicas, which are added with both directions' defaults where there are none.
    pub fn up(&mut self) -> &mut Rules {
        self.down();
        self.scale_up.get_or_insert_with(Rules::up)
    }

    /// Those for fewer.
    pub fn down(&mut self) -> &mut Rules {
        self.scale_up.get_or_insert_with(Rules::up);
        let window = self.downscale_stabilization;
        self.scale_down.get_or_insert_with(|| Rules { stabilization_window: window, ..Rules::down() })
    }

    /// Kubernetes' own limits.
    pub(in crate::simulate) fn check(&self) -> Result<(), SimulateError> {
        let within = |name: &str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(SimulateError::Settings(format!("{name} is {value}; expected {least} to {most}")))
            }
        };
        within("hpa-sync-period", f64::from(self.sync_period), 1.0, 3600.0)?;
        within("hpa-tolerance", self.tolerance, 0.0, 10.0)?;
        within("hpa-downscale-stabilization", f64::from(self.downscale_stabilization), 0.0, 3600.0)?;
        within("prometheus-scrape-interval", f64::from(self.scrape_interval), 1.0, 300.0)?;
        // A rate is of two samples at least.
        within("prometheus-rate-window", f64::from(self.rate_window), f64::from(2 * self.scrape_interval), 3600.0)?;
        for (direction, rules) in [("up", &self.scale_up), ("down", &self.scale_down)] {
            let Some(rules) = rules else { continue };
            let window = f64::from(rules.stabilization_window);
            within(&format!("hpa-scale-{direction}-stabilization-window"), window, 0.0, 3600.0)?;
            within(&format!("hpa-scale-{direction}-period"), f64::from(rules.period), 1.0, 1800.0)?;
            if rules.pods == 0 && rules.percent == 0 {
                let words =
                    format!("hpa-scale-{direction}-pods and hpa-scale-{direction}-percent are 0; expected a policy");
                return Err(SimulateError::Settings(words));
            }
        }
        Ok(())
    }
}

/// A `ScaledObject`. Times are seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Keda {
    /// `pollingInterval`.
    pub polling_interval: u32,
    /// `cooldownPeriod`.
    pub cooldown_period: u32,
    /// `activationThreshold` of the trigger.
    pub activation_threshold: f64,
    /// `minReplicaCount` is 0. What holds requests until there is a pod must then be part of the query.
    pub scale_to_zero: bool,
}

impl Default for Keda {
    fn default() -> Self {
        Self { polling_interval: 30, cooldown_period: 300, activation_threshold: 0.0, scale_to_zero: false }
    }
}

impl Keda {
    pub(in crate::simulate) fn check(&self) -> Result<(), SimulateError> {
        if self.polling_interval == 0 {
            return Err(SimulateError::Settings("keda-polling-interval is 0; expected at least 1s".to_owned()));
        }
        if !(0.0..=1e9).contains(&self.activation_threshold) {
            let found = self.activation_threshold;
            return Err(SimulateError::Settings(format!("keda-activation-threshold is {found}; expected 0 to 1e9")));
        }
        Ok(())
    }
}
