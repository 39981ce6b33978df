//! `flowers`: the served model beside the bare loop, in turns, so that the machine's noise meets both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use corymb_backend_tract::Tract;
use serde::Serialize;
use serde_json::Value;

use crate::bare::{Bare, Rounds, Spread};
use crate::load::{Connection, Load, Percentiles, Until, run as load};
use crate::process::Server;
use crate::sample::{MODEL, Sample};

/// So many turns of bare loop and load make a row.
const TURNS: u32 = 5;

/// The largest difference between scores served and scores of the bare loop.
const TOLERANCE: f32 = 1e-5;

/// A bare loop that got less of its cores than this shared them with other processes.
const UNDISTURBED: f64 = 0.9;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) model: &'a Path,
    pub(crate) concurrency: &'a [usize],
    pub(crate) seconds: f64,
    pub(crate) serve: &'a [String],
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Flowers {
    pub(crate) cores: usize,
    pub(crate) turns: u32,
    pub(crate) seconds: f64,
    pub(crate) pictures_per_request: usize,
    pub(crate) rows: Vec<Row>,
}

/// One concurrency.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) concurrency: usize,
    pub(crate) served: Served,
    pub(crate) bare_one_thread: BareLoop,
    pub(crate) bare_all_cores: BareLoop,
    pub(crate) ratio_to_one_thread: f64,
    pub(crate) ratio_to_all_cores: f64,
    /// CPU of a round on as many threads as the load could keep busy, over the server's CPU of a request.
    pub(crate) ratio_of_cpu: f64,
    /// Milliseconds of each stage per request, by the server's own clock: wall time, so a stage that lost its core to
    /// another thread looks longer than its CPU time.
    pub(crate) stages_ms: BTreeMap<String, f64>,
}

/// What clients saw and what it cost.
#[derive(Debug, Serialize)]
pub(crate) struct Served {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    pub(crate) failure: Option<String>,
    pub(crate) rate: f64,
    /// The same, turn by turn.
    pub(crate) rates: Vec<f64>,
    #[serde(flatten)]
    pub(crate) latency: Percentiles,
    pub(crate) server_cpu_ms: f64,
    pub(crate) client_cpu_ms: f64,
}

/// Milliseconds are per round, which is the work of one request.
#[derive(Debug, Serialize)]
pub(crate) struct BareLoop {
    pub(crate) threads: usize,
    pub(crate) rate: f64,
    /// The same, turn by turn.
    pub(crate) rates: Vec<f64>,
    pub(crate) cpu_ms: f64,
    /// CPU time over time, per thread: 1 on cores that nobody else uses.
    pub(crate) busy: f64,
    pub(crate) picture_ms: f64,
    pub(crate) model_ms: f64,
}

impl Row {
    /// The bare loop that could keep as many cores busy as the load could.
    pub(crate) fn fair(&self) -> &BareLoop {
        if self.concurrency == 1 { &self.bare_one_thread } else { &self.bare_all_cores }
    }

    /// Whether other processes took so much of the cores that rates say nothing; CPU times still do.
    pub(crate) fn disturbed(&self) -> bool {
        self.bare_one_thread.busy < UNDISTURBED || self.bare_all_cores.busy < UNDISTURBED
    }

    pub(crate) fn stage(&self, name: &str) -> f64 {
        self.stages_ms.get(name).copied().unwrap_or(0.0)
    }
}

/// Measures each concurrency in turn on one server.
pub(crate) fn run(options: &Options<'_>, sample: &Sample) -> anyhow::Result<Flowers> {
    let cores = std::thread::available_parallelism()?.get();
    let bare = Bare::flowers(&Tract::default(), corymb_core::Device::Cpu, options.model, sample.pictures.clone())?;
    let cache = tempfile::tempdir().context("a folder for the server's cache")?;
    let mut arguments = vec!["--model".to_owned(), format!("{MODEL}={}", options.model.display())];
    arguments.extend_from_slice(options.serve);
    let server = Server::start(options.binary, 0, cache.path(), &arguments)?;
    let address = server.ready()?.address;
    compare(&mut Connection::open(address)?, sample, &bare.outputs()?)?;
    let subject = Subject { bare: &bare, server: &server, address, message: &sample.message, cores };
    let time = Duration::from_secs_f64(options.seconds);
    let row = |&concurrency: &usize| {
        eprintln!("concurrency {concurrency}: {:.0} s", 3.3 * options.seconds);
        subject.measure(concurrency, time)
    };
    Ok(Flowers {
        cores,
        turns: TURNS,
        seconds: options.seconds,
        pictures_per_request: sample.pictures.len(),
        rows: options.concurrency.iter().map(row).collect::<Result<_, _>>()?,
    })
}

/// Both sides must do the same work.
pub(crate) fn compare(connection: &mut Connection, sample: &Sample, expected: &[f32]) -> anyhow::Result<()> {
    let answer = connection.send(&sample.message)?;
    let text = String::from_utf8_lossy(answer.body);
    anyhow::ensure!(answer.status == 200, "the server answers {}: {text}", answer.status);
    let json: Value = serde_json::from_slice(answer.body).context("the server's answer")?;
    let scores = json["predictions"][0]["scores"].as_array().with_context(|| format!("no scores in {text}"))?;
    let scores: Vec<f32> = scores.iter().filter_map(Value::as_f64).map(|score| score as f32).collect();
    let alike = scores.len() == expected.len()
        && scores.iter().zip(expected).all(|(served, bare)| (served - bare).abs() <= TOLERANCE);
    anyhow::ensure!(alike, "the server gives the scores {scores:?}, the bare loop {expected:?}");
    Ok(())
}

struct Subject<'a> {
    bare: &'a Bare,
    server: &'a Server,
    address: SocketAddr,
    message: &'a [u8],
    cores: usize,
}

impl Subject<'_> {
    fn measure(&self, concurrency: usize, time: Duration) -> anyhow::Result<Row> {
        // Connections, thread-local scratch memory, the processor's caches.
        load(self.address, self.message, concurrency, Until::time(time / 10))?;
        self.bare.run(Spread::instances(self.cores), time / 10)?;

        let stages_before = self.stages()?;
        let turn = time / TURNS;
        let (mut one, mut all) = (Turns::default(), Turns::default());
        let (mut served, mut rates, mut cpu) = (Load::default(), Vec::new(), Duration::ZERO);
        for _ in 0..TURNS {
            one.add(&self.bare.run(Spread::instances(1), turn)?);
            let cpu_before = self.server.cpu()?;
            let part = load(self.address, self.message, concurrency, Until::time(turn))?;
            cpu += self.server.cpu()? - cpu_before;
            rates.push(part.rate());
            served.add(part);
            all.add(&self.bare.run(Spread::instances(self.cores), turn)?);
        }
        let stages_after = self.stages()?;

        let requests = served.latencies.len();
        let answered = requests + served.failed;
        let per_request = |time: Duration| time.as_secs_f64() * 1e3 / answered as f64;
        let served = Served {
            requests,
            failed: served.failed,
            rate: served.rate(),
            rates,
            server_cpu_ms: per_request(cpu),
            client_cpu_ms: per_request(served.own_cpu),
            latency: Percentiles::of(served.latencies).with_context(|| {
                format!("not one of {answered} requests was answered by 200; one answer: {:?}", served.failure)
            })?,
            failure: served.failure,
        };
        let (one, all) = (one.finish(1), all.finish(self.cores));
        let fair_cpu_ms = if concurrency == 1 { one.cpu_ms } else { all.cpu_ms };
        let stage = |(stage, sum): (String, f64)| {
            let before = stages_before.get(&stage).copied().unwrap_or(0.0);
            (stage, (sum - before) * 1e3 / answered as f64)
        };
        Ok(Row {
            concurrency,
            ratio_to_one_thread: served.rate / one.rate,
            ratio_to_all_cores: served.rate / all.rate,
            ratio_of_cpu: fair_cpu_ms / served.server_cpu_ms,
            stages_ms: stages_after.into_iter().map(stage).collect(),
            served,
            bare_one_thread: one,
            bare_all_cores: all,
        })
    }

    /// Seconds spent in each stage so far, of all requests, from the metrics page.
    fn stages(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let page = Connection::open(self.address)?.get("/metrics")?;
        let mut stages = BTreeMap::new();
        for line in page.lines().filter(|line| line.starts_with("corymb_stage_duration_seconds_sum{")) {
            let stage = line.split_once("stage=\"").and_then(|(_, rest)| rest.split_once('"'));
            let seconds = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            let (stage, seconds) = stage.zip(seconds).with_context(|| format!("a line of /metrics: {line}"))?;
            *stages.entry(stage.0.to_owned()).or_default() += seconds;
        }
        Ok(stages)
    }
}

#[derive(Default)]
struct Turns {
    rounds: Rounds,
    rates: Vec<f64>,
}

impl Turns {
    fn add(&mut self, rounds: &Rounds) {
        self.rates.push(rounds.rate());
        self.rounds.add(rounds);
    }

    fn finish(self, threads: usize) -> BareLoop {
        let rounds = self.rounds;
        let per_round = |time: Duration| time.as_secs_f64() * 1e3 / rounds.count as f64;
        BareLoop {
            threads,
            rate: rounds.rate(),
            rates: self.rates,
            cpu_ms: per_round(rounds.cpu),
            busy: rounds.cpu.as_secs_f64() / rounds.time.as_secs_f64() / threads as f64,
            picture_ms: per_round(rounds.picture),
            model_ms: per_round(rounds.model),
        }
    }
}
