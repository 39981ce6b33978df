//! `isolation`: one model's latency alone, and beside neighbours that do what strangers do: long runs, a plugin that spins, a
//! model that is loaded again and again, requests without rows.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use crate::Measured;
use crate::load::Connection;
use crate::process::Server;
use crate::report::Table;
use crate::request::Request;
use crate::sample::{self, Sample};

/// So many at once of what holds a worker.
const HOLDERS: usize = 4;
/// Turns of a loop that take about a second.
const TURNS: i64 = 2_000_000;
/// How often what is done again and again is done.
const EVERY: Duration = Duration::from_secs(1);
/// What a picture of it draws as one point.
const BUCKET: f64 = 0.25;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds of each phase
    #[arg(long, default_value_t = 8.0)]
    pub(crate) seconds: f64,
    /// Requests in flight of the model that is watched
    #[arg(long, default_value_t = 1)]
    pub(crate) concurrency: usize,
    /// Draw it over time, as SVG
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: Measured,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Isolation {
    phases: Vec<Phase>,
}

#[derive(Debug, Serialize)]
struct Phase {
    beside: &'static str,
    requests: usize,
    failed: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Of the worst hundredth: over that alone.
    p99_ratio: f64,
    /// When each was asked, in seconds of the phase, and how long it took, in milliseconds.
    #[serde(skip)]
    points: Vec<(f64, f64)>,
}

/// One that does something beside, until it is told to stop.
struct Neighbour {
    name: &'static str,
    message: Vec<u8>,
    status: u16,
    at_once: usize,
    every: Option<Duration>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// The folder of models, and what strangers do with them.
fn neighbours(folder: &Path) -> anyhow::Result<Vec<Neighbour>> {
    let copy = |from: PathBuf, to: &str| -> anyhow::Result<()> {
        let to = folder.join(to);
        std::fs::create_dir_all(to.parent().context("a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| from.display().to_string()).map(drop)
    };
    copy(fixtures().join("zoo/cases/counting_loop.onnx"), "long/model.onnx")?;
    std::fs::write(folder.join("long/model.toml"), "backend = \"onnxruntime\"\n")?;
    copy(fixtures().join("models/identity_fp32.onnx"), "spins/model.onnx")?;
    copy(fixtures().join("plugins/hostile.wasm"), "spins/hostile.wasm")?;
    std::fs::write(folder.join("spins/model.toml"), "[plugin]\nfile = \"hostile.wasm\"\ntimeout = \"1s\"\n")?;
    for name in [sample::MODEL, "heavy"] {
        for file in std::fs::read_dir(sample::flowers_folder())? {
            let file = file?;
            if file.file_type()?.is_file() {
                copy(file.path(), &format!("{name}/{}", file.file_name().to_string_lossy()))?;
            }
        }
    }
    let post = |path: &str, body: serde_json::Value| {
        let headers = vec![("content-type", "application/json".to_owned())];
        Request { path: path.to_owned(), headers, body: body.to_string().into_bytes() }.message()
    };
    let number = |name: &str, value: i64| json!({"name": name, "datatype": "INT64", "shape": [], "data": [value]});
    let turns = json!({"inputs": [number("start", 0), number("turns", TURNS)]});
    let floats =
        |shape: [usize; 2], data: &[f32]| json!([{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]);
    let spin = json!({"parameters": {"do": "loop"}, "inputs": floats([1, 2], &[1.0, 2.0])});
    let empty = json!({"inputs": floats([0, 2], &[])});
    Ok(vec![
        Neighbour {
            name: "long runs",
            message: post("/v2/models/long/infer", turns),
            status: 200,
            at_once: HOLDERS,
            every: None,
        },
        Neighbour {
            name: "a plugin that spins",
            message: post("/v2/models/spins/infer", spin),
            status: 504,
            at_once: HOLDERS,
            every: None,
        },
        Neighbour {
            name: "a reload every second",
            message: post("/v2/repository/models/heavy/load", json!({})),
            status: 200,
            at_once: 1,
            every: Some(EVERY),
        },
        Neighbour {
            name: "no rows every second",
            message: post("/v2/models/spins/infer", empty),
            status: 200,
            at_once: 1,
            every: Some(EVERY),
        },
    ])
}

impl Neighbour {
    fn act(&self, address: SocketAddr, ended: &AtomicBool, unload: &[u8]) -> anyhow::Result<()> {
        let mut connection = Connection::open(address)?;
        while !ended.load(Ordering::Relaxed) {
            let begin = Instant::now();
            if self.name.starts_with("a reload") {
                connection.send(unload)?;
            }
            let answer = connection.send(&self.message)?;
            let text = String::from_utf8_lossy(answer.body);
            anyhow::ensure!(answer.status == self.status, "{}: {}: {text}", self.name, answer.status);
            if let Some(every) = self.every {
                thread::sleep(every.saturating_sub(begin.elapsed()));
            }
        }
        Ok(())
    }
}

pub(crate) fn run(binary: &Path, arguments: &Arguments) -> anyhow::Result<Isolation> {
    let (folder, cache) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let neighbours = neighbours(folder.path())?;
    let own = ["--model-dir".to_owned(), folder.path().display().to_string(), "--admin".to_owned()];
    let serve: Vec<String> =
        own.into_iter().chain(["--keep-going".to_owned()]).chain(arguments.server.serve.iter().cloned()).collect();
    let server = Server::start(binary, 0, cache.path(), &serve)?;
    let address = server.ready()?.address;
    let sample = Sample::of_picture(&sample::flowers_folder().join("warmup/image_bytes.jpg"))?;
    let unload =
        Request { path: "/v2/repository/models/heavy/unload".to_owned(), headers: vec![], body: vec![] }.message();
    let has_long = Connection::open(address)?.get("/v2/models/long/ready").is_ok();
    if !has_long {
        eprintln!("no long runs: the model of loops needs ONNX Runtime");
    }
    let there: Vec<&Neighbour> =
        neighbours.iter().filter(|neighbour| has_long || neighbour.name != "long runs").collect();
    let mut plans: Vec<(&'static str, Vec<&Neighbour>)> = vec![("nobody", Vec::new())];
    plans.extend(there.iter().map(|neighbour| (neighbour.name, vec![*neighbour])));
    plans.push(("all of them", there.clone()));
    watch(address, &sample, arguments, "", &[], &unload)?;
    let mut phases: Vec<Phase> = Vec::new();
    for (beside, acting) in plans {
        let mut phase = watch(address, &sample, arguments, beside, &acting, &unload)?;
        phase.p99_ratio = phase.p99_ms / phases.first().map_or(phase.p99_ms, |alone| alone.p99_ms);
        eprintln!("beside {beside}: p99 {:.1} ms", phase.p99_ms);
        phases.push(phase);
    }
    let report = Isolation { phases };
    if let Some(file) = &arguments.draw {
        std::fs::write(file, report.drawing(arguments.seconds)).with_context(|| file.display().to_string())?;
    }
    Ok(report)
}

/// Asks the model that is watched while the neighbours act.
fn watch(
    address: SocketAddr,
    sample: &Sample,
    arguments: &Arguments,
    beside: &'static str,
    acting: &[&Neighbour],
    unload: &[u8],
) -> anyhow::Result<Phase> {
    let (ended, time) = (AtomicBool::new(false), Duration::from_secs_f64(arguments.seconds));
    let begin = Instant::now();
    let ask = || -> anyhow::Result<(Vec<(f64, f64)>, usize)> {
        let mut connection = Connection::open(address)?;
        let (mut points, mut failed) = (Vec::new(), 0);
        while begin.elapsed() < time {
            let asked = begin.elapsed();
            let status = connection.send(&sample.message)?.status;
            failed += usize::from(status != 200);
            points.push((asked.as_secs_f64(), (begin.elapsed() - asked).as_secs_f64() * 1000.0));
        }
        Ok((points, failed))
    };
    let (mut points, failed) = thread::scope(|scope| -> anyhow::Result<_> {
        let acting: Vec<_> = acting
            .iter()
            .flat_map(|neighbour| std::iter::repeat_n(neighbour, neighbour.at_once))
            .map(|neighbour| scope.spawn(|| neighbour.act(address, &ended, unload)))
            .collect();
        let asking: Vec<_> = (0..arguments.concurrency).map(|_| scope.spawn(ask)).collect();
        let (mut points, mut failed) = (Vec::new(), 0);
        let mut outcome = Ok(());
        for asked in asking {
            match asked.join().map_err(|_| anyhow::anyhow!("a client panicked"))? {
                Ok((found, lost)) => {
                    points.extend(found);
                    failed += lost;
                }
                Err(error) => outcome = Err(error),
            }
        }
        ended.store(true, Ordering::Relaxed);
        for neighbour in acting {
            neighbour.join().map_err(|_| anyhow::anyhow!("a neighbour panicked"))??;
        }
        outcome.map(|()| (points, failed))
    })?;
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut times: Vec<f64> = points.iter().map(|(_, time)| *time).collect();
    times.sort_by(f64::total_cmp);
    anyhow::ensure!(!times.is_empty(), "nothing was answered beside {beside}");
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let (p50_ms, p99_ms, max_ms) = (at(0.5), at(0.99), at(1.0));
    Ok(Phase { beside, requests: times.len(), failed, p50_ms, p99_ms, max_ms, p99_ratio: 1.0, points })
}

impl Isolation {
    pub(crate) fn print(&self) {
        println!("\nA request with one picture, in milliseconds, while its neighbours act.");
        let mut table = Table::new(&["beside", "requests", "failed", "p50", "p99", "most", "p99, times alone"]);
        for phase in &self.phases {
            let Phase { beside, requests, failed, p50_ms, p99_ms, max_ms, p99_ratio, .. } = phase;
            let number = |value: &f64| format!("{value:.1}");
            table.row([
                (*beside).to_owned(),
                requests.to_string(),
                failed.to_string(),
                number(p50_ms),
                number(p99_ms),
                number(max_ms),
                number(p99_ratio),
            ]);
        }
        table.print();
    }

    /// Each phase beside the one before: the median and the worst of every quarter of a second, on a logarithmic scale.
    fn drawing(&self, seconds: f64) -> String {
        let (width, height, left, top) = (160.0, 240.0, 60.0, 30.0);
        let x = |phase: usize, time: f64| left + width * (phase as f64 + time / seconds);
        // From 1 ms to 10 s.
        let y = |milliseconds: f64| top + height * (1.0 - milliseconds.clamp(1.0, 10_000.0).log10() / 4.0);
        let whole = left + width * self.phases.len() as f64 + 10.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            top + height + 40.0
        );
        // Writing to a String cannot fail.
        for (milliseconds, label) in
            [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s"), (10_000.0, "10 s")]
        {
            let y = y(milliseconds);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{whole}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/><text x=\"4\" y=\"{}\">{label}</text>",
                y + 4.0
            );
        }
        for (place, phase) in self.phases.iter().enumerate() {
            let _ = writeln!(svg, "<text x=\"{}\" y=\"18\">{}</text>", x(place, 0.0) + 4.0, phase.beside);
            for (part, colour) in [(0.5, "#1f77b4"), (1.0, "#d62728")] {
                let points: Vec<String> =
                    phase.buckets(part).map(|(time, value)| format!("{:.1},{:.1}", x(place, time), y(value))).collect();
                let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
            }
            let _ = writeln!(
                svg,
                "<line x1=\"{0}\" x2=\"{0}\" y1=\"{top}\" y2=\"{1}\" stroke=\"#888\"/>",
                x(place, 0.0),
                top + height
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\">blue: median, red: worst of each quarter of a second; {seconds} s in each phase</text>\n</svg>",
            top + height + 24.0
        );
        svg
    }
}

impl Phase {
    /// The given part of each quarter of a second: the time of its beginning, and the value.
    fn buckets(&self, part: f64) -> impl Iterator<Item = (f64, f64)> {
        let number = |(time, _): &(f64, f64)| (time / BUCKET) as usize;
        let all: Vec<(f64, f64)> = self
            .points
            .chunk_by(move |one, other| number(one) == number(other))
            .map(|chunk| {
                let mut times: Vec<f64> = chunk.iter().map(|(_, time)| *time).collect();
                times.sort_by(f64::total_cmp);
                (number(&chunk[0]) as f64 * BUCKET, times[((times.len() - 1) as f64 * part) as usize])
            })
            .collect();
        all.into_iter()
    }
}
