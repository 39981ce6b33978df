//! `corymb tune --replay`: a trace of rates against Knative's autoscaler in virtual time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use corymb_loadtest::Arrivals;
use corymb_loadtest::simulate::{Autoscaling, Outcome, PodModel, Scenario, ServiceTime, Trace, simulate};
use serde_json::Value;

use super::Tuned;
use super::settings::{self, Setting};
use crate::commands::bench::{ArrivalsFlag, milliseconds};
use crate::config::duration;

/// From when a pod is asked for to when its server starts, where nothing is said: scheduling, an image that is there,
/// a sandbox and a container.
pub(super) const POD_START: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(next_help_heading = "Replay")]
pub(super) struct ReplayFlags {
    /// Replay a trace against Knative's autoscaler: a CSV file of seconds,rate; each rate holds until the next row,
    /// the last row ends the trace
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// What an earlier `tune --json` printed, instead of measuring: for a trace, a manifest, or the table
    #[arg(long, value_name = "FILE", conflicts_with = "service_time")]
    measured: Option<PathBuf>,
    /// Instead of measuring: 200ms, exponential:200ms (mean) or lognormal:200ms:1s (median, p99)
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = parse_service_time)]
    service_time: Option<ServiceTime>,
    /// Requests that a pod works on at a time [default: as measured, else 1]
    #[arg(long, value_name = "REQUESTS", requires = "replay")]
    parallelism: Option<u32>,
    /// From when a pod is asked for to when it is ready [default: 2s and the measured start]
    #[arg(long, value_parser = duration, requires = "replay")]
    cold_start: Option<Duration>,
    /// A target to try; may be repeated [default: the recommended, or the autoscaler's]
    #[arg(long = "target", value_name = "TARGET", requires = "replay")]
    targets: Vec<f64>,
    /// A setting of the autoscaler by Knative's name, e.g. window=30s; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "replay", value_parser = settings::parse)]
    settings: Vec<Setting>,
    /// Ready pods when the trace begins
    #[arg(long, value_name = "PODS", requires = "replay", default_value_t = 1)]
    start_replicas: u32,
    /// Equal gaps between requests, or random ones
    #[arg(long = "replay-arrivals", requires = "replay", default_value = "poisson")]
    replay_arrivals: ArrivalsFlag,
    /// Of everything random in a replay
    #[arg(long, requires = "replay", default_value_t = 1)]
    seed: u64,
}

fn parse_service_time(text: &str) -> Result<ServiceTime, String> {
    let time = |text: &str| {
        humantime::parse_duration(text)
            .map(|time| time.as_secs_f64() * 1e3)
            .map_err(|error| format!("'{text}': {error}"))
    };
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [constant] => Ok(ServiceTime::Constant(time(constant)?)),
        ["exponential", mean] => Ok(ServiceTime::Exponential(time(mean)?)),
        ["lognormal", median, p99] => Ok(ServiceTime::LogNormal(time(median)?, time(p99)?)),
        _ => Err("expected 200ms, exponential:200ms or lognormal:200ms:1s".to_owned()),
    }
}

impl ReplayFlags {
    pub(super) fn is_asked_for(&self) -> bool {
        self.replay.is_some()
    }

    /// Service times are given or were measured before.
    pub(super) fn needs_no_server(&self) -> bool {
        self.service_time.is_some() || self.measured.is_some()
    }

    pub(super) fn has_measured(&self) -> bool {
        self.measured.is_some()
    }

    /// What was measured before.
    pub(super) fn measured(&self) -> anyhow::Result<Option<Value>> {
        let Some(path) = &self.measured else { return Ok(None) };
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(named)?;
        Ok(Some(serde_json::from_str(&text).with_context(named)?))
    }

    /// One outcome for each target.
    pub(super) fn run(&self, tuned: Option<&Tuned>) -> anyhow::Result<Vec<Outcome>> {
        let path = self.replay.as_ref().context("there is no trace")?;
        let named = || path.display().to_string();
        let trace = Trace::parse(&std::fs::read_to_string(path).with_context(named)?).with_context(named)?;
        let told = tuned.and_then(|tuned| tuned.recommendation.as_ref());
        let mut autoscaling = Autoscaling::default();
        if let Some(told) = told {
            autoscaling.container_concurrency = u32::try_from(told.container_concurrency).unwrap_or(u32::MAX);
            autoscaling.target = Some(told.target);
            autoscaling.target_utilization_percentage = told.target_utilization_percentage;
        }
        for setting in &self.settings {
            setting.apply(&mut autoscaling).map_err(anyhow::Error::msg)?;
        }
        let service_time = match (&self.service_time, tuned) {
            (Some(given), _) => given.clone(),
            (None, Some(tuned)) => {
                let least = tuned.steps.iter().min_by_key(|step| step.concurrency).context("nothing was measured")?;
                ServiceTime::measured(&least.report.latency)
            }
            (None, None) => anyhow::bail!("how long a pod works on a request is not known: --service-time says it"),
        };
        let measured_start =
            tuned.and_then(|tuned| tuned.start_seconds).map_or(Duration::ZERO, Duration::from_secs_f64);
        let pod = PodModel {
            parallelism: self.parallelism.or(told.map(|told| told.parallelism as u32)).unwrap_or(1),
            service_time,
            cold_start: self.cold_start.unwrap_or(POD_START + measured_start),
        };
        let targets = if self.targets.is_empty() {
            vec![autoscaling.target]
        } else {
            self.targets.iter().copied().map(Some).collect()
        };
        targets
            .into_iter()
            .map(|target| {
                let scenario = Scenario {
                    trace: trace.clone(),
                    arrivals: Arrivals::from(self.replay_arrivals),
                    autoscaling: Autoscaling { target, ..autoscaling.clone() },
                    pod: pod.clone(),
                    start_replicas: self.start_replicas,
                    // A revision's default.
                    timeout: Duration::from_secs(300),
                    seed: self.seed,
                };
                Ok(simulate(&scenario)?)
            })
            .collect()
    }
}

/// What a picture is headed by.
pub(super) fn title(outcome: &Outcome) -> String {
    match outcome.autoscaling.target {
        Some(target) => format!("Knative at target {target}: {:.1} replicas on average", outcome.summary.replicas_mean),
        None => format!("Knative: {:.1} replicas on average", outcome.summary.replicas_mean),
    }
}

/// A row for each target.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "\n    target  replicas mean / most  pod-hours  busy       p50       p95       p99   cold  refused  gave up\n",
    );
    for Outcome { autoscaling, summary, .. } in outcomes {
        let target = autoscaling.target.map_or_else(|| "default".to_owned(), |target| target.to_string());
        text.push_str(&format!(
            "  {target:>8}  {:>13.1} / {:<4}  {:>9.3}  {:>3.0}%  {:>8}  {:>8}  {:>8}  {:>5}  {:>7}  {:>7}\n",
            summary.replicas_mean,
            summary.replicas_max,
            summary.pod_seconds / 3600.0,
            summary.utilization * 100.0,
            milliseconds(summary.latency.p50_ms),
            milliseconds(summary.latency.p95_ms),
            milliseconds(summary.latency.p99_ms),
            summary.cold,
            summary.refused,
            summary.timed_out,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_times_have_three_forms() {
        assert_eq!(parse_service_time("200ms"), Ok(ServiceTime::Constant(200.0)));
        assert_eq!(parse_service_time("exponential:1s"), Ok(ServiceTime::Exponential(1000.0)));
        assert_eq!(parse_service_time("lognormal:20ms:1s"), Ok(ServiceTime::LogNormal(20.0, 1000.0)));
        assert!(parse_service_time("normal:1s").expect_err("unknown").contains("expected 200ms"));
    }
}
