//! Autoscalers in virtual time: what a load would do to replicas, queues and cost under Knative's, the HPA or KEDA.
//!
//! The decisions are those of the programs, operation by operation, so that the same records and the same counts of pods give the
//! same replicas. `kpa` is Knative 1.23 (`knative.dev/serving` v0.50.0): `buckets` is `pkg/autoscaler/aggregation`, `delay` is
//! its `max`, `decider` is `Scale` in `pkg/autoscaler/scaling/autoscaler.go`, and `scaler` is
//! `pkg/reconciler/autoscaling/kpa/scaler.go` with the activity of `kpa.go`. `settings` resolves targets as `pkg/reconciler/autoscaling/resources` does. `hpa` is `pkg/controller/podautoscaler` of
//! Kubernetes 1.35, with KEDA's operator around it.
//!
//! What surrounds them is a model. `loads` says when requests come, `service` and `curve` what a pod makes of them. `events` takes
//! one request after the other; `fluid` takes all of a tenth of a second at once, by what `equilibrium` found with `events`. Left
//! out on purpose: scraping a sample of the pods instead of all, delays of the control plane, pods that cannot be scheduled.

mod account;
mod control;
mod curve;
mod equilibrium;
mod events;
mod fluid;
mod hpa;
mod kpa;
mod loads;
mod outcome;
mod pods;
mod quantiles;
mod service;
mod settings;

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

pub use curve::{Curve, CurvePoint};
pub use loads::{MAX_BYTES, Trace};
pub use outcome::{Compliance, Moment, Outcome, Record, Summary, Sync, Tick};
pub use service::ServiceTime;
pub use settings::{Aggregation, Autoscaling, Hpa, Keda, Metric, Rules, SelectPolicy};

use crate::schedule::Arrivals;
use crate::sweep::Objective;

/// Microseconds since the trace began.
type Time = u64;

const SECOND: Time = 1_000_000;

/// Requests up to which one is taken after the other where nothing is said.
const EVENTS: f64 = 20e6;

/// Requests that are taken one after the other at most.
const MAX_EVENTS: u64 = 200_000_000;

/// The longest trace, in seconds: 35 days.
const LONGEST: u64 = 35 * 86_400;

/// The most pods that are asked for.
const MAX_PODS: u32 = 20_000;

/// What one pod is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodModel {
    /// Requests that it works on at the same time; the others wait in it.
    pub parallelism: u32,
    /// How long it works on one.
    pub service_time: ServiceTime,
    /// From when a pod is asked for to when it is ready.
    #[serde(with = "seconds")]
    pub cold_start: Duration,
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Rates over time.
    pub trace: Trace,
    /// Equal gaps between requests, or random ones.
    pub arrivals: Arrivals,
    /// The settings of Knative, which the other autoscalers take targets, limits and bounds from.
    pub autoscaling: Autoscaling,
    /// The pods.
    pub pod: PodModel,
    /// Ready pods when the trace begins.
    pub start_replicas: u32,
    /// Requests that wait longer are given up: a revision's `timeoutSeconds`.
    pub timeout: Duration,
    /// Of everything random.
    pub seed: u64,
}

/// Who scales.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scaler {
    /// Knative's own autoscaler.
    #[default]
    Kpa,
    /// Kubernetes' HorizontalPodAutoscaler on the pods' own concurrency.
    Hpa(Hpa),
    /// KEDA on the sum of the same, with the HPA that it makes.
    Keda(Hpa, Keda),
}

impl Scaler {
    /// Its short name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kpa => "kpa",
            Self::Hpa(_) => "hpa",
            Self::Keda(..) => "keda",
        }
    }
}

/// How requests are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// One after the other.
    Events,
    /// As a fluid, in steps of a tenth of a second: the pointwise stationary fluid flow approximation.
    Fluid,
}

/// Who scales, and what is looked at besides.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Who scales.
    pub scaler: Scaler,
    /// None takes events up to 20 million requests, and beyond a fluid.
    pub model: Option<Model>,
    /// The latency that should hold.
    pub objective: Option<Objective>,
}

/// Why nothing was simulated.
#[derive(Clone, Debug, PartialEq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SimulateError {
    #[error("line {line} of the trace: {reason}")]
    Trace { line: usize, reason: String },
    #[error("sample {sample} of the trace: {reason}")]
    Sample { sample: usize, reason: String },
    #[error("{0}")]
    Settings(String),
    #[error("{what}; a simulation has at most {limit}")]
    TooLarge { what: String, limit: u64 },
}

/// Runs a scenario under Knative's autoscaler to the end of its trace, and until the requests in flight then have ended.
///
/// # Errors
/// Where a setting is outside Knative's limits, or the simulation would be too large.
pub fn simulate(scenario: &Scenario) -> Result<Outcome, SimulateError> {
    simulate_by(scenario, &Run::default())
}

/// As [`simulate`], under any of the autoscalers.
///
/// # Errors
/// As there.
pub fn simulate_by(scenario: &Scenario, run: &Run) -> Result<Outcome, SimulateError> {
    scenario.autoscaling.check()?;
    scenario.pod.check()?;
    let (mut control, scenario) = control(scenario, &run.scaler)?;
    let requests = scenario.trace.requests();
    let model = run.model.unwrap_or(if requests > EVENTS { Model::Fluid } else { Model::Events });
    if model == Model::Events && requests > MAX_EVENTS as f64 {
        let what = format!("the trace has {requests:.0} requests, one after the other");
        return Err(SimulateError::TooLarge { what, limit: MAX_EVENTS });
    }
    let summary = match model {
        Model::Events => events::run(&scenario, run.objective.as_ref(), control.as_mut())?,
        Model::Fluid => fluid::run(&scenario, run.objective.as_ref(), control.as_mut())?,
    };
    let (summary, moments) = summary;
    let log = control.log();
    let mut outcome = Outcome {
        scaler: run.scaler.name(),
        model,
        autoscaling: scenario.autoscaling,
        hpa: None,
        keda: None,
        pod: scenario.pod,
        start_replicas: scenario.start_replicas,
        records: log.records,
        ticks: log.ticks,
        syncs: log.syncs,
        moments,
        summary: Summary { panic_seconds: log.panic_seconds, ..summary },
    };
    match &run.scaler {
        Scaler::Kpa => {}
        Scaler::Hpa(hpa) => outcome.hpa = Some(hpa.clone()),
        Scaler::Keda(hpa, keda) => (outcome.hpa, outcome.keda) = (Some(hpa.clone()), Some(keda.clone())),
    }
    Ok(outcome)
}

/// The autoscaler, and the scenario with the replicas that it begins with.
fn control(scenario: &Scenario, scaler: &Scaler) -> Result<(Box<dyn control::Control>, Scenario), SimulateError> {
    let mut scenario = scenario.clone();
    let control: Box<dyn control::Control> = match scaler {
        Scaler::Kpa => Box::new(kpa::Kpa::new(&scenario.autoscaling, scenario.start_replicas)),
        Scaler::Hpa(settings) => {
            let control = hpa::Controller::new(&scenario.autoscaling, settings, None, scenario.start_replicas)?;
            scenario.start_replicas = control::Control::replicas(&control);
            Box::new(control)
        }
        Scaler::Keda(settings, keda) => {
            let control = hpa::Controller::new(&scenario.autoscaling, settings, Some(keda), scenario.start_replicas)?;
            scenario.start_replicas = control::Control::replicas(&control);
            Box::new(control)
        }
    };
    Ok((control, scenario))
}

impl PodModel {
    fn check(&self) -> Result<(), SimulateError> {
        if self.parallelism == 0 {
            return Err(SimulateError::Settings("a pod works on at least 1 request at a time".to_owned()));
        }
        self.service_time.check().map_err(SimulateError::Settings)
    }

    /// Requests that one works on at the same time where its proxy lets in no more than `limit`; 0 is no limit.
    fn width(&self, limit: u32) -> u32 {
        let most = self.service_time.width().unwrap_or(self.parallelism);
        if limit == 0 { most } else { most.min(limit) }
    }

    /// The most requests a second of one pod.
    fn capacity(&self, limit: u32) -> f64 {
        self.service_time.most(self.width(limit))
    }
}

/// Durations as seconds.
mod seconds {
    use std::time::Duration;

    use serde::Serializer;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
