//! `overload`: what becomes of ten times the load that a model can bear, and of those who hang up.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::batching::{Subject, batches, folder, request, start};
use crate::load::{Connection, Percentiles, Until, run as load};
use crate::onnx;
use crate::open;
use crate::process::Server;
use crate::report::Table;

/// The overload, in capacities.
const FACTOR: f64 = 10.0;

/// Connections of the load that measures the capacity.
const CAPACITY: usize = 16;

/// Seconds after the overload that are looked at one by one.
const SECONDS_AFTER: usize = 3;

/// How long the server may take to find out that callers have hung up.
const HANG_UP: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A latency target for the model, as in its manifest: requests that could not meet it are refused
    #[arg(long)]
    target: Option<humantime::Duration>,
    /// Requests that may wait for the model
    #[arg(long, default_value_t = 64)]
    max_queue: usize,
    /// The most connections that the overload may use
    #[arg(long, default_value_t = 256)]
    connections: usize,
    #[command(flatten)]
    pub(crate) subject: Subject,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Overload {
    backend: String,
    target_ms: Option<f64>,
    max_queue: usize,
    /// Answers of a closed loop, per second.
    capacity: f64,
    /// Requests per second, as planned and as sent.
    offered: f64,
    sent: f64,
    accepted_rate: f64,
    refused_share: f64,
    /// The time in which what may wait is served.
    queue_ms: f64,
    accepted: Option<Percentiles>,
    refused: Option<Percentiles>,
    failed: usize,
    failure: Option<String>,
    late_ms: f64,
    /// Of the server, in MiB: before the overload, at its end, and the most.
    resident_mib: [u64; 3],
    /// Answers per second in each of the seconds after.
    after: Vec<f64>,
    /// Requests whose callers hung up while they waited, and how many of these were run.
    hung_up: usize,
    run_for_nobody: f64,
    /// How long one request took right after.
    then_ms: f64,
}

/// Measures the capacity, then offers ten times as much; then sends requests that nobody waits for.
pub(crate) fn run(binary: &Path, arguments: &Arguments) -> anyhow::Result<Overload> {
    let Arguments { target, max_queue, connections, subject } = arguments;
    let scratch = tempfile::tempdir().context("a folder for the model")?;
    let target_line = target.map(|target| format!("latency_target = \"{target}\"\n")).unwrap_or_default();
    let manifest = format!("[queue]\nmax = {max_queue}\n[batching]\n{target_line}");
    let folder = folder(scratch.path(), "m", &manifest, |folder| onnx::write_dense(folder, subject.width, 2))?;
    let (server, address) = start(binary, subject, &folder, scratch.path())?;
    let message = request(subject.width);
    let time = Duration::from_secs_f64(subject.seconds);
    eprintln!("capacity: {:.0} s, overload: {:.0} s, after it: 4 s", 0.7 * subject.seconds, subject.seconds);
    load(address, &message, CAPACITY, Until::time(time / 5))?;
    // What a target refuses is no capacity, so refusals do not count, but do not fail the measurement either.
    let capacity = load(address, &message, CAPACITY, Until::time(time / 2))?.rate();
    anyhow::ensure!(capacity > 0.0, "no request was answered");
    let before = server.memory()?.resident_kib;
    let offered = capacity * FACTOR;
    let answers = open::run(address, &message, offered, *connections, time)?;
    let memory = server.memory()?;
    let second = || Ok(load(address, &message, CAPACITY, Until::time(Duration::from_secs(1)))?.rate());
    let after = (0..SECONDS_AFTER).map(|_| second()).collect::<anyhow::Result<_>>()?;
    let (run_for_nobody, then_ms) = hang_up(&server, address, &message, *max_queue)?;
    let seconds = answers.time.as_secs_f64();
    let accepted_rate = answers.accepted.len() as f64 / seconds;
    Ok(Overload {
        backend: subject.backend.clone(),
        target_ms: target.map(|target| target.as_secs_f64() * 1e3),
        max_queue: *max_queue,
        capacity,
        offered,
        sent: answers.count() as f64 / seconds,
        accepted_rate,
        refused_share: answers.refused.len() as f64 / answers.count() as f64,
        queue_ms: *max_queue as f64 / accepted_rate * 1e3,
        failed: answers.failed,
        late_ms: answers.late.as_secs_f64() * 1e3,
        failure: answers.failure,
        accepted: Percentiles::of(answers.accepted),
        refused: Percentiles::of(answers.refused),
        resident_mib: [before, memory.resident_kib, memory.peak_kib].map(|kib| kib >> 10),
        after,
        hung_up: *max_queue,
        run_for_nobody,
        then_ms,
    })
}

/// Sends `count` requests at once and hangs up on all; returns how many were run, and how long the next one took, in ms.
fn hang_up(server: &Server, address: SocketAddr, message: &[u8], count: usize) -> anyhow::Result<(f64, f64)> {
    let (run, _) = batches(address)?;
    let cpu = server.cpu()?;
    let callers = (0..count).map(|_| {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(message)?;
        anyhow::Ok(stream)
    });
    drop(callers.collect::<anyhow::Result<Vec<_>>>()?);
    let begin = Instant::now();
    let mut connection = Connection::open(address)?;
    while connection.send(message)?.status != 200 {
        anyhow::ensure!(begin.elapsed() < HANG_UP, "refused for {HANG_UP:?} after all others hung up");
        std::thread::sleep(Duration::from_millis(1));
    }
    let then = begin.elapsed();
    let (after, _) = batches(address)?;
    eprintln!("hung up: {:.0} ms of CPU", (server.cpu()? - cpu).as_secs_f64() * 1e3);
    Ok((after - run - 1.0, then.as_secs_f64() * 1e3))
}

impl Overload {
    pub(crate) fn print(&self) {
        let Self { backend, max_queue, capacity, offered, sent, accepted_rate, refused_share, failed, .. } = self;
        let target = self.target_ms.map(|target| format!("; target {target:.0} ms")).unwrap_or_default();
        println!(
            "{backend}: capacity {capacity:.1}/s, offered {offered:.1}/s, sent {sent:.1}/s (at most {:.1} ms late), \
             accepted {accepted_rate:.1}/s, refused {:.1} %, failed {failed}{target}",
            self.late_ms,
            refused_share * 100.0
        );
        if let Some(failure) = &self.failure {
            println!("  failed, for one: {failure}");
        }
        let mut table = Table::new(&["answers", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
        for (word, times) in [("accepted", &self.accepted), ("refused", &self.refused)] {
            if let Some(Percentiles { p50_ms, p90_ms, p99_ms, max_ms }) = times {
                let times = [p50_ms, p90_ms, p99_ms, max_ms].map(|ms| format!("{ms:.2}"));
                table.row(std::iter::once(word.to_owned()).chain(times));
            }
        }
        table.print();
        let longest = self.accepted.as_ref().map_or(0.0, |times| times.max_ms);
        println!(
            "the {max_queue} that may wait are served in {:.1} ms; the longest wait is {:.2} times that",
            self.queue_ms,
            longest / self.queue_ms
        );
        let [before, at_end, peak] = self.resident_mib;
        println!("resident: {before} MiB before, {at_end} MiB at the end, {peak} MiB at most");
        let after: Vec<String> = self.after.iter().map(|rate| format!("{:.0} %", rate / capacity * 100.0)).collect();
        println!("of the capacity in each second after: {}", after.join(", "));
        println!(
            "of {} whose callers hung up {:.0} were run; the next request took {:.1} ms",
            self.hung_up, self.run_for_nobody, self.then_ms
        );
    }
}
