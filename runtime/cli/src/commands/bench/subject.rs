//! Whom the load goes to: a server that runs already, or one that is started for the time.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use corymb_core::Signature;
use corymb_loadtest::{Access, Call, Target};
use corymb_wire::v2;
use http::header::{SERVER, VIA};
use http::{HeaderMap, HeaderName, Response};
use serde_json::Value;

use crate::config::SourceFlags;

/// How long a server may take to say what it has.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// How long a server may take to load its models.
const START_LIMIT: Duration = Duration::from_secs(300);

/// A server with the model that requests are for.
pub(crate) struct Subject {
    pub(crate) target: Target,
    pub(crate) model: String,
    /// What clients see.
    pub(crate) signature: Signature,
    /// V2's metadata of the model.
    pub(crate) metadata: Value,
    pub(crate) pid: Option<u32>,
    /// An ingress or another proxy answered for it.
    pub(crate) is_proxied: bool,
    /// From its start to its being ready, where it was started here.
    pub(crate) start: Option<Duration>,
    _server: Option<OwnServer>,
}

/// Killed when dropped: nobody else uses it, so there is nothing to drain.
struct OwnServer(Child);

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether it is the address of a running server, and no model.
pub(crate) fn is_url(named: &str) -> bool {
    named.starts_with("http://") || named.starts_with("https://")
}

impl Subject {
    /// `named` is a URL, or a model to be served, beside those of the flags.
    pub(super) fn find(
        named: Option<&str>,
        sources: &SourceFlags,
        access: Access,
        pid: Option<u32>,
    ) -> anyhow::Result<Self> {
        // A bare model's name is that of its file; the one there is will be found.
        let wanted = sources.model.first().map(|model| model.name.clone()).or_else(|| sources.model_name.clone());
        if let Some(url) = named.filter(|named| is_url(named)) {
            let target = Target::parse(url)?.reached_by(access)?;
            let Described { model, signature, metadata, is_proxied } = describe(&target, wanted.as_deref())?;
            return Ok(Self { target, model, signature, metadata, pid, is_proxied, start: None, _server: None });
        }
        let mut sources = sources.clone();
        if let Some(model) = named {
            if let Some(twice) = sources.model_dir {
                bail!("there are two models: '{model}' and --model-dir {twice}");
            }
            sources.model_dir = Some(model.to_owned());
        }
        let begin = Instant::now();
        let mut server = start(&sources)?;
        let address = wait(&mut server.0)?;
        let started = begin.elapsed();
        let target = Target::parse(&format!("http://{address}"))?;
        let Described { model, signature, metadata, is_proxied } = describe(&target, wanted.as_deref())?;
        let (pid, start) = (Some(server.0.id()), Some(started));
        Ok(Self { target, model, signature, metadata, pid, is_proxied, start, _server: Some(server) })
    }
}

impl Subject {
    /// The largest batch times the instances, where the server tells them: as they are now, since they may have been found out by the
    /// load itself.
    pub(crate) fn batch_slots(&self) -> Option<usize> {
        self.slots_of_metadata().or_else(|| self.slots_of_configuration())
    }

    /// By the metadata's `parameters`, as this server tells it.
    fn slots_of_metadata(&self) -> Option<usize> {
        let answer = ask(&self.target, &format!("/v2/models/{}", self.model), None).ok()?;
        let metadata: Value = serde_json::from_slice(answer.body()).ok()?;
        let number = |name: &str| metadata["parameters"][name].as_str()?.parse::<usize>().ok();
        number("max_batch_size")?.checked_mul(number("instances")?)
    }

    /// By the configuration, as Triton tells it.
    fn slots_of_configuration(&self) -> Option<usize> {
        let answer = ask(&self.target, &format!("/v2/models/{}/config", self.model), None).ok()?;
        let config: Value = serde_json::from_slice(answer.body()).ok()?;
        let batch = config["max_batch_size"].as_u64()?.max(1);
        let groups = config["instance_group"].as_array()?;
        let instances = groups.iter().filter_map(|group| group["count"].as_u64()).sum::<u64>().max(1);
        usize::try_from(batch.checked_mul(instances)?).ok()
    }
}

fn start(sources: &SourceFlags) -> anyhow::Result<OwnServer> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(["serve", "--host", "127.0.0.1", "--port", "0", "--log-format", "json", "--log-level", "info"]);
    for model in &sources.model {
        command.arg(format!("--model={}={}", model.name, model.uri));
    }
    for signer in &sources.verify_signature {
        command.arg("--verify-signature").arg(signer.typed());
    }
    for library in &sources.custom_operators {
        command.arg("--custom-operators").arg(library.typed());
    }
    let named = [
        ("model-dir", sources.model_dir.clone()),
        ("model-name", sources.model_name.clone()),
        ("backend", sources.backend.clone()),
        ("device", sources.device.clone()),
        ("onnxruntime", sources.onnxruntime.as_ref().map(|path| path.to_string_lossy().into_owned())),
        ("cache", sources.cache.as_ref().map(|path| path.to_string_lossy().into_owned())),
        ("cache-size", sources.cache_size.map(|size| size.as_u64().to_string())),
        ("download-timeout", sources.download_timeout.map(|limit| format!("{}ms", limit.as_millis()))),
    ];
    if sources.offline {
        command.arg("--offline");
    }
    for (flag, value) in named {
        if let Some(value) = value {
            command.arg(format!("--{flag}={value}"));
        }
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    Ok(OwnServer(child.context("start a server")?))
}

/// Waits for the start line; answers the address in it. The log is read on, so that the server never waits for us.
fn wait(server: &mut Child) -> anyhow::Result<String> {
    let stderr = server.stderr.take().context("the server's log is not piped")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Nobody listens once it has started.
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + START_LIMIT;
    let mut last = String::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == "serving"
            && let Some(address) = event["address"].as_str()
        {
            return Ok(address.to_owned());
        }
        last = line;
    }
    bail!("the server did not come up: {}", last.trim_start_matches("error: "))
}

struct Described {
    model: String,
    signature: Signature,
    metadata: Value,
    is_proxied: bool,
}

/// Whether a proxy says so of itself. Knative's queue-proxy does not; the ingress in front of it does.
fn is_proxied(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, known: &[&str]| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        known.iter().any(|known| value.contains(known))
    };
    headers.contains_key(VIA)
        || headers.contains_key("x-envoy-upstream-service-time")
        || says(SERVER, &["envoy", "nginx", "haproxy", "traefik", "kong", "caddy"])
}

/// The model that is named, or the only one.
fn describe(target: &Target, name: Option<&str>) -> anyhow::Result<Described> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => only_model(target)?,
    };
    let answer = ask(target, &format!("/v2/models/{name}"), None)?;
    if !answer.status().is_success() {
        bail!("{target} does not describe model '{name}': {}", answer.status());
    }
    let signature = v2::decode_signature(answer.body()).context("read the model's metadata")?;
    let metadata = serde_json::from_slice(answer.body()).context("read the model's metadata")?;
    Ok(Described { model: name, signature, metadata, is_proxied: is_proxied(answer.headers()) })
}

/// As the load will: with its headers, and over its TLS.
fn ask(target: &Target, path: &str, body: Option<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let Call::Rest(call) = Call::rest(path, &[], body)? else { bail!("{path} is no path of REST") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(corymb_loadtest::fetch(target, &call, ANSWER_LIMIT)).map_err(|words| anyhow!("{words}"))
}

fn only_model(target: &Target) -> anyhow::Result<String> {
    let answer = ask(target, "/v2/repository/index", Some(Bytes::new()))?;
    let index: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let names = index.as_array().into_iter().flatten().filter_map(|model| model["name"].as_str());
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => bail!("the server does not say which models it has; name one by --model-name"),
        several => bail!("the server has several models; name one by --model-name: {}", several.join(", ")),
    }
}
