//! The autoscaler's settings: Knative's names, defaults and limits, and what follows from them.

use serde::Serialize;

use crate::simulate::{SECOND, SimulateError, Time};

/// Knative's least target.
const TARGET_MIN: f64 = 0.01;

/// What is scaled on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Requests in flight.
    #[default]
    Concurrency,
    /// Requests a second.
    Rps,
}

/// How a window's seconds are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// All alike.
    #[default]
    Linear,
    /// The latest most.
    WeightedExponential,
}

/// Annotations of a revision and keys of `config-autoscaler`, with Knative 1.23's defaults. Times are seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are Knative's")]
pub struct Autoscaling {
    /// 0 is no limit.
    pub container_concurrency: u32,
    pub metric: Metric,
    pub metric_aggregation_algorithm: Aggregation,
    /// None takes `container_concurrency`, else 100; for requests a second, 200.
    pub target: Option<f64>,
    pub target_utilization_percentage: f64,
    /// -1 keeps the activator in the path, 0 takes it out whenever a pod is ready.
    pub target_burst_capacity: f64,
    pub window: u32,
    pub panic_window_percentage: f64,
    pub panic_threshold_percentage: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub enable_scale_to_zero: bool,
    pub scale_to_zero_grace_period: u32,
    pub scale_to_zero_pod_retention_period: u32,
    pub scale_down_delay: u32,
    pub initial_scale: u32,
    pub min_scale: u32,
    /// 0 is no limit.
    pub max_scale: u32,
    /// 0 is none; else at least 2.
    pub activation_scale: u32,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            container_concurrency: 0,
            metric: Metric::Concurrency,
            metric_aggregation_algorithm: Aggregation::Linear,
            target: None,
            target_utilization_percentage: 70.0,
            target_burst_capacity: 211.0,
            window: 60,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            enable_scale_to_zero: true,
            scale_to_zero_grace_period: 30,
            scale_to_zero_pod_retention_period: 0,
            scale_down_delay: 0,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            activation_scale: 0,
        }
    }
}

/// What `Scale` works with: Knative's `DeciderSpec`.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulate) struct Spec {
    pub(in crate::simulate) target: f64,
    pub(in crate::simulate) total: f64,
    pub(in crate::simulate) stable_window: Time,
    /// Whole seconds, as its buckets are.
    pub(in crate::simulate) panic_seconds: u32,
}

impl Autoscaling {
    /// The target before utilization: the annotation's, else the limit, else 100, and 200 requests a second.
    pub(in crate::simulate) fn total(&self) -> f64 {
        let limit = f64::from(self.container_concurrency);
        let mut total = match self.metric {
            Metric::Rps => 200.0,
            Metric::Concurrency if limit == 0.0 => 100.0,
            Metric::Concurrency => limit,
        };
        if let Some(target) = self.target {
            total = if self.metric == Metric::Concurrency && limit != 0.0 { target.min(limit) } else { target };
        }
        total
    }

    /// `ResolveMetricTarget` and the panic window of `MakeMetric`.
    pub(in crate::simulate) fn spec(&self) -> Spec {
        let total = self.total();
        let panic = (f64::from(self.window) * self.panic_window_percentage / 100.0).round();
        Spec {
            target: (total * (self.target_utilization_percentage / 100.0)).max(TARGET_MIN),
            total,
            stable_window: Time::from(self.window) * SECOND,
            panic_seconds: (panic as u32).max(1),
        }
    }

    /// Knative's own limits.
    pub(in crate::simulate) fn check(&self) -> Result<(), SimulateError> {
        let within = |name: &str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(SimulateError::Settings(format!("{name} is {value}; expected {least} to {most}")))
            }
        };
        within("container-concurrency", f64::from(self.container_concurrency), 0.0, 1000.0)?;
        within("target", self.target.unwrap_or(1.0), TARGET_MIN, 1e9)?;
        within("target-utilization-percentage", self.target_utilization_percentage, 1.0, 100.0)?;
        within("target-burst-capacity", self.target_burst_capacity, -1.0, 1e9)?;
        within("window", f64::from(self.window), 6.0, 3600.0)?;
        within("panic-window-percentage", self.panic_window_percentage, 1.0, 100.0)?;
        within("panic-threshold-percentage", self.panic_threshold_percentage, 110.0, 1000.0)?;
        within("max-scale-up-rate", self.max_scale_up_rate, 1.0 + f64::EPSILON, 1e9)?;
        within("max-scale-down-rate", self.max_scale_down_rate, 1.0 + f64::EPSILON, 1e9)?;
        within("scale-to-zero-grace-period", f64::from(self.scale_to_zero_grace_period), 6.0, 3600.0)?;
        within("scale-down-delay", f64::from(self.scale_down_delay), 0.0, 3600.0)?;
        if self.activation_scale == 1 {
            return Err(SimulateError::Settings("activation-scale is 1; expected 2 or more".to_owned()));
        }
        if self.max_scale != 0 && self.min_scale > self.max_scale {
            let (min, max) = (self.min_scale, self.max_scale);
            return Err(SimulateError::Settings(format!("min-scale is {min}; expected at most max-scale, {max}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_resolved_as_knative_does() {
        let target = |limit, target, utilization| {
            let settings = Autoscaling {
                container_concurrency: limit,
                target,
                target_utilization_percentage: utilization,
                ..Autoscaling::default()
            };
            let spec = settings.spec();
            (spec.target, spec.total)
        };
        assert_eq!(target(0, None, 70.0), (70.0, 100.0));
        assert_eq!(target(10, None, 70.0), (7.0, 10.0));
        assert_eq!(target(0, Some(1.0), 70.0), (0.7, 1.0));
        assert_eq!(target(5, Some(10.0), 100.0), (5.0, 5.0));
        assert_eq!(target(0, Some(0.01), 1.0), (0.01, 0.01));
        let rps = Autoscaling { metric: Metric::Rps, ..Autoscaling::default() }.spec();
        assert!((rps.target - 140.0).abs() < 1e-9 && rps.total == 200.0);
        for (window, seconds) in [(60, 6), (6, 1), (25, 3), (24, 2)] {
            let spec = Autoscaling { window, ..Autoscaling::default() }.spec();
            assert_eq!(spec.panic_seconds, seconds, "{window}");
        }
    }

    #[test]
    fn limits_are_knative_s() {
        let wrong = Autoscaling { window: 5, ..Autoscaling::default() };
        assert_eq!(wrong.check().expect_err("too short").to_string(), "window is 5; expected 6 to 3600");
        assert!(Autoscaling { activation_scale: 1, ..Autoscaling::default() }.check().is_err());
        assert!(Autoscaling { min_scale: 3, max_scale: 2, ..Autoscaling::default() }.check().is_err());
        assert!(Autoscaling::default().check().is_ok());
    }
}
