//! `start`: from exec to the first answer, and the memory that a server then holds.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::load::{self, Connection, Until};
use crate::process::{Memory, START_LIMIT, Server};
use crate::report::{Table, mib};
use crate::sample::Sample;

/// Between two attempts to connect.
const POLL: Duration = Duration::from_millis(1);

/// The load before memory is looked at again.
const CONCURRENCY: usize = 5;
const REQUESTS: usize = 200;
const LOAD_LIMIT: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(5);

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) fresh_cache: Vec<Run>,
    pub(crate) warm_cache: Vec<Run>,
    pub(crate) memory_fresh_cache: Held,
    pub(crate) memory_warm_cache: Held,
}

/// One start.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Run {
    /// From just before exec to the last byte of the first answer.
    pub(crate) first_answer_ms: f64,
    /// From just before exec to the connection being accepted by the kernel.
    pub(crate) connected_ms: f64,
    /// What the start line says, counted from `main`.
    pub(crate) milliseconds_to_ready: u64,
    /// The server's CPU time until the first answer.
    pub(crate) cpu_ms: f64,
}

/// Memory of one server at three moments.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) after_first_answer: Memory,
    pub(crate) after_load: Memory,
    pub(crate) after_idling: Memory,
}

/// Starts the server again and again; the embedded model unless `serve` names another under the same name.
pub(crate) fn run(binary: &Path, runs: usize, serve: &[String], sample: &Sample) -> anyhow::Result<Start> {
    let once = |cache: &Path| start(binary, cache, serve, sample).map(|started| started.run);
    let folder = || tempfile::tempdir().context("a folder for the server's cache");
    eprintln!("{runs} starts with fresh caches, {runs} with a warm one");
    let fresh_cache = (0..runs).map(|_| once(folder()?.path())).collect::<anyhow::Result<_>>()?;
    let warm = folder()?;
    once(warm.path())?;
    let warm_cache = (0..runs).map(|_| once(warm.path())).collect::<anyhow::Result<_>>()?;
    eprintln!("memory of two servers");
    let held = |cache: &Path| {
        let started = start(binary, cache, serve, sample)?;
        let after_first_answer = started.server.memory()?;
        let until = Until { time: LOAD_LIMIT, requests: REQUESTS };
        let load = load::run(started.address, &sample.message, CONCURRENCY, until)?;
        anyhow::ensure!(load.failed == 0, "{} of {REQUESTS} requests failed: {:?}", load.failed, load.failure);
        let after_load = started.server.memory()?;
        std::thread::sleep(IDLE);
        anyhow::Ok(Held { after_first_answer, after_load, after_idling: started.server.memory()? })
    };
    Ok(Start {
        fresh_cache,
        warm_cache,
        memory_fresh_cache: held(folder()?.path())?,
        memory_warm_cache: held(warm.path())?,
    })
}

struct Started {
    server: Server,
    address: SocketAddr,
    run: Run,
}

/// Knows the port beforehand, as a probe does: the start line would be read later than the port listens.
fn start(binary: &Path, cache: &Path, serve: &[String], sample: &Sample) -> anyhow::Result<Started> {
    let address = free_address()?;
    let begin = Instant::now();
    let mut server = Server::start(binary, address.port(), cache, serve)?;
    let stream = loop {
        match TcpStream::connect(address) {
            // The port is one that the kernel gives to clients: it may have connected us to ourselves.
            Ok(stream) if stream.local_addr()? != address => break stream,
            Ok(_) | Err(_) => std::thread::sleep(POLL),
        }
        if !server.runs()? || begin.elapsed() > START_LIMIT {
            server.ready()?;
            anyhow::bail!("the server is up but not reachable at {address}");
        }
    };
    let connected = begin.elapsed();
    let mut connection = Connection::over(stream)?;
    let answer = connection.send(&sample.message)?;
    let first_answer = begin.elapsed();
    let cpu = server.cpu()?;
    let text = String::from_utf8_lossy(answer.body);
    anyhow::ensure!(answer.status == 200, "the first answer is {}: {text}", answer.status);
    let run = Run {
        first_answer_ms: first_answer.as_secs_f64() * 1e3,
        connected_ms: connected.as_secs_f64() * 1e3,
        milliseconds_to_ready: server.ready()?.milliseconds_to_ready,
        cpu_ms: cpu.as_secs_f64() * 1e3,
    };
    Ok(Started { server, address, run })
}

/// A port that was free a moment ago. Should another take it, the server says so and the run fails.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

impl Start {
    pub(crate) fn print(&self) {
        let runs = self.fresh_cache.len();
        println!(
            "\nStart, {runs} runs each, milliseconds (CPU in steps of 10). The server's file is in the page cache."
        );
        let mut table = Table::new(&["cache", "from exec to", "min", "median", "max"]);
        for (cache, runs) in [("fresh", &self.fresh_cache), ("warm", &self.warm_cache)] {
            let mut row = |what: &str, value: fn(&Run) -> f64| {
                let mut values: Vec<f64> = runs.iter().map(value).collect();
                values.sort_unstable_by(f64::total_cmp);
                let middle = values.len() / 2;
                let median =
                    if values.len() % 2 == 1 { values[middle] } else { values[middle - 1].midpoint(values[middle]) };
                let numbers = [values[0], median, values[values.len() - 1]].map(|value| format!("{value:.1}"));
                table.row([cache.to_owned(), what.to_owned()].into_iter().chain(numbers));
            };
            row("first answer", |run| run.first_answer_ms);
            row("connected", |run| run.connected_ms);
            row("ready, by the start line (from main)", |run| run.milliseconds_to_ready as f64);
            row("CPU until the first answer", |run| run.cpu_ms);
        }
        table.print();

        println!("\nMemory of one server, MiB. File pages are the program's own, and reclaimable.");
        let mut table = Table::new(&["cache", "after", "resident", "anonymous", "file", "peak"]);
        let idle = format!("{} s of idling", IDLE.as_secs());
        let load = format!("{REQUESTS} requests at concurrency {CONCURRENCY}");
        for (cache, held) in [("fresh", &self.memory_fresh_cache), ("warm", &self.memory_warm_cache)] {
            let moments = [
                ("the first answer", &held.after_first_answer),
                (&load, &held.after_load),
                (&idle, &held.after_idling),
            ];
            for (moment, memory) in moments {
                let Memory { resident_kib, anonymous_kib, file_kib, peak_kib } = *memory;
                let numbers = [resident_kib, anonymous_kib, file_kib, peak_kib].map(mib);
                table.row([cache.to_owned(), moment.to_owned()].into_iter().chain(numbers));
            }
        }
        table.print();
    }
}
