//! The flags of an autoscaler: what it looks at, what it aims for, and how fast it moves.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::template::{Values, text};
use crate::config::duration;

/// Of the target, what Knative aims for where nothing is said.
const UTILIZATION: u8 = 70;

/// Where utilisation may stand in a template.
const UTILIZED: [&str; 4] = ["utilization", "effective", "effective_of_sidecar", "effective_of_prometheus"];

/// The same of a target.
const TARGET: [&str; 6] =
    ["target", "target_number", "target_fraction", "effective", "effective_of_sidecar", "effective_of_prometheus"];

/// What an autoscaler looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Metric {
    /// Requests in flight of one pod, averaged over time
    #[default]
    Concurrency,
    /// Requests a second of one pod
    Rps,
    /// Load over measured capacity, in percent: one target for every model; not for Knative's own autoscaler
    Saturation,
}

/// What autoscalers are told.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Scaling")]
pub(crate) struct ScalingFlags {
    /// What one pod is kept at: requests in flight [default: 4], requests a second, or percent [default: 70]
    #[arg(long, value_name = "NUMBER")]
    pub(super) target: Option<f64>,
    /// What the target is of
    #[arg(long, default_value = "concurrency")]
    pub(super) metric: Metric,
    /// Of the target, what the autoscaler aims for; Knative's default is 70
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) utilization: Option<u8>,
    /// The most requests that a pod is given at once; 0 is no limit [default: 0]
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(super) container_concurrency: Option<u32>,
    /// Pods that are always there [default: none, or 1 where the class cannot scale to none]
    #[arg(long, value_name = "PODS", value_parser = clap::value_parser!(u32).range(0..=2_147_483_647))]
    pub(super) min_scale: Option<u32>,
    /// The most pods [default: 10]
    #[arg(long, value_name = "PODS", value_parser = clap::value_parser!(u32).range(0..=2_147_483_647))]
    pub(super) max_scale: Option<u32>,
    /// The time over which load is averaged, 6s to 1h; Knative's default is 60s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) window: Option<Duration>,
    /// Of the window, what decides whether the autoscaler panics; Knative's default is 10
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) panic_window_percentage: Option<u8>,
    /// Of the pods that are ready, as how many it wants when it panics; Knative's default is 200
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u16).range(110..=1000))]
    pub(super) panic_threshold_percentage: Option<u16>,
    /// Requests that a burst may bring before Knative's activator buffers them; -1 leaves it in the path for good;
    /// Knative's default is 211
    #[arg(long, value_name = "REQUESTS", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..=1_000_000))]
    pub(super) target_burst_capacity: Option<i64>,
    /// How long pods stay when the load has gone down, up to 1h; Knative's default is 0s, Kubernetes' 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) scale_down_delay: Option<Duration>,
}

/// Whole seconds, as annotations and the HPA want them.
fn seconds(flag: &str, time: Duration, least: u64) -> anyhow::Result<u64> {
    let whole = time.as_secs();
    if time.subsec_nanos() != 0 || !(least..=3600).contains(&whole) {
        bail!("{flag} is {}; expected whole seconds, {least}s to 1h", humantime::format_duration(time));
    }
    Ok(whole)
}

impl ScalingFlags {
    /// What one pod is kept at, before utilisation.
    pub(super) fn target(&self) -> anyhow::Result<f64> {
        match (self.target, self.metric) {
            (Some(target), _) => Ok(target),
            (None, Metric::Concurrency) => Ok(4.0),
            (None, Metric::Saturation) => Ok(70.0),
            (None, Metric::Rps) => None.context(
                "--metric rps needs --target: requests a second that one pod can answer, as `corymb tune` finds them",
            ),
        }
    }

    /// What a pod is kept at, for autoscalers that have no utilisation of their own. What is asked of saturation is that itself.
    pub(super) fn effective(&self) -> anyhow::Result<f64> {
        let part = match self.metric {
            Metric::Saturation => self.utilization.unwrap_or(100),
            Metric::Concurrency | Metric::Rps => self.utilization.unwrap_or(UTILIZATION),
        };
        // Kubernetes' quantities have three digits behind the point.
        Ok((self.target()? * f64::from(part) * 10.0).round() / 1000.0)
    }

    pub(super) fn max_scale(&self) -> u32 {
        self.max_scale.unwrap_or(10)
    }

    /// Refuses to have no bound, of who takes 0 for none at all.
    pub(super) fn bounded(&self, by: &str) -> anyhow::Result<()> {
        if self.max_scale() == 0 {
            bail!("--max-scale is 0, and {by} needs a bound");
        }
        Ok(())
    }

    /// The pods that are always there, of an autoscaler that keeps one at least.
    pub(super) fn kept(&self, by: &str) -> anyhow::Result<u32> {
        match self.min_scale {
            Some(0) => bail!("--min-scale is 0, and {by} keeps one pod at least"),
            least => Ok(least.unwrap_or(1)),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        let target = self.target()?;
        // Knative's own least.
        if !(0.01..=1e6).contains(&target) {
            bail!("a target of {target}; expected 0.01 to 1000000");
        }
        let is_concurrency = self.metric == Metric::Concurrency;
        let limit =
            self.container_concurrency.filter(|limit| is_concurrency && *limit > 0 && f64::from(*limit) < target);
        if let Some(limit) = limit {
            bail!("--container-concurrency is {limit}; expected 0 or at least --target, {target}");
        }
        let most = self.max_scale();
        if let Some(least) = self.min_scale.filter(|least| most != 0 && *least > most) {
            bail!("--min-scale is {least}; expected at most --max-scale, {most}");
        }
        Ok(())
    }

    /// What they give a template.
    pub(super) fn values(&self, values: &mut Values) -> anyhow::Result<()> {
        self.check()?;
        let (target, most, least) = (self.target()?, self.max_scale(), self.min_scale.unwrap_or(0));
        for (name, value) in [
            ("target", text(&target.to_string())),
            ("container_concurrency", self.container_concurrency.unwrap_or(0).to_string()),
            ("min_scale", text(&least.to_string())),
            ("min_replicas", least.to_string()),
            ("max_scale", text(&most.to_string())),
            ("max_replicas", most.to_string()),
        ] {
            values.insert(name, value);
        }
        // KServe has a key of its own for whole numbers.
        match target.fract() == 0.0 {
            true => values.insert("target_number", target.to_string()),
            false => values.insert("target_fraction", text(&target.to_string())),
        }
        let mut pace = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                values.insert(name, text(&value));
            }
        };
        let utilization = self.utilization.map(|percent| percent.to_string());
        pace("utilization", utilization);
        pace("panic_window", self.panic_window_percentage.map(|percent| percent.to_string()));
        pace("panic_threshold", self.panic_threshold_percentage.map(|percent| percent.to_string()));
        pace("burst_capacity", self.target_burst_capacity.map(|requests| requests.to_string()));
        let window = self.window.map(|window| seconds("--window", window, 6)).transpose()?;
        pace("window", window.map(|window| format!("{window}s")));
        let delay = self.scale_down_delay.map(|delay| seconds("--scale-down-delay", delay, 0)).transpose()?;
        pace("scale_down_delay", delay.map(|delay| format!("{delay}s")));
        if let Some(delay) = delay {
            values.insert("scale_down_seconds", delay.to_string());
        }
        self.tell(values);
        Ok(())
    }

    /// Which flags were given, and where each may stand.
    fn tell(&self, values: &mut Values) {
        let has_metric = self.metric != Metric::Concurrency;
        for (is_given, flag, names) in [
            (self.target.is_some(), "--target", &TARGET[..]),
            (has_metric, "--metric", &["metric", "adapter_metric", "keda_query"]),
            (self.utilization.is_some(), "--utilization", &UTILIZED),
            (self.container_concurrency.is_some(), "--container-concurrency", &["container_concurrency"]),
            (self.min_scale.is_some(), "--min-scale", &["min_scale", "min_replicas", "min_replicas_kept", "replicas"]),
            (self.max_scale.is_some(), "--max-scale", &["max_scale", "max_replicas"]),
            (self.window.is_some(), "--window", &["window", "keda_query"]),
            (self.panic_window_percentage.is_some(), "--panic-window-percentage", &["panic_window"]),
            (self.panic_threshold_percentage.is_some(), "--panic-threshold-percentage", &["panic_threshold"]),
            (self.target_burst_capacity.is_some(), "--target-burst-capacity", &["burst_capacity"]),
            (
                self.scale_down_delay.is_some(),
                "--scale-down-delay",
                &["scale_down_delay", "scale_down_seconds", "scale_down_of_keda"],
            ),
        ] {
            if is_given {
                values.given(flag, names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_is_kept_at_follows_from_target_and_utilisation() {
        let flags =
            |metric, target, utilization| ScalingFlags { metric, target, utilization, ..ScalingFlags::default() };
        for (given, wanted) in [
            (flags(Metric::Concurrency, None, None), 2.8),
            (flags(Metric::Concurrency, Some(0.5), None), 0.35),
            (flags(Metric::Concurrency, Some(8.0), Some(100)), 8.0),
            (flags(Metric::Rps, Some(33.0), None), 23.1),
            (flags(Metric::Saturation, None, None), 70.0),
        ] {
            assert_eq!(given.effective().expect("a number"), wanted, "{given:?}");
        }
        let error = flags(Metric::Rps, None, None).effective().expect_err("of what?").to_string();
        assert!(error.contains("--metric rps needs --target"), "{error}");
    }

    #[test]
    fn limits_are_knatives() {
        let valid = ScalingFlags { window: Some(Duration::from_secs(6)), ..ScalingFlags::default() };
        assert!(valid.values(&mut Values::default()).is_ok());
        for wrong in [
            ScalingFlags { target: Some(0.0), ..ScalingFlags::default() },
            ScalingFlags { min_scale: Some(11), ..ScalingFlags::default() },
            ScalingFlags { target: Some(9.0), container_concurrency: Some(8), ..ScalingFlags::default() },
            ScalingFlags { window: Some(Duration::from_secs(5)), ..ScalingFlags::default() },
            ScalingFlags { window: Some(Duration::from_millis(6500)), ..ScalingFlags::default() },
            ScalingFlags { scale_down_delay: Some(Duration::from_secs(3601)), ..ScalingFlags::default() },
        ] {
            assert!(wrong.values(&mut Values::default()).is_err(), "{wrong:?}");
        }
    }
}
