//! `corymb simulate`: a load against Knative's autoscaler, the HPA and KEDA in virtual time, side by side.

mod measured;
mod scenario;
mod settings;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use corymb_loadtest::picture::{self, Format};
use corymb_loadtest::simulate::Model;
use corymb_loadtest::sweep::Objective;
use serde_json::json;

pub(crate) use self::measured::Measured;
pub(crate) use self::scenario::{POD_START, ScenarioFlags, Subject};
pub(crate) use self::table::{table, title};
use crate::commands::bench::ArrivalsFlag;

/// What autoscalers would make of a load: pods, latency and cost, in virtual time.
#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// When requests come: a CSV file of seconds,rate, the answer of Prometheus to a range query, or what hey printed, with
    /// `-o csv` or without; - reads it from standard input
    #[arg(id = "load", long = "load", value_name = "FILE", required = true)]
    load: PathBuf,
    /// What `tune --json` printed: how fast a pod is at each number of requests in flight
    #[arg(long, value_name = "FILE", conflicts_with = "service_time")]
    measured: Option<PathBuf>,
    /// Who scales; may be repeated [default: all three]
    #[arg(long = "scaler", value_name = "SCALER")]
    scalers: Vec<ScalerFlag>,
    /// The latency that should hold, e.g. p95=100ms: says which requests are late
    #[arg(long, value_name = "PERCENTILE=TIME", value_parser = parse_objective)]
    objective: Option<Objective>,
    #[command(flatten)]
    scenario: ScenarioFlags,
    /// Equal gaps between requests, or random ones
    #[arg(long, default_value = "poisson")]
    arrivals: ArrivalsFlag,
    /// One request after the other, or all of a tenth of a second at once [default: events up to 20 million requests]
    #[arg(long)]
    model: Option<ModelFlag>,
    /// Write a picture, .svg or .png; may be repeated
    #[arg(long, value_name = "FILE", value_parser = parse_picture)]
    picture: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Who scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScalerFlag {
    /// Knative's own autoscaler
    Kpa,
    /// Kubernetes' HorizontalPodAutoscaler on the metric that prometheus-adapter serves
    Hpa,
    /// KEDA on a query to Prometheus
    Keda,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModelFlag {
    Events,
    Fluid,
}

pub(crate) fn parse_objective(text: &str) -> Result<Objective, String> {
    let (percentile, limit) = text.split_once('=').ok_or("expected PERCENTILE=TIME, e.g. p95=100ms")?;
    let limit = humantime::parse_duration(limit).map_err(|error| error.to_string())?;
    Objective::new(percentile, limit)
}

pub(crate) fn parse_picture(text: &str) -> Result<PathBuf, String> {
    Format::of(text).map(|_| PathBuf::from(text)).ok_or_else(|| "expected a name that ends in .svg or .png".to_owned())
}

/// By the ending of its name, which was checked.
pub(crate) fn format(path: &Path) -> Format {
    Format::of(&path.to_string_lossy()).unwrap_or(Format::Svg)
}

pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| format!("{}", path.display()))
}

/// Simulates, prints, draws.
pub(crate) fn simulate(arguments: &SimulateArguments) -> anyhow::Result<()> {
    let measured = arguments.measured.as_deref().map(Measured::read).transpose()?;
    let scalers = match arguments.scalers.as_slice() {
        [] => ScalerFlag::value_variants(),
        named => named,
    };
    let subject = Subject {
        scalers,
        arrivals: arguments.arrivals.into(),
        measured: measured.as_ref(),
        model: arguments.model.map(|model| match model {
            ModelFlag::Events => Model::Events,
            ModelFlag::Fluid => Model::Fluid,
        }),
        objective: arguments.objective.as_ref(),
    };
    let outcomes = arguments.scenario.run(&arguments.load, &subject)?;
    for path in &arguments.picture {
        write(path, &picture::simulation(&title(&outcomes), &outcomes, format(path))?)?;
    }
    if arguments.json {
        let summary = outcomes.first().map(|outcome| &outcome.summary);
        let result = json!({
            "load": {
                "file": arguments.load,
                "seconds": summary.map(|summary| summary.seconds),
                "requests": summary.map(|summary| summary.requests),
            },
            "outcomes": outcomes,
        });
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        print!("{}", table(&outcomes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_a_percentile_and_a_time() {
        let objective = parse_objective("p95=100ms").expect("valid");
        assert_eq!((objective.percentile.as_str(), objective.limit_ms), ("p95", 100.0));
        for (text, words) in [("p95", "expected PERCENTILE=TIME"), ("p42=1s", "'p42' is unknown"), ("p95=0s", "of 0")] {
            assert!(parse_objective(text).expect_err(text).contains(words), "{text}");
        }
    }
}
