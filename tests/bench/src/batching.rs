//! `batching`: what batches bring where they help, and what they cost where they do not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::Measured;
use crate::load::{Connection, Load, Percentiles, Until, run as load};
use crate::onnx;
use crate::process::Server;
use crate::report::Table;
use crate::request::{Request, floats};

/// So many turns of both servers make a row.
const TURNS: u32 = 6;

/// Width and nodes of the model whose rows cost the same alone and in a batch.
const ROWS: (usize, usize) = (16_384, 16);

#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// The engine
    #[arg(long, default_value = "onnxruntime")]
    pub(crate) backend: String,
    /// Inputs and outputs of each of the two dense layers whose weights, 4 bytes each, no cache should hold
    #[arg(long, default_value_t = 4096)]
    pub(crate) width: usize,
    /// Seconds of load on each side
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) server: Measured,
}

#[derive(Debug, Args)]
pub(crate) struct BatchingArguments {
    /// Requests in flight
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    #[command(flatten)]
    pub(crate) subject: Subject,
}

/// All that was found of batches.
#[derive(Debug, Serialize)]
pub(crate) struct Batching {
    backend: String,
    concurrency: usize,
    seconds: f64,
    rows: Vec<BatchingRow>,
}

#[derive(Debug, Serialize)]
struct BatchingRow {
    model: &'static str,
    on: Side,
    off: Side,
    /// On over off.
    ratio_of_rates: f64,
}

#[derive(Debug, Serialize)]
struct Side {
    rate: f64,
    rates: Vec<f64>,
    #[serde(flatten)]
    latency: Percentiles,
    server_cpu_ms: f64,
    /// Requests of a run, on average.
    batch: f64,
}

/// A model folder with a manifest of its own.
pub(crate) fn folder(
    root: &Path,
    name: &str,
    manifest: &str,
    write: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let folder = root.join(name);
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    write(&folder)?;
    std::fs::write(folder.join("model.toml"), manifest)?;
    Ok(folder)
}

pub(crate) fn start(
    binary: &Path,
    subject: &Subject,
    folder: &Path,
    cache: &Path,
) -> anyhow::Result<(Server, SocketAddr)> {
    let model = format!("m={}", folder.display());
    let mut arguments = ["--backend", &subject.backend, "--model", &model].map(str::to_owned).to_vec();
    arguments.extend_from_slice(&subject.server.serve);
    let server = Server::start(binary, 0, cache, &arguments)?;
    let address = server.ready()?.address;
    Ok((server, address))
}

pub(crate) fn request(width: usize) -> Vec<u8> {
    let values: Vec<f32> = (0..width).map(|index| (index as f32 * 0.61).sin()).collect();
    Request::binary("m", "x", "y", &[1, width], &values).message()
}

/// Serves each model with batches and without, in turns.
pub(crate) fn batching(binary: &Path, arguments: &BatchingArguments) -> anyhow::Result<Batching> {
    let BatchingArguments { concurrency, subject } = arguments;
    let scratch = tempfile::tempdir().context("a folder for the models")?;
    let time = Duration::from_secs_f64(subject.seconds);
    type Write = Box<dyn Fn(&Path) -> anyhow::Result<()>>;
    let width = subject.width;
    let dense: Write = Box::new(move |folder| onnx::write_dense(folder, width, 2));
    let rows: Write = Box::new(|folder| onnx::write_tanh(folder, ROWS.0, ROWS.1));
    let mut report = Batching {
        backend: subject.backend.clone(),
        concurrency: *concurrency,
        seconds: subject.seconds,
        rows: Vec::new(),
    };
    for (model, width, write) in [("weights out of cache", width, dense), ("rows cost the same", ROWS.0, rows)] {
        let root = scratch.path().join(model.replace(' ', "-"));
        std::fs::create_dir(&root)?;
        let on = folder(&root, "on", "", &write)?;
        let off = folder(&root, "off", "[batching]\nenabled = false\n", &write)?;
        let (on_server, on_address) = start(binary, subject, &on, scratch.path())?;
        let (off_server, off_address) = start(binary, subject, &off, scratch.path())?;
        let message = request(width);
        let answer = |address| -> anyhow::Result<Vec<f32>> {
            let mut connection = Connection::open(address)?;
            let answer = connection.send(&message)?;
            anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(answer.body));
            let at = answer.body.len().checked_sub(width * 4).context("a short answer")?;
            Ok(floats(&answer.body[at..]))
        };
        let alike = |(one, other): (&f32, &f32)| (one - other).abs() <= 1e-4 * one.abs().max(1.0);
        let (with, without) = (answer(on_address)?, answer(off_address)?);
        anyhow::ensure!(with.iter().zip(&without).all(alike), "{model}: batches change the answer");

        eprintln!("{model}: {:.0} s", 2.2 * subject.seconds);
        let mut sides = [
            Turns::new(&on_server, on_address, &message, *concurrency),
            Turns::new(&off_server, off_address, &message, *concurrency),
        ];
        for side in &sides {
            load(side.address, &message, *concurrency, Until::time(time / 10))?;
        }
        for side in &mut sides {
            side.begin()?;
        }
        for _ in 0..TURNS {
            for side in &mut sides {
                side.take(time / TURNS)?;
            }
        }
        let [on, off] = sides;
        let (on, off) = (on.finish()?, off.finish()?);
        report.rows.push(BatchingRow { model, ratio_of_rates: on.rate / off.rate, on, off });
    }
    Ok(report)
}

struct Turns<'a> {
    server: &'a Server,
    address: SocketAddr,
    message: &'a [u8],
    concurrency: usize,
    rates: Vec<f64>,
    all: Load,
    cpu: Duration,
    batches: (f64, f64),
}

impl<'a> Turns<'a> {
    fn new(server: &'a Server, address: SocketAddr, message: &'a [u8], concurrency: usize) -> Self {
        let (all, cpu) = (Load::default(), Duration::ZERO);
        Self { server, address, message, concurrency, rates: Vec::new(), all, cpu, batches: (0.0, 0.0) }
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.batches = batches(self.address)?;
        Ok(())
    }

    fn take(&mut self, time: Duration) -> anyhow::Result<()> {
        let before = self.server.cpu()?;
        let part = load(self.address, self.message, self.concurrency, Until::time(time))?;
        self.cpu += self.server.cpu()? - before;
        self.rates.push(part.rate());
        self.all.add(part);
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Side> {
        let Load { failed, failure, .. } = &self.all;
        anyhow::ensure!(*failed == 0, "{failed} requests failed, for one: {failure:?}");
        let (requests, runs) = batches(self.address)?;
        Ok(Side {
            rate: self.all.rate(),
            rates: self.rates,
            server_cpu_ms: self.cpu.as_secs_f64() * 1e3 / self.all.latencies.len() as f64,
            batch: (requests - self.batches.0) / (runs - self.batches.1),
            latency: Percentiles::of(self.all.latencies).context("no request was answered")?,
        })
    }
}

/// Requests run so far, and runs, from the metrics page.
pub(crate) fn batches(address: SocketAddr) -> anyhow::Result<(f64, f64)> {
    let page = Connection::open(address)?.get("/metrics")?;
    let sum = |name: &str| -> f64 {
        let lines = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Ok((sum("corymb_batch_size_sum"), sum("corymb_batch_size_count")))
}

impl Batching {
    pub(crate) fn print(&self) {
        let Self { backend, concurrency, seconds, rows } = self;
        println!("{backend}, {concurrency} in flight, {seconds} s a side, in {TURNS} turns");
        let head = ["model", "batching", "requests/s", "p50 ms", "p99 ms", "server CPU ms", "requests/run", "ratio"];
        let mut table = Table::new(&head);
        for BatchingRow { model, on, off, ratio_of_rates } in rows {
            for (word, side, ratio) in [("on", on, format!("{ratio_of_rates:.2}")), ("off", off, String::new())] {
                table.row([
                    (*model).to_owned(),
                    word.to_owned(),
                    format!("{:.1}", side.rate),
                    format!("{:.1}", side.latency.p50_ms),
                    format!("{:.1}", side.latency.p99_ms),
                    format!("{:.2}", side.server_cpu_ms),
                    format!("{:.2}", side.batch),
                    ratio,
                ]);
            }
        }
        table.print();
    }
}
