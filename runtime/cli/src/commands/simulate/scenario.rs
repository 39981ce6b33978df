//! What is simulated: a load, pods, and the settings of those who scale. `tune --replay` has the same flags.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use corymb_loadtest::Arrivals;
use corymb_loadtest::simulate::{
    Autoscaling, Curve, MAX_BYTES, Model, Outcome, PodModel, Run, Scaler, Scenario, ServiceTime, Trace, simulate_by,
};
use corymb_loadtest::sweep::Objective;

use super::ScalerFlag;
use super::measured::Measured;
use super::settings::{self, Setting, Settings};
use crate::config::duration;

/// From when a pod is asked for to when its server starts, where nothing is said: scheduling, an image that is there,
/// a sandbox and a container.
pub(crate) const POD_START: Duration = Duration::from_secs(2);

/// A revision's `timeoutSeconds` by default.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
#[command(next_help_heading = "Simulation")]
pub(crate) struct ScenarioFlags {
    /// Instead of measuring: 200ms, exponential:200ms (mean) or lognormal:200ms:1s (median, p99)
    #[arg(long, value_name = "TIME", requires = "load", value_parser = parse_service_time)]
    service_time: Option<ServiceTime>,
    /// Requests that a pod works on at a time, each for as long as one that is alone [default: as measured, else 1]
    #[arg(long, value_name = "REQUESTS", requires = "load")]
    parallelism: Option<u32>,
    /// From when a pod is asked for to when it is ready [default: 2s and the measured start]
    #[arg(long, value_parser = duration, requires = "load")]
    cold_start: Option<Duration>,
    /// A target to try; may be repeated [default: the recommended, or the autoscaler's]
    #[arg(long = "target", value_name = "TARGET", requires = "load")]
    targets: Vec<f64>,
    /// A setting of the autoscalers by its own name, e.g. window=30s or hpa-tolerance=0.2; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "load", value_parser = settings::parse)]
    settings: Vec<Setting>,
    /// Ready pods when the load begins
    #[arg(long, value_name = "PODS", requires = "load", default_value_t = 1)]
    start_replicas: u32,
    /// Of everything random in a simulation
    #[arg(long, requires = "load", default_value_t = 1)]
    seed: u64,
}

/// What the flags alone do not say.
pub(crate) struct Subject<'a> {
    pub(crate) scalers: &'a [ScalerFlag],
    pub(crate) arrivals: Arrivals,
    pub(crate) measured: Option<&'a Measured>,
    pub(crate) model: Option<Model>,
    pub(crate) objective: Option<&'a Objective>,
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

/// Reads a load, which is no longer than may be.
fn load(path: &Path) -> anyhow::Result<Trace> {
    let read = |source: &mut dyn std::io::Read| -> anyhow::Result<String> {
        let mut text = String::new();
        let read = source.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64;
        if read > MAX_BYTES {
            bail!("longer than {MAX_BYTES} bytes");
        }
        Ok(text)
    };
    let text = if path.as_os_str() == "-" {
        read(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(path).map_err(anyhow::Error::from).and_then(|mut file| read(&mut file))
    };
    let named = || path.display().to_string();
    Trace::parse(&text.with_context(named)?).with_context(named)
}

impl ScenarioFlags {
    /// Whether it is said how long a pod works on a request.
    pub(crate) fn has_service_time(&self) -> bool {
        self.service_time.is_some()
    }

    /// One outcome for each scaler and target.
    pub(crate) fn run(&self, path: &Path, subject: &Subject<'_>) -> anyhow::Result<Vec<Outcome>> {
        let trace = load(path)?;
        let pod = self.pod(subject.measured)?;
        let mut outcomes = Vec::new();
        for &scaler in subject.scalers {
            let mut settings = self.settings(scaler, subject.measured);
            settings.apply(&self.settings, subject.scalers).map_err(anyhow::Error::msg)?;
            let Settings { autoscaling, hpa, keda } = settings;
            let run = Run {
                scaler: match scaler {
                    ScalerFlag::Kpa => Scaler::Kpa,
                    ScalerFlag::Hpa => Scaler::Hpa(hpa),
                    ScalerFlag::Keda => Scaler::Keda(hpa, keda),
                },
                model: subject.model,
                objective: subject.objective.cloned(),
            };
            let targets = match self.targets.as_slice() {
                [] => vec![autoscaling.target],
                named => named.iter().copied().map(Some).collect(),
            };
            for target in targets {
                let scenario = Scenario {
                    trace: trace.clone(),
                    arrivals: subject.arrivals,
                    autoscaling: Autoscaling { target, ..autoscaling.clone() },
                    pod: pod.clone(),
                    start_replicas: self.start_replicas,
                    timeout: TIMEOUT,
                    seed: self.seed,
                };
                outcomes.push(simulate_by(&scenario, &run).with_context(|| run.scaler.name())?);
            }
        }
        Ok(outcomes)
    }

    /// The defaults, with what is recommended.
    fn settings(&self, scaler: ScalerFlag, measured: Option<&Measured>) -> Settings {
        let mut settings = Settings::default();
        if let Some(told) = measured.and_then(|measured| measured.recommendation.as_ref()) {
            let autoscaling = &mut settings.autoscaling;
            autoscaling.container_concurrency = u32::try_from(told.container_concurrency).unwrap_or(u32::MAX);
            autoscaling.target_utilization_percentage = told.target_utilization_percentage;
            autoscaling.target = Some(match scaler {
                ScalerFlag::Kpa => told.target,
                // These know no utilisation, and whole numbers only: as the manifest has it.
                ScalerFlag::Hpa | ScalerFlag::Keda => told.effective_concurrency.ceil(),
            });
        }
        settings
    }

    fn pod(&self, measured: Option<&Measured>) -> anyhow::Result<PodModel> {
        let service_time = match (&self.service_time, measured) {
            (Some(given), _) => given.clone(),
            (None, Some(measured)) if self.parallelism.is_none() => {
                ServiceTime::Curve(Curve::of(&measured.steps).map_err(anyhow::Error::msg)?)
            }
            (None, Some(measured)) => {
                let least =
                    measured.steps.iter().min_by_key(|step| step.concurrency).context("nothing was measured")?;
                ServiceTime::measured(&least.report.latency)
            }
            (None, None) => {
                bail!("how long a pod works on a request is not known: --service-time says it, or --measured")
            }
        };
        let width = match &service_time {
            ServiceTime::Curve(curve) => curve.width(),
            _ => 1,
        };
        let start = measured.and_then(|measured| measured.start_seconds).unwrap_or_default();
        let start = Duration::try_from_secs_f64(start).context("read the start of the server")?;
        Ok(PodModel {
            parallelism: self.parallelism.unwrap_or(width),
            service_time,
            cold_start: self.cold_start.unwrap_or(POD_START + start),
        })
    }
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
