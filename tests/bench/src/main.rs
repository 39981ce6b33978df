//! Benchmarks of the server binary: what it serves beside the bare engine, and how it starts. Programs, never timed tests.

mod analysis;
mod backends;
mod bare;
mod batching;
mod engines;
mod flowers;
mod h2load;
mod isolation;
mod live;
mod load;
mod onnx;
mod open;
mod overload;
mod process;
mod report;
mod request;
mod rival;
mod sample;
mod start;
mod tiny;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::report::Machine;
use crate::sample::Sample;

// The server's allocator: the bare loop must not win or lose by another one.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures the corymb binary on this machine. Server and load share its cores, so read CPU beside every rate.
#[derive(Debug, Parser)]
#[command(name = "corymb-tests-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rate, latency and CPU of V1 requests with a JPEG, beside a bare loop of decoding, resizing and tract
    Flowers(FlowersArguments),
    /// Time from exec to the first answer, with a fresh and with a warm cache; memory held
    Start(StartArguments),
    /// What the server itself costs: a model of 16 floats + 1, beside hand-written axum and tonic handlers; needs h2load
    Tiny(TinyArguments),
    /// Two models of usual size on each engine, beside a bare loop around the same engine
    Engines(engines::Arguments),
    /// What batches bring where they help and cost where they do not, beside the same server without them
    Batching(batching::BatchingArguments),
    /// Ten times the load that a model can bear: what is accepted, what is refused, and what comes after
    Overload(overload::Arguments),
    /// Memory over many loads and unloads of a small model
    Cycles(live::CyclesArguments),
    /// One model's latency beside many that nobody asks
    Idle(live::IdleArguments),
    /// One model's latency beside neighbours: long runs, a plugin that spins, reloads, requests without rows
    Isolation(isolation::Arguments),
    /// What the proof that rows are independent costs, beside loading the model
    Analysis(analysis::Arguments),
    /// The hand-written handlers alone; prints the addresses of REST and gRPC
    #[command(hide = true)]
    Rival,
}

/// The server that is measured, and how what is found is shown.
#[derive(Debug, Args)]
struct Measured {
    /// The server; by default `corymb` beside this program
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// More arguments for `corymb serve`, behind `--`
    #[arg(last = true, value_name = "SERVE")]
    serve: Vec<String>,
}

/// Requests with pictures.
#[derive(Debug, Args)]
struct Subject {
    /// The picture to send; by default the flowers model's warm-up sample
    #[arg(long, value_name = "FILE", conflicts_with = "request")]
    picture: Option<PathBuf>,
    /// A V1 request to send as it is, with pictures as `image_bytes`
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    #[command(flatten)]
    server: Measured,
}

#[derive(Debug, Args)]
struct FlowersArguments {
    /// Seconds of load at each concurrency; the bare loop takes twice that beside it
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests in flight, one row for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 50])]
    concurrency: Vec<usize>,
    /// The folder of the model that both the server and the bare loop load; by default deploy/models/flowers
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    subject: Subject,
}

#[derive(Debug, Args)]
struct StartArguments {
    /// Starts with a fresh cache, and as many with a warm one
    #[arg(long, default_value_t = 10)]
    runs: usize,
    #[command(flatten)]
    subject: Subject,
}

#[derive(Debug, Args)]
struct TinyArguments {
    /// Seconds of load on each side, for each protocol and concurrency
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Connections, with one request in flight on each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    concurrency: Vec<usize>,
    #[command(flatten)]
    server: Measured,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Flowers(arguments) => flowers(&arguments),
        Command::Start(arguments) => start(&arguments),
        Command::Tiny(arguments) => tiny(&arguments),
        Command::Engines(arguments) => engines(&arguments),
        Command::Batching(arguments) => batching(&arguments),
        Command::Overload(arguments) => overload(&arguments),
        Command::Cycles(arguments) => cycles(&arguments),
        Command::Idle(arguments) => idle(&arguments),
        Command::Isolation(arguments) => isolation(&arguments),
        Command::Analysis(arguments) => analysis(&arguments),
        Command::Rival => rival::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check_load(seconds: f64, concurrency: &[usize]) -> anyhow::Result<()> {
    anyhow::ensure!((0.1..=600.0).contains(&seconds), "--seconds is {seconds}; 0.1 to 600");
    for concurrency in concurrency {
        anyhow::ensure!((1..=1000).contains(concurrency), "--concurrency has {concurrency}; 1 to 1000");
    }
    Ok(())
}

fn flowers(arguments: &FlowersArguments) -> anyhow::Result<()> {
    check_load(arguments.seconds, &arguments.concurrency)?;
    let model = arguments.model.clone().unwrap_or_else(sample::flowers_folder);
    let plan = flowers::Options {
        binary: &arguments.subject.server.binary()?,
        model: &model,
        concurrency: &arguments.concurrency,
        seconds: arguments.seconds,
        serve: &arguments.subject.server.serve,
    };
    let sample = arguments.subject.sample()?;
    let mut machine = Machine::before()?;
    let report = flowers::run(&plan, &sample)?;
    machine.after()?;
    print(arguments.subject.server.json, &machine, &report, |report| report.print(&sample))
}

fn start(arguments: &StartArguments) -> anyhow::Result<()> {
    anyhow::ensure!((1..=1000).contains(&arguments.runs), "--runs is {}; 1 to 1000", arguments.runs);
    let sample = arguments.subject.sample()?;
    let mut machine = Machine::before()?;
    let report =
        start::run(&arguments.subject.server.binary()?, arguments.runs, &arguments.subject.server.serve, &sample)?;
    machine.after()?;
    print(arguments.subject.server.json, &machine, &report, start::Start::print)
}

fn tiny(arguments: &TinyArguments) -> anyhow::Result<()> {
    check_load(arguments.seconds, &arguments.concurrency)?;
    let plan = tiny::Options {
        binary: &arguments.server.binary()?,
        concurrency: &arguments.concurrency,
        seconds: arguments.seconds,
        serve: &arguments.server.serve,
    };
    let mut machine = Machine::before()?;
    let report = tiny::run(&plan)?;
    machine.after()?;
    print(arguments.server.json, &machine, &report, tiny::Tiny::print)
}

fn engines(arguments: &engines::Arguments) -> anyhow::Result<()> {
    check_load(arguments.seconds, &arguments.concurrency)?;
    let mut machine = Machine::before()?;
    let report = engines::run(&arguments.server.binary()?, arguments)?;
    machine.after()?;
    print(arguments.server.json, &machine, &report, engines::Engines::print)
}

fn batching(arguments: &batching::BatchingArguments) -> anyhow::Result<()> {
    let subject = &arguments.subject;
    check_load(subject.seconds, &[])?;
    let mut machine = Machine::before()?;
    let report = batching::batching(&subject.server.binary()?, arguments)?;
    machine.after()?;
    print(subject.server.json, &machine, &report, batching::Batching::print)
}

fn overload(arguments: &overload::Arguments) -> anyhow::Result<()> {
    let subject = &arguments.subject;
    check_load(subject.seconds, &[])?;
    let mut machine = Machine::before()?;
    let report = overload::run(&subject.server.binary()?, arguments)?;
    machine.after()?;
    print(subject.server.json, &machine, &report, overload::Overload::print)
}

fn cycles(arguments: &live::CyclesArguments) -> anyhow::Result<()> {
    let mut machine = Machine::before()?;
    let report = live::cycles(&arguments.server.binary()?, arguments)?;
    machine.after()?;
    print(arguments.server.json, &machine, &report, live::Cycles::print)
}

fn idle(arguments: &live::IdleArguments) -> anyhow::Result<()> {
    check_load(arguments.seconds, &[arguments.concurrency])?;
    let mut machine = Machine::before()?;
    let report = live::idle(&arguments.server.binary()?, arguments)?;
    machine.after()?;
    print(arguments.server.json, &machine, &report, live::Idle::print)
}

fn isolation(arguments: &isolation::Arguments) -> anyhow::Result<()> {
    check_load(arguments.seconds, &[arguments.concurrency])?;
    let mut machine = Machine::before()?;
    let report = isolation::run(&arguments.server.binary()?, arguments)?;
    machine.after()?;
    print(arguments.server.json, &machine, &report, isolation::Isolation::print)
}

fn analysis(arguments: &analysis::Arguments) -> anyhow::Result<()> {
    let mut machine = Machine::before()?;
    let report = analysis::run(arguments)?;
    machine.after()?;
    print(arguments.json, &machine, &report, analysis::Analysis::print)
}

fn print<R: Serialize>(json: bool, machine: &Machine, report: &R, tables: impl FnOnce(&R)) -> anyhow::Result<()> {
    if json {
        let all = serde_json::json!({ "machine": machine, "report": report });
        println!("{}", serde_json::to_string_pretty(&all).context("print JSON")?);
    } else {
        machine.print();
        tables(report);
    }
    Ok(())
}

impl Measured {
    /// The server that was named, else the one beside this program.
    fn binary(&self) -> anyhow::Result<PathBuf> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe().context("find this program")?.with_file_name("corymb"),
        };
        anyhow::ensure!(binary.is_file(), "{}: no such file; build it, or name it by --binary", binary.display());
        Ok(binary)
    }
}

impl Subject {
    fn sample(&self) -> anyhow::Result<Sample> {
        match (&self.request, &self.picture) {
            (Some(request), _) => Sample::of_request(request),
            (None, Some(picture)) => Sample::of_picture(picture),
            (None, None) => Sample::of_picture(&sample::flowers_folder().join("warmup/image_bytes.jpg")),
        }
    }
}
