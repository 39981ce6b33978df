//! `corymb tune --replay`: `corymb simulate` of Knative's autoscaler, with what was just measured.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use corymb_loadtest::simulate::Outcome;

use crate::commands::bench::ArrivalsFlag;
use crate::commands::simulate::{Measured, ScalerFlag, ScenarioFlags, Subject};

#[derive(Debug, Args)]
#[command(next_help_heading = "Replay")]
pub(super) struct ReplayFlags {
    /// Replay a load against Knative's autoscaler, as `corymb simulate --scaler kpa --load` does
    #[arg(id = "load", long = "replay", value_name = "FILE")]
    replay: Option<PathBuf>,
    /// What an earlier `tune --json` printed, instead of measuring: for a trace, a manifest, or the table
    #[arg(long, value_name = "FILE", conflicts_with = "service_time")]
    measured: Option<PathBuf>,
    /// Equal gaps between requests, or random ones
    #[arg(long = "replay-arrivals", requires = "load", default_value = "poisson")]
    replay_arrivals: ArrivalsFlag,
    #[command(flatten)]
    scenario: ScenarioFlags,
}

impl ReplayFlags {
    pub(super) fn is_asked_for(&self) -> bool {
        self.replay.is_some()
    }

    /// Service times are given or were measured before.
    pub(super) fn needs_no_server(&self) -> bool {
        self.scenario.has_service_time() || self.measured.is_some()
    }

    pub(super) fn has_measured(&self) -> bool {
        self.measured.is_some()
    }

    /// What was measured before.
    pub(super) fn measured(&self) -> anyhow::Result<Option<Measured>> {
        self.measured.as_deref().map(Measured::read).transpose()
    }

    /// One outcome for each target.
    pub(super) fn run(&self, measured: Option<&Measured>) -> anyhow::Result<Vec<Outcome>> {
        let path = self.replay.as_ref().context("there is no trace")?;
        let subject = Subject {
            scalers: &[ScalerFlag::Kpa],
            arrivals: self.replay_arrivals.into(),
            measured,
            model: None,
            objective: None,
        };
        self.scenario.run(path, &subject)
    }
}
