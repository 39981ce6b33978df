//! `corymb bench`: load on a running server, or on one that is started for it.

mod cpu;
mod payload;
mod subject;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use corymb_loadtest::{Access, Arrivals, Mode, Plan, Report};
use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::cpu::{Cpu, CpuFigures};
use self::payload::{Payload, Protocol, Shape, parse_shape};
use crate::config::{SourceFlags, duration};

pub(crate) use self::subject::{Subject, is_url};
pub(crate) use self::view::milliseconds;

/// What is sent, and to whom: the flags that `bench` and `tune` share.
#[derive(Debug, Args)]
pub(crate) struct LoadFlags {
    /// A running server, e.g. http://localhost:8080, or a model to serve for the time: a folder or a file
    #[arg(value_name = "URL|MODEL")]
    pub(super) target: Option<String>,
    /// Pictures (JPEG, PNG, WebP), requests (V1 or V2 JSON) or tensors (.npy), sent in turn; made up by default
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// How requests are sent; by default as the data is
    #[arg(long)]
    protocol: Option<Protocol>,
    /// A header of every request, metadata by gRPC; may be repeated
    #[arg(short = 'H', long, value_name = "NAME:VALUE", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// What requests to a URL are for, where an ingress stands there: their Host, and what its certificate is for
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<Authority>,
    /// A file with a token, sent as Authorization: Bearer
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates that are trusted beside the web's (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Rows of a made-up request
    #[arg(long, value_name = "ROWS", default_value_t = 1)]
    batch: usize,
    /// The shape of a made-up input, e.g. tokens=1,128; may be repeated
    #[arg(long, value_name = "NAME=DIMS", value_parser = parse_shape)]
    shape: Vec<Shape>,
    /// A request is given up after this, counted from when it should have started
    #[arg(long, value_parser = duration, default_value = "30s")]
    timeout: Duration,
    /// Load before the one that counts
    #[arg(long, value_parser = duration, default_value = "1s")]
    warm_up: Duration,
    /// The server's process, where its processor time is to be told; known where it is started here
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    #[command(flatten)]
    pub(super) sources: SourceFlags,
}

/// `NAME: VALUE`, as `curl` and `hey` take it.
fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let expected = || "expected NAME:VALUE, e.g. 'X-Team: models'".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(expected)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| expected())?;
    if name == HOST {
        return Err("the Host header is what --host says".to_owned());
    }
    let value = HeaderValue::try_from(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

impl LoadFlags {
    /// How the server is reached.
    ///
    /// # Errors
    /// For what would not be heard: a server that is started for the time needs none of it, and one without TLS no certificates.
    fn access(&self) -> anyhow::Result<Access> {
        let given = [
            ("--header", !self.header.is_empty()),
            ("--host", self.host.is_some()),
            ("--token-file", self.token_file.is_some()),
            ("--ca", self.ca.is_some()),
        ];
        let url = self.target.as_deref().filter(|target| is_url(target));
        if let (None, Some((flag, _))) = (url, given.iter().find(|(_, is_given)| *is_given)) {
            bail!("{flag} is for a server that runs: name it by its URL, e.g. https://ingress.example.com");
        }
        if self.ca.is_some() && url.is_some_and(|url| url.starts_with("http://")) {
            bail!("--ca has no effect on http://: write https:// where TLS is spoken");
        }
        let mut headers: HeaderMap = self.header.iter().cloned().collect();
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?;
            let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut value = value.with_context(|| format!("--token-file {}: it is no token", file.display()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let read = |file: &PathBuf| std::fs::read(file).with_context(|| format!("--ca {}", file.display()));
        let roots = self.ca.as_ref().map(read).transpose()?.unwrap_or_default();
        Ok(Access { host: self.host.clone(), headers, roots })
    }
}

/// Measure throughput and latency of a server under load.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    load: LoadFlags,
    /// Callers, each with one request in flight at a time; with --rate the most connections [default: 8, or 1000]
    #[arg(short, long, value_name = "CALLERS")]
    concurrency: Option<usize>,
    /// Requests a second, sent whether or not those before are answered
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// With --rate: equal gaps, or random ones
    #[arg(long, default_value = "constant")]
    arrivals: ArrivalsFlag,
    /// How long to measure
    #[arg(short, long, value_parser = duration, default_value = "10s")]
    duration: Duration,
    /// Of random arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ArrivalsFlag {
    Constant,
    Poisson,
}

impl From<ArrivalsFlag> for Arrivals {
    fn from(flag: ArrivalsFlag) -> Self {
        match flag {
            ArrivalsFlag::Constant => Self::Constant,
            ArrivalsFlag::Poisson => Self::Poisson,
        }
    }
}

/// A server, a model and requests for it, tried once.
pub(crate) struct Bench {
    pub(crate) subject: Subject,
    payload: Payload,
    runtime: Runtime,
    timeout: Duration,
    warm_up: Duration,
}

/// What one run found.
pub(crate) struct Measured {
    pub(crate) report: Report,
    pub(crate) cpu: CpuFigures,
}

impl Bench {
    /// Finds or starts the server, and sends one request to see that it is understood.
    pub(crate) fn prepare(flags: &LoadFlags) -> anyhow::Result<Self> {
        let subject = Subject::find(flags.target.as_deref(), &flags.sources, flags.access()?, flags.server_pid)?;
        let payload = Payload::prepare(flags, &subject)?;
        // The server needs the cores more than the generator does.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        if let Err(words) = runtime.block_on(corymb_loadtest::probe(&subject.target, &payload.calls[0], flags.timeout))
        {
            match payload.is_made_up {
                true => bail!("{words}; the request was made up from the model's metadata: send your own by --data"),
                false => bail!("{words}"),
            }
        }
        Ok(Self { subject, payload, runtime, timeout: flags.timeout, warm_up: flags.warm_up })
    }

    /// Loads for a time. SIGINT ends it early, with what has been measured.
    pub(crate) fn run(&self, mode: Mode, duration: Duration, seed: u64, view: bool) -> anyhow::Result<Measured> {
        let plan = Plan {
            target: self.subject.target.clone(),
            calls: self.payload.calls.clone(),
            mode,
            warm_up: self.warm_up,
            duration,
            timeout: self.timeout,
            seed,
        };
        let mut view = view::View::new(view);
        let mut cpu = Cpu::new(self.subject.pid);
        let report = self.runtime.block_on(async {
            let stop = async {
                // Without a way to listen for it, SIGINT ends the process, as it would anyway.
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let progress = |progress: &corymb_loadtest::Progress| {
                cpu.at(progress);
                view.show(progress);
            };
            corymb_loadtest::run(plan, progress, stop).await
        });
        view.end();
        let report = report?;
        let cpu = cpu.end();
        Ok(Measured { report, cpu })
    }

    /// What is measured, in a line.
    pub(crate) fn title(&self) -> String {
        format!(
            "{} at {}, {}, {} a request ({})",
            self.subject.model,
            self.subject.target,
            self.payload.protocol.name(),
            bytesize::ByteSize(self.payload.bytes as u64).display().si(),
            self.payload.origin
        )
    }

    /// How requests are sent.
    pub(crate) fn protocol(&self) -> &'static str {
        self.payload.protocol.name()
    }

    /// The same for programs.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "target": self.subject.target.to_string(),
            "model": self.subject.model,
            "protocol": self.payload.protocol.name(),
            "request_bytes": self.payload.bytes,
            "data": self.payload.origin,
            "batching": self.subject.metadata.pointer("/parameters/batching"),
        })
    }
}

/// Measures once.
pub(crate) fn bench(arguments: &BenchArguments) -> anyhow::Result<()> {
    let mode = match (arguments.rate, arguments.concurrency) {
        (None, callers) => Mode::Closed { concurrency: callers.unwrap_or(8) },
        (Some(rate), most) => {
            Mode::Open { rate, arrivals: arguments.arrivals.into(), connections: most.unwrap_or(1000) }
        }
    };
    let bench = Bench::prepare(&arguments.load)?;
    if !arguments.json {
        println!("{}", bench.title());
    }
    let measured = bench.run(mode, arguments.duration, arguments.seed, !arguments.json)?;
    if measured.report.requests == 0 {
        bail!("no request was meant to start in the time that counts");
    }
    if arguments.json {
        let mut value = bench.describe();
        value["mode"] = describe_mode(mode);
        value["report"] = serde_json::to_value(&measured.report).context("write the report")?;
        value["cpu"] = measured.cpu.json();
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", view::table(mode, &measured.report, &measured.cpu));
    }
    if measured.report.answered == 0 {
        bail!("no request was answered");
    }
    Ok(())
}

fn describe_mode(mode: Mode) -> Value {
    match mode {
        Mode::Closed { concurrency } => json!({"closed": {"concurrency": concurrency}}),
        Mode::Open { rate, arrivals, connections } => {
            json!({"open": {"rate": rate, "arrivals": arrivals, "connections": connections}})
        }
    }
}
