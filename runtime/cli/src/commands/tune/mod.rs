//! `corymb tune`: finds the knee, says what to tell Knative, and what Knative would make of a trace.

mod replay;
mod serving;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use corymb_loadtest::advice::{Advice, Question, Recommendation, Rejected, Replay, Server, advise};
use corymb_loadtest::picture;
use corymb_loadtest::simulate::Outcome;
use corymb_loadtest::sweep::{self, Objective, Step};
use corymb_loadtest::{Mode, Report};
use serde_json::{Value, json};

use self::serving::Source;
use crate::commands::bench::{Bench, LoadFlags, milliseconds};
use crate::commands::manifest;
use crate::commands::simulate::{self, Measured, POD_START, format, parse_objective, parse_picture, write};
use crate::config::duration;

/// What Knative's queue-proxy was seen to add to a request (`tests/knative`).
const PROXY_TIME: Duration = Duration::from_micros(500);

/// Find the concurrency that a model is best served at, and the settings of an autoscaler that follow.
#[derive(Debug, Args)]
pub(crate) struct TuneArguments {
    #[command(flatten)]
    load: LoadFlags,
    /// The latency that must hold, e.g. p95=100ms; without one the knee is where throughput stops growing
    #[arg(long, value_name = "PERCENTILE=TIME", value_parser = parse_objective)]
    objective: Option<Objective>,
    /// The most requests in flight that are tried
    #[arg(long, value_name = "CALLERS", default_value_t = 256)]
    max_concurrency: usize,
    /// How long each concurrency is measured
    #[arg(long, value_parser = duration, default_value = "5s")]
    step: Duration,
    /// Of the target, what the autoscaler aims for
    #[arg(long, value_name = "PERCENT", default_value_t = 70.0, value_parser = parse_percent)]
    utilization: f64,
    /// Requests a second of the whole service: says how many replicas that takes
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<f64>,
    /// The largest batch times the instances of the model, where the server does not say
    #[arg(long, value_name = "REQUESTS")]
    batch_slots: Option<usize>,
    /// What the proxies in front of a pod add to each request, which Knative's autoscaler counts, too [default: 500us, or
    /// none where an ingress answered, since it was measured then]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    proxy_time: Option<Duration>,
    /// Write a picture, .svg or .png; may be repeated
    #[arg(long, value_name = "FILE", value_parser = parse_picture)]
    picture: Vec<PathBuf>,
    /// Write a Knative Service with the settings that were found, which serves the model that was measured; of a
    /// running server, --model NAME=URI says where pods find it
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    pod: manifest::PodFlags,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    replay: replay::ReplayFlags,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (1.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("expected 1 to 100".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// A sweep and what follows from it. Its JSON can be read again by `--measured`.
struct Tuned {
    /// Where the model is, where that is known.
    source: Option<Source>,
    title: String,
    measured: Measured,
    /// The replays of what is recommended, or of the best that was tried where no target holds.
    replays: Vec<(String, Outcome)>,
}

/// Measures, or takes what was measured before; recommends; replays.
pub(crate) fn tune(arguments: &TuneArguments) -> anyhow::Result<()> {
    serving::check(arguments)?;
    let tuned = match arguments.replay.needs_no_server() {
        true => arguments.replay.measured()?.map(|measured| read(measured, arguments)).transpose()?,
        false => Some(measure(arguments)?),
    };
    let mut result = json!({});
    if let Some(tuned) = &tuned {
        result = tuned.json(arguments.objective.as_ref());
        if !arguments.json {
            print!("{}", tuned.table());
        }
        if !arguments.replay.is_asked_for() {
            for path in &arguments.picture {
                let (objective, told) = (arguments.objective.as_ref(), tuned.told());
                let Tuned { title, measured, replays, .. } = tuned;
                let content = picture::sweep(title, &measured.steps, objective, told, replays, format(path))?;
                write(path, &content)?;
            }
        }
        if let Some(path) = &arguments.manifest {
            let told = tuned.measured.recommendation.as_ref().with_context(|| tuned.reason())?;
            let served = serving::served(tuned.source.as_ref(), tuned.model())?;
            write(path, manifest::tuned(&served, &arguments.pod, told)?.as_bytes())?;
        }
    }
    if arguments.replay.is_asked_for() {
        let outcomes = arguments.replay.run(tuned.as_ref().map(|tuned| &tuned.measured))?;
        result["replays"] = serde_json::to_value(&outcomes).context("write the replays")?;
        if !arguments.json {
            print!("{}", simulate::table(&outcomes));
        }
        for path in &arguments.picture {
            write(path, &picture::simulation(&simulate::title(&outcomes), &outcomes, format(path))?)?;
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
    }
    match &tuned {
        Some(tuned) if tuned.measured.recommendation.is_none() => bail!("{}", tuned.reason()),
        _ => Ok(()),
    }
}

fn measure(arguments: &TuneArguments) -> anyhow::Result<Tuned> {
    let bench = Bench::prepare(&arguments.load)?;
    let source = serving::source(&arguments.load, &bench.subject.model);
    if arguments.manifest.is_some() {
        serving::served(source.as_ref(), &bench.subject.model)?;
    }
    let objective = arguments.objective.as_ref();
    if !arguments.json {
        println!("{}\n", bench.title());
        println!("{HEADER}");
    }
    let mut steps: Vec<Step> = Vec::new();
    while let Some(concurrency) = sweep::next(&steps, objective, arguments.max_concurrency) {
        let mut step = measure_step(&bench, arguments, concurrency)?;
        // One slow spell is not the server's.
        if !sweep::is_good(&step, objective) {
            let again = measure_step(&bench, arguments, concurrency)?;
            if sweep::is_good(&again, objective) {
                step = again;
            }
        }
        steps.push(step);
    }
    let start = bench.subject.start;
    let server = Server {
        batch_slots: arguments.batch_slots.or_else(|| bench.subject.batch_slots()),
        cold_start: POD_START + start.unwrap_or_default(),
        proxy_time: arguments.proxy_time.unwrap_or(if bench.subject.is_proxied { Duration::ZERO } else { PROXY_TIME }),
        is_proxied: bench.subject.is_proxied || arguments.proxy_time == Some(Duration::ZERO),
    };
    let question = Question {
        steps: &steps,
        objective,
        utilization_percentage: arguments.utilization,
        rate: arguments.rate,
        server,
    };
    let Advice { recommendation, rejected, outcomes } = advise(question)?;
    let measured = Measured {
        about: bench.describe(),
        source: serde_json::to_value(&source).context("write where the model is")?,
        steps,
        recommendation,
        rejected,
        start_seconds: start.map(|start| start.as_secs_f64()),
    };
    let title = format!("{} ({})", bench.subject.model, bench.protocol());
    Ok(Tuned { source, title, measured, replays: outcomes })
}

fn measure_step(bench: &Bench, arguments: &TuneArguments, concurrency: usize) -> anyhow::Result<Step> {
    let measured = bench.run(Mode::Closed { concurrency }, arguments.step, 1, !arguments.json)?;
    if measured.report.seconds < arguments.step.as_secs_f64() * 0.9 {
        bail!("stopped");
    }
    let step = Step { concurrency, report: measured.report };
    if !arguments.json {
        println!("{}", row(&step, sweep::is_good(&step, arguments.objective.as_ref())));
    }
    Ok(step)
}

fn replayed(replay: &Replay) -> String {
    let Replay { load, pods_min, pods_max, p95_ms, oscillates, objective_met } = replay;
    let replicas = format!("{pods_min} to {pods_max}");
    let faults = [(*oscillates, "  replicas swing"), (!*objective_met, "  misses the objective")];
    let faults: String = faults.iter().filter(|(is, _)| *is).map(|(_, words)| *words).collect();
    format!("  {load:<9}  {replicas:>8}  {:>9}{faults}\n", milliseconds(*p95_ms))
}

const HEADER: &str = "  in flight   answers/s       p50       p95       p99   failed";

fn row(step: &Step, is_good: bool) -> String {
    let Report { rps, latency, .. } = &step.report;
    format!(
        "  {:>9}  {rps:>10.1}  {:>8}  {:>8}  {:>8}  {:>7}{}",
        step.concurrency,
        milliseconds(latency.p50_ms),
        milliseconds(latency.p95_ms),
        milliseconds(latency.p99_ms),
        step.report.failures(),
        if is_good { "" } else { "  misses the objective" }
    )
}

/// What an earlier run printed by `--json`. Where its model is may be said anew.
fn read(measured: Measured, arguments: &TuneArguments) -> anyhow::Result<Tuned> {
    let model = measured.about["model"].as_str();
    let source = match serving::source(&arguments.load, model.unwrap_or("corymb")).filter(|source| source.uri.is_some())
    {
        Some(said) => Some(said),
        None => serde_json::from_value(measured.source.clone()).context("read where the model is")?,
    };
    let title = model.unwrap_or("measured before").to_owned();
    Ok(Tuned { source, title, measured, replays: Vec::new() })
}

impl Tuned {
    fn json(&self, objective: Option<&Objective>) -> Value {
        json!({
            "about": self.measured.about,
            "source": self.source,
            "objective": objective,
            "steps": self.measured.steps,
            "recommendation": self.measured.recommendation,
            "rejected": self.measured.rejected,
            "start_seconds": self.measured.start_seconds,
        })
    }

    fn model(&self) -> &str {
        self.measured.about["model"].as_str().unwrap_or("corymb")
    }

    /// What is recommended, else the best of what is not.
    fn told(&self) -> Option<&Recommendation> {
        self.measured.recommendation.as_ref().or(self.measured.rejected.as_ref().map(|rejected| &rejected.tried))
    }

    /// Why nothing is recommended.
    fn reason(&self) -> String {
        match &self.measured.rejected {
            Some(Rejected { tried, reason }) => {
                format!("no target holds: at the best that was tried, {}, {reason}", tried.target)
            }
            None => "no concurrency was good, not even the least".to_owned(),
        }
    }

    fn table(&self) -> String {
        let Some(told) = self.told() else { return String::new() };
        let mut text = format!(
            "\nThe knee is at {} in flight: {:.1} answers a second of one replica.\n\n",
            told.knee, told.knee_rps
        );
        let mut row = |name: &str, value: String| text.push_str(&format!("  {name:<54}{value}\n"));
        row("containerConcurrency", told.container_concurrency.to_string());
        row("autoscaling.knative.dev/target", format!("\"{}\"", told.target));
        row(
            "autoscaling.knative.dev/target-utilization-percentage",
            format!("\"{}\"", told.target_utilization_percentage),
        );
        row(
            "a replica is kept at",
            format!("{:.1} in flight, {:.1} answers a second", told.effective_concurrency, told.rps_per_replica),
        );
        row(
            "alone, a request takes",
            format!("{}; the server works on {} at a time", milliseconds(told.service_time_ms), told.parallelism),
        );
        if let (Some(rate), Some(replicas)) = (told.rate, told.replicas) {
            row(&format!("replicas for {rate} requests a second"), replicas.to_string());
        }
        if !told.replays.is_empty() {
            text.push_str("\nWhat Knative's autoscaler makes of it, replayed:\n\n");
            text.push_str("  load       replicas        p95\n");
            told.replays.iter().for_each(|replay| text.push_str(&replayed(replay)));
        }
        for warning in &told.warnings {
            text.push_str(&format!("\nnote: {warning}\n"));
        }
        if let Some(words) = self.measured.about["batching"].as_str() {
            text.push_str(&format!("\nnote: the server says of batching: {words}\n"));
        }
        text
    }
}
