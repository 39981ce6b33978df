//! `cycles`: memory over many loads and unloads of a small model. `idle`: a model's latency beside a thousand others that
//! nobody asks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::Measured;
use crate::load::{self, Connection, Until};
use crate::process::{Memory, Server};
use crate::report::{Table, mib};
use crate::request::Request;

/// Cycles before memory is first looked at: pools and caches fill.
const FIRST: usize = 100;
/// The allocator gives pages back after a second.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct CyclesArguments {
    /// Loads and unloads in all
    #[arg(long, default_value_t = 10_000)]
    cycles: usize,
    #[command(flatten)]
    pub(crate) server: Measured,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdleArguments {
    /// Models beside the one that is asked
    #[arg(long, default_value_t = 1000)]
    models: usize,
    /// Seconds of load on each server, in each of the rounds
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Rounds, the two servers in turn
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Requests in flight
    #[arg(long, default_value_t = 2)]
    pub(crate) concurrency: usize,
    #[command(flatten)]
    pub(crate) server: Measured,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Cycles {
    cycles: usize,
    milliseconds_per_cycle: f64,
    /// Memory after so many cycles.
    memory: Vec<(usize, Memory)>,
    /// Of resident memory, from the first look to the last.
    growth_percent: f64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    models: usize,
    alone: Side,
    beside: Side,
    /// The worst hundredth beside the others over that alone.
    p99_ratio: f64,
    /// Anonymous memory that each of the others holds.
    kib_per_model: f64,
}

#[derive(Debug, Serialize)]
struct Side {
    milliseconds_to_ready: u64,
    requests: usize,
    p50_us: f64,
    p99_us: f64,
    memory: Memory,
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/models/identity_fp32.onnx")
}

fn put(folder: &Path, name: &str) -> anyhow::Result<()> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(model(), folder.join("model.onnx")).context("copy the model")?;
    Ok(())
}

fn serve(folder: &Path, server: &Measured, more: &[&str]) -> Vec<String> {
    let own = ["--model-dir".to_owned(), folder.display().to_string()];
    own.into_iter().chain(more.iter().map(|word| (*word).to_owned())).chain(server.serve.iter().cloned()).collect()
}

/// Loads and unloads one model again and again, beside another that stays.
pub(crate) fn cycles(binary: &Path, arguments: &CyclesArguments) -> anyhow::Result<Cycles> {
    anyhow::ensure!(arguments.cycles > FIRST, "--cycles is {}; more than {FIRST}", arguments.cycles);
    let folder = tempfile::tempdir()?;
    put(folder.path(), "m")?;
    put(folder.path(), "other")?;
    let cache = tempfile::tempdir()?;
    let server = Server::start(binary, 0, cache.path(), &serve(folder.path(), &arguments.server, &["--admin"]))?;
    let mut connection = Connection::open(server.ready()?.address)?;
    let message = |verb: &str| {
        let path = format!("/v2/repository/models/m/{verb}");
        Request { path, headers: Vec::new(), body: Vec::new() }.message()
    };
    let infer = Request::json("m", "x", &[1, 2], &[1.5, -2.0]).message();
    let messages = [message("unload"), message("load"), infer];
    let begin = Instant::now();
    let mut memory = Vec::new();
    let mut waited = Duration::ZERO;
    for cycle in 1..=arguments.cycles {
        for message in &messages {
            let answer = connection.send(message)?;
            let text = String::from_utf8_lossy(answer.body);
            anyhow::ensure!(answer.status == 200, "cycle {cycle}: {}: {text}", answer.status);
        }
        if cycle == FIRST || cycle == arguments.cycles || cycle % (arguments.cycles / 10).max(1) == 0 {
            std::thread::sleep(SETTLE);
            waited += SETTLE;
            memory.push((cycle, server.memory()?));
            eprintln!("{cycle} cycles: {} MiB", mib(memory[memory.len() - 1].1.resident_kib));
        }
    }
    let time = begin.elapsed() - waited;
    let resident = |at: usize| memory[at].1.resident_kib as f64;
    Ok(Cycles {
        cycles: arguments.cycles,
        milliseconds_per_cycle: time.as_secs_f64() * 1000.0 / arguments.cycles as f64,
        growth_percent: (resident(memory.len() - 1) / resident(0) - 1.0) * 100.0,
        memory,
    })
}

impl Cycles {
    pub(crate) fn print(&self) {
        println!("\nMemory of a server whose model is unloaded, loaded and asked once in each cycle, MiB.");
        let mut table = Table::new(&["cycles", "resident", "anonymous"]);
        for (cycles, memory) in &self.memory {
            table.row([cycles.to_string(), mib(memory.resident_kib), mib(memory.anonymous_kib)]);
        }
        table.print();
        println!("\nGrowth {:+.1} %; {:.2} ms a cycle.", self.growth_percent, self.milliseconds_per_cycle);
    }
}

/// Asks one model, alone in its server and beside many others, in turn.
pub(crate) fn idle(binary: &Path, arguments: &IdleArguments) -> anyhow::Result<Idle> {
    anyhow::ensure!(arguments.rounds > 0, "--rounds is 0; at least 1");
    let message = Request::json("m", "x", &[1, 2], &[1.5, -2.0]).message();
    let mut sides = Vec::new();
    for others in [0, arguments.models] {
        let folder = tempfile::tempdir()?;
        put(folder.path(), "m")?;
        for other in 0..others {
            put(folder.path(), &format!("idle-{other}"))?;
        }
        let cache = tempfile::tempdir()?;
        let server = Server::start(binary, 0, cache.path(), &serve(folder.path(), &arguments.server, &[]))?;
        let start = server.ready()?;
        eprintln!("{} models are ready after {} ms", others + 1, start.milliseconds_to_ready);
        sides.push((server, start, Vec::new(), (folder, cache)));
    }
    let until = Until::time(Duration::from_secs_f64(arguments.seconds));
    for round in 0..=arguments.rounds {
        for (_, start, latencies, _) in &mut sides {
            let load = load::run(start.address, &message, arguments.concurrency, until)?;
            anyhow::ensure!(load.failed == 0, "{} requests failed: {:?}", load.failed, load.failure);
            // The first warms up.
            if round > 0 {
                latencies.extend(load.latencies);
            }
        }
    }
    let side = |(server, start, mut latencies, _): (Server, crate::process::StartLine, Vec<Duration>, _)| {
        latencies.sort_unstable();
        let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
        anyhow::Ok(Side {
            milliseconds_to_ready: start.milliseconds_to_ready,
            requests: latencies.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            memory: server.memory()?,
        })
    };
    let mut found = sides.into_iter().map(side).collect::<anyhow::Result<Vec<_>>>()?.into_iter();
    let (Some(alone), Some(beside)) = (found.next(), found.next()) else { anyhow::bail!("two servers were started") };
    let more = beside.memory.anonymous_kib as f64 - alone.memory.anonymous_kib as f64;
    Ok(Idle {
        models: arguments.models,
        p99_ratio: beside.p99_us / alone.p99_us,
        kib_per_model: more / arguments.models.max(1) as f64,
        alone,
        beside,
    })
}

impl Idle {
    pub(crate) fn print(&self) {
        println!("\nOne model that is asked, and {} that are not.", self.models);
        let mut table = Table::new(&["server", "ready, ms", "requests", "p50, µs", "p99, µs", "anonymous, MiB"]);
        for (name, side) in [("alone", &self.alone), ("beside them", &self.beside)] {
            let times = [side.p50_us, side.p99_us].map(|time| format!("{time:.0}"));
            let counts = [name.to_owned(), side.milliseconds_to_ready.to_string(), side.requests.to_string()];
            table.row(counts.into_iter().chain(times).chain([mib(side.memory.anonymous_kib)]));
        }
        table.print();
        println!("\np99 x {:.2}; {:.0} KiB a model.", self.p99_ratio, self.kib_per_model);
    }
}
