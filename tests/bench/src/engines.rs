//! `engines`: two models of usual size, served on each engine, beside a bare loop around the same engine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use corymb_core::{Backend, DType, Device, Tensor};
use serde::Serialize;

use crate::Measured;
use crate::backends;
use crate::bare::{Bare, Rounds, Spread};
use crate::flowers::compare;
use crate::load::{Connection, Load, Percentiles, Until, run as load};
use crate::process::Server;
use crate::report::Table;
use crate::request::{Request, floats, raw};
use crate::sample::{self, Sample};

/// So many turns of bare loop and load make a row.
const TURNS: u32 = 5;

/// In which a server measures its model; the bare loop would disturb it.
const SETTLE: Duration = Duration::from_secs(3);

const MOBILENET: &str = "mobilenet";
const INPUT: [usize; 4] = [1, 3, 224, 224];
const CLASSES: usize = 1000;

/// The largest difference between an output served and that of the bare loop, relative to the largest output.
const TOLERANCE: f32 = 1e-4;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Engines to measure; one that is not here is skipped
    #[arg(long, value_delimiter = ',', default_values_t = ["tract".to_owned(), "onnxruntime".to_owned()])]
    backend: Vec<String>,
    /// What both the server and the bare loop run the models on: cpu, cuda, cuda:1, tensorrt
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Seconds of load at each concurrency; the bare loop takes as much
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Requests in flight, one row for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 50])]
    pub(crate) concurrency: Vec<usize>,
    /// What tests/bench/mobilenet.py wrote; by default target/bench/mobilenet
    #[arg(long, value_name = "DIR")]
    mobilenet: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: Measured,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Engines {
    cores: usize,
    turns: u32,
    seconds: f64,
    device: String,
    rows: Vec<Row>,
    /// What was not measured, and why.
    skipped: Vec<String>,
}

/// One model on one engine at one concurrency.
#[derive(Debug, Serialize)]
struct Row {
    model: &'static str,
    backend: String,
    concurrency: usize,
    rate: f64,
    rates: Vec<f64>,
    #[serde(flatten)]
    latency: Percentiles,
    server_cpu_ms: f64,
    bare: Spread,
    bare_rate: f64,
    bare_rates: Vec<f64>,
    bare_cpu_ms: f64,
    /// Served over bare.
    ratio_of_rates: f64,
    /// Bare over served.
    ratio_of_cpu: f64,
}

/// One model, as it is served and as it is called.
struct Subject<'a> {
    name: &'static str,
    folder: &'a Path,
    message: Vec<u8>,
    bare: Bare,
    check: Check<'a>,
}

/// Whether what is served equals what the loop computes.
type Check<'a> = Box<dyn Fn(&mut Connection, &Bare) -> anyhow::Result<()> + 'a>;

/// Measures each model on each engine that is here.
pub(crate) fn run(binary: &Path, arguments: &Arguments) -> anyhow::Result<Engines> {
    let cores = std::thread::available_parallelism()?.get();
    let flowers = sample::flowers_folder();
    let picture = Sample::of_picture(&flowers.join("warmup/image_bytes.jpg"))?;
    let mobilenet = match &arguments.mobilenet {
        Some(folder) => folder.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/mobilenet"),
    };
    let device = arguments.device;
    let mut report = Engines {
        cores,
        turns: TURNS,
        seconds: arguments.seconds,
        device: device.to_string(),
        rows: Vec::new(),
        skipped: Vec::new(),
    };
    for name in &arguments.backend {
        let backend = match backends::named(name) {
            Ok(backend) => backend,
            Err(error) => {
                report.skipped.push(format!("{error:#}"));
                continue;
            }
        };
        let mut subjects = vec![flowers_subject(&*backend, device, &flowers, &picture)?];
        if mobilenet.join("model.onnx").is_file() {
            subjects.push(mobilenet_subject(&*backend, device, &mobilenet)?);
        } else {
            let path = mobilenet.display();
            report.skipped.push(format!("{MOBILENET}: {path} has no model.onnx; run tests/bench/mobilenet.py"));
        }
        for subject in subjects {
            report.rows.extend(subject.measure(binary, name, cores, arguments)?);
        }
    }
    report.skipped.sort_unstable();
    report.skipped.dedup();
    anyhow::ensure!(!report.rows.is_empty(), "nothing could be measured: {}", report.skipped.join("; "));
    Ok(report)
}

fn flowers_subject<'a>(
    backend: &dyn Backend,
    device: Device,
    folder: &'a Path,
    sample: &'a Sample,
) -> anyhow::Result<Subject<'a>> {
    Ok(Subject {
        name: sample::MODEL,
        folder,
        message: sample.message.clone(),
        bare: Bare::flowers(backend, device, folder, sample.pictures.clone())?,
        check: Box::new(|connection, bare| compare(connection, sample, &bare.outputs()?)),
    })
}

fn mobilenet_subject<'a>(backend: &dyn Backend, device: Device, folder: &'a Path) -> anyhow::Result<Subject<'a>> {
    let values: Vec<f32> = (0..INPUT.iter().product()).map(|index: usize| (index as f32 * 0.37).sin()).collect();
    let message = Request::binary(MOBILENET, "x", "y", &INPUT, &values).message();
    let sent = message.clone();
    let tensor = Tensor::new(DType::Fp32, INPUT, raw(&values).into())?;
    Ok(Subject {
        name: MOBILENET,
        folder,
        message,
        bare: Bare::input(backend, device, folder, tensor)?,
        check: Box::new(move |connection, bare| {
            let expected = bare.outputs()?;
            let answer = connection.send(&sent)?;
            let text = || String::from_utf8_lossy(answer.body).chars().take(500).collect::<String>();
            anyhow::ensure!(answer.status == 200, "the server answers {}: {}", answer.status, text());
            let at = answer.body.len().checked_sub(CLASSES * 4).with_context(text)?;
            let served = floats(&answer.body[at..]);
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let alike = expected.len() == CLASSES
                && served.iter().zip(&expected).all(|(served, bare)| (served - bare).abs() <= TOLERANCE * largest);
            anyhow::ensure!(alike, "the server gives other scores than the bare loop");
            Ok(())
        }),
    })
}

impl Subject<'_> {
    fn measure(&self, binary: &Path, backend: &str, cores: usize, arguments: &Arguments) -> anyhow::Result<Vec<Row>> {
        let cache = tempfile::tempdir().context("a folder for the server's cache")?;
        let model = format!("{}={}", self.name, self.folder.display());
        let device = arguments.device.to_string();
        let serve = ["--backend", backend, "--device", &device, "--model", &model];
        let mut serve: Vec<String> = serve.map(str::to_owned).to_vec();
        serve.extend_from_slice(&arguments.server.serve);
        let server = Server::start(binary, 0, cache.path(), &serve)?;
        let address = server.ready()?.address;
        std::thread::sleep(SETTLE);
        (self.check)(&mut Connection::open(address)?, &self.bare)?;

        let time = Duration::from_secs_f64(arguments.seconds);
        let turn = time / TURNS;
        let mut rows = Vec::new();
        for &concurrency in &arguments.concurrency {
            eprintln!("{} on {backend} at {concurrency}: {:.0} s", self.name, 2.3 * arguments.seconds);
            load(address, &self.message, concurrency, Until::time(time / 10))?;
            let spread = self.fastest(concurrency, cores, time / 10)?;
            let (mut bare, mut bare_rates) = (Rounds::default(), Vec::new());
            let (mut served, mut rates, mut cpu) = (Load::default(), Vec::new(), Duration::ZERO);
            for _ in 0..TURNS {
                let part = self.bare.run(spread, turn)?;
                bare_rates.push(part.rate());
                bare.add(&part);
                let before = server.cpu()?;
                let part = load(address, &self.message, concurrency, Until::time(turn))?;
                cpu += server.cpu()? - before;
                rates.push(part.rate());
                served.add(part);
            }
            let failure = || format!("{} requests failed, for one: {:?}", served.failed, served.failure);
            anyhow::ensure!(served.failed == 0, "{}", failure());
            let rate = served.rate();
            let server_cpu_ms = cpu.as_secs_f64() * 1e3 / served.latencies.len() as f64;
            let bare_cpu_ms = bare.cpu.as_secs_f64() * 1e3 / bare.count as f64;
            rows.push(Row {
                model: self.name,
                backend: backend.to_owned(),
                concurrency,
                rate,
                rates,
                latency: Percentiles::of(served.latencies).context("no request was answered")?,
                server_cpu_ms,
                bare: spread,
                bare_rate: bare.rate(),
                bare_rates,
                bare_cpu_ms,
                ratio_of_rates: rate / bare.rate(),
                ratio_of_cpu: bare_cpu_ms / server_cpu_ms,
            });
        }
        Ok(rows)
    }

    /// The best that the engine could do for so many requests: all cores, one instance on each; for a single request one
    /// instance, on the number of threads that is fastest.
    fn fastest(&self, concurrency: usize, cores: usize, time: Duration) -> anyhow::Result<Spread> {
        if concurrency > 1 {
            return Ok(Spread::instances(cores.min(concurrency)));
        }
        let wide = Spread { instances: 1, threads: self.bare.max_threads().min(cores) };
        if wide.threads == 1 {
            return Ok(wide);
        }
        let alone = Spread::instances(1);
        let faster = self.bare.run(wide, time)?.rate() > self.bare.run(alone, time)?.rate();
        Ok(if faster { wide } else { alone })
    }
}

impl Engines {
    pub(crate) fn print(&self) {
        let Self { cores, turns, seconds, device, rows, skipped } = self;
        println!(
            "flowers: V1 JSON with one JPEG; mobilenet: V2 binary, FP32[1,3,224,224]. {seconds} s a row and side, in \
             {turns} turns, on {device}; the load shares the {cores} cores. The bare loop has the fastest plan for that concurrency, \
             instances x threads."
        );
        let head = [
            "model",
            "engine",
            "in flight",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "server CPU ms",
            "loop",
            "rounds/s",
            "loop CPU ms",
            "rate ratio",
            "CPU ratio",
        ];
        let mut table = Table::new(&head);
        for row in rows {
            table.row([
                row.model.to_owned(),
                row.backend.clone(),
                row.concurrency.to_string(),
                format!("{:.1}", row.rate),
                format!("{:.1}", row.latency.p50_ms),
                format!("{:.1}", row.latency.p99_ms),
                format!("{:.2}", row.server_cpu_ms),
                format!("{}x{}", row.bare.instances, row.bare.threads),
                format!("{:.1}", row.bare_rate),
                format!("{:.2}", row.bare_cpu_ms),
                format!("{:.3}", row.ratio_of_rates),
                format!("{:.3}", row.ratio_of_cpu),
            ]);
        }
        table.print();
        for reason in skipped {
            println!("  skipped: {reason}");
        }
    }
}
