//! `tiny`: what the server itself costs: a model that does next to nothing, beside hand-written handlers that do the same.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use corymb_backend_tract::Tract;
use corymb_core::{Backend as _, DType, FileSource, LoadOptions, ModelFiles, RunOptions, Tensor, Tensors};
use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use prost::Message as _;
use serde::Serialize;
use serde_json::Value;

use crate::h2load::{self, Ask};
use crate::load::{Connection, Percentiles};
use crate::onnx;
use crate::process::Server;
use crate::report::Table;
use crate::request::{Request, floats, raw};
use crate::rival::Rival;

/// Turns of both sides that make a cell, so that the machine's noise meets both.
const TURNS: u32 = 6;

const NAME: &str = "tiny";
const WIDTH: usize = 16;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) concurrency: &'a [usize],
    /// Of each side of each cell.
    pub(crate) seconds: f64,
    pub(crate) serve: &'a [String],
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Tiny {
    turns: u32,
    seconds: f64,
    /// One run of the model by the engine alone, in this process.
    engine_us: f64,
    cells: Vec<Cell>,
}

/// One protocol at one concurrency.
#[derive(Debug, Serialize)]
struct Cell {
    protocol: &'static str,
    concurrency: usize,
    served: Side,
    rival: Side,
    /// Served over rival.
    ratio_of_rates: f64,
    /// Rival over served.
    ratio_of_cpu: f64,
}

/// What one of the two brought.
#[derive(Debug, Serialize)]
struct Side {
    rate: f64,
    /// The same, turn by turn.
    rates: Vec<f64>,
    /// CPU time of its process, per request.
    cpu_us: f64,
    #[serde(flatten)]
    latency: Percentiles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Json,
    Binary,
    Grpc,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Json, Self::Binary, Self::Grpc];

    const fn name(self) -> &'static str {
        match self {
            Self::Json => "V2 JSON",
            Self::Binary => "V2 binary",
            Self::Grpc => "V2 gRPC",
        }
    }
}

/// A request as it is sent, its body in a file too.
#[derive(Debug)]
struct Question {
    protocol: Protocol,
    request: Request,
    file: PathBuf,
}

impl Question {
    fn write(protocol: Protocol, folder: &Path) -> anyhow::Result<Self> {
        let request = match protocol {
            Protocol::Json => Request::json(NAME, "x", &[1, WIDTH], &input()),
            Protocol::Binary => Request::binary(NAME, "x", "y", &[1, WIDTH], &input()),
            Protocol::Grpc => {
                let message = message()?.encode_to_vec();
                let length = u32::try_from(message.len())?.to_be_bytes();
                let headers = vec![("content-type", "application/grpc".to_owned()), ("te", "trailers".to_owned())];
                let path = "/inference.GRPCInferenceService/ModelInfer".to_owned();
                Request { path, headers, body: [&[0][..], &length, &message].concat() }
            }
        };
        let file = folder.join(format!("{protocol:?}"));
        std::fs::write(&file, &request.body).with_context(|| file.display().to_string())?;
        Ok(Self { protocol, request, file })
    }

    fn ask(&self, address: SocketAddr) -> Ask<'_> {
        let http1 = self.protocol != Protocol::Grpc;
        Ask { address, path: &self.request.path, http1, headers: &self.request.headers, body: &self.file }
    }

    /// Both sides must answer, and right, before it is worth measuring how fast.
    fn check(&self, address: SocketAddr) -> anyhow::Result<()> {
        let answered = match self.protocol {
            Protocol::Grpc => ask_grpc(address)?,
            _ => self.ask_rest(address)?,
        };
        let expected: Vec<f32> = input().iter().map(|value| value + 1.0).collect();
        let name = self.protocol.name();
        anyhow::ensure!(answered == expected, "{name} at {address} answers {answered:?}; expected {expected:?}");
        Ok(())
    }

    fn ask_rest(&self, address: SocketAddr) -> anyhow::Result<Vec<f32>> {
        let mut connection = Connection::open(address)?;
        let answer = connection.send(&self.request.message())?;
        let text = String::from_utf8_lossy(answer.body);
        anyhow::ensure!(answer.status == 200, "{address} answers {}: {text}", answer.status);
        let binary = if self.protocol == Protocol::Binary { WIDTH * 4 } else { 0 };
        let json = answer.body.len().checked_sub(binary).with_context(|| format!("a short answer: {text}"))?;
        let (json, raw) = answer.body.split_at(json);
        let json: Value = serde_json::from_slice(json).with_context(|| format!("the answer's JSON: {text}"))?;
        let output = &json["outputs"][0];
        anyhow::ensure!(output["name"] == "y" && output["datatype"] == "FP32", "not the output y of FP32: {text}");
        if self.protocol == Protocol::Binary {
            return Ok(floats(raw));
        }
        let data = output["data"].as_array().with_context(|| format!("no data in {text}"))?;
        Ok(data.iter().filter_map(Value::as_f64).map(|value| value as f32).collect())
    }
}

fn ask_grpc(address: SocketAddr) -> anyhow::Result<Vec<f32>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let answer = GrpcInferenceServiceClient::new(channel).model_infer(message()?).await?.into_inner();
        anyhow::ensure!(answer.outputs.first().is_some_and(|output| output.name == "y"), "no output y: {answer:?}");
        Ok(floats(answer.raw_output_contents.first().context("an answer without raw contents")?))
    })
}

fn message() -> anyhow::Result<ModelInferRequest> {
    let (name, datatype) = ("x".to_owned(), "FP32".to_owned());
    let shape = vec![1, i64::try_from(WIDTH)?];
    Ok(ModelInferRequest {
        model_name: NAME.to_owned(),
        inputs: vec![InferInputTensor { name, datatype, shape, ..Default::default() }],
        raw_input_contents: vec![raw(&input()).into()],
        ..Default::default()
    })
}

fn input() -> Vec<f32> {
    (0..WIDTH).map(|index| index as f32 * 0.125).collect()
}

/// Measures each protocol at each concurrency, both sides in turns.
pub(crate) fn run(options: &Options<'_>) -> anyhow::Result<Tiny> {
    h2load::check()?;
    let scratch = tempfile::tempdir().context("a folder for the model and the requests")?;
    let folder = scratch.path().join(NAME);
    std::fs::create_dir(&folder)?;
    onnx::write_add_one(&folder, WIDTH)?;
    let engine_us = engine_us(&folder)?;

    let mut arguments = vec!["--model".to_owned(), format!("{NAME}={}", folder.display())];
    arguments.extend_from_slice(options.serve);
    let server = Server::start(options.binary, 0, scratch.path(), &arguments)?;
    let address = server.ready()?.address;
    let rival = Rival::start()?;

    let time = Duration::from_secs_f64(options.seconds);
    let mut cells = Vec::new();
    for protocol in Protocol::ALL {
        let question = Question::write(protocol, scratch.path())?;
        let rival_address = if protocol == Protocol::Grpc { rival.grpc } else { rival.rest };
        for address in [address, rival_address] {
            question.check(address)?;
        }
        for &concurrency in options.concurrency {
            eprintln!("{} at {concurrency}: {:.0} s", protocol.name(), 2.5 * options.seconds);
            let mut served = Turns::new(question.ask(address), concurrency);
            let mut by_hand = Turns::new(question.ask(rival_address), concurrency);
            // Connections, thread-local memory, the processor's caches.
            served.warm(time / 10)?;
            by_hand.warm(time / 10)?;
            for _ in 0..TURNS {
                by_hand.take(time / TURNS, || rival.cpu())?;
                served.take(time / TURNS, || server.cpu())?;
            }
            let log = scratch.path().join("log");
            let (served, rival) = (served.finish(time / TURNS, &log)?, by_hand.finish(time / TURNS, &log)?);
            cells.push(Cell {
                protocol: protocol.name(),
                concurrency,
                ratio_of_rates: served.rate / rival.rate,
                ratio_of_cpu: rival.cpu_us / served.cpu_us,
                served,
                rival,
            });
        }
    }
    Ok(Tiny { turns: TURNS, seconds: options.seconds, engine_us, cells })
}

/// Microseconds of one run by tract alone.
fn engine_us(folder: &Path) -> anyhow::Result<f64> {
    const RUNS: u32 = 20_000;
    let files = ModelFiles { model: FileSource::Path(folder.join("model.onnx")) };
    let model = Tract::default().load(&files, &LoadOptions::default()).context("load the tiny model")?;
    let mut instance = model.instance(1)?;
    let tensor = Tensor::new(DType::Fp32, [1, WIDTH], raw(&input()).into())?;
    let mut run = || instance.run(&[Tensors::from_iter([("x", tensor.clone())])], &RunOptions::default());
    run().context("run the tiny model")?;
    let begin = Instant::now();
    for _ in 0..RUNS {
        std::hint::black_box(run()?);
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS))
}

struct Turns<'a> {
    ask: Ask<'a>,
    concurrency: usize,
    rates: Vec<f64>,
    requests: usize,
    cpu: Duration,
}

impl<'a> Turns<'a> {
    fn new(ask: Ask<'a>, concurrency: usize) -> Self {
        Self { ask, concurrency, rates: Vec::new(), requests: 0, cpu: Duration::ZERO }
    }

    fn warm(&self, time: Duration) -> anyhow::Result<()> {
        h2load::run(&self.ask, self.concurrency, time, None).map(drop)
    }

    fn take(&mut self, time: Duration, cpu: impl Fn() -> anyhow::Result<Duration>) -> anyhow::Result<()> {
        let before = cpu()?;
        let sent = h2load::run(&self.ask, self.concurrency, time, None)?;
        self.cpu += cpu()? - before;
        self.requests += sent.requests;
        self.rates.push(sent.rate);
        Ok(())
    }

    /// One turn more for the latencies, whose log costs the load time.
    fn finish(self, time: Duration, log: &Path) -> anyhow::Result<Side> {
        h2load::run(&self.ask, self.concurrency, time, Some(log))?;
        Ok(Side {
            rate: self.rates.iter().sum::<f64>() / self.rates.len() as f64,
            rates: self.rates,
            cpu_us: self.cpu.as_secs_f64() * 1e6 / self.requests as f64,
            latency: Percentiles::of(h2load::latencies(log)?).context("no request was answered")?,
        })
    }
}

impl Tiny {
    pub(crate) fn print(&self) {
        let Self { turns, seconds, engine_us, cells } = self;
        println!(
            "FP32[1,{WIDTH}] + 1; {seconds} s a side and row, in {turns} turns; h2load, one request in flight per \
             connection.\nRival: axum with serde_json for REST, tonic for gRPC. One run by tract alone takes \
             {engine_us:.2} us."
        );
        let mut table = Table::new(&[
            "protocol",
            "in flight",
            "requests/s",
            "rival",
            "ratio",
            "CPU us",
            "rival",
            "ratio",
            "p50 us",
            "rival",
            "p99 us",
            "rival",
        ]);
        for Cell { protocol, concurrency, served, rival, ratio_of_rates, ratio_of_cpu } in cells {
            let us = |ms: f64| format!("{:.0}", ms * 1e3);
            table.row([
                (*protocol).to_owned(),
                concurrency.to_string(),
                format!("{:.0}", served.rate),
                format!("{:.0}", rival.rate),
                format!("{ratio_of_rates:.2}"),
                format!("{:.1}", served.cpu_us),
                format!("{:.1}", rival.cpu_us),
                format!("{ratio_of_cpu:.2}"),
                us(served.latency.p50_ms),
                us(rival.latency.p50_ms),
                us(served.latency.p99_ms),
                us(rival.latency.p99_ms),
            ]);
        }
        table.print();
    }
}
