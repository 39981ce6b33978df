//! The real OpenTelemetry Collector, built from `tests/telemetry`, and what it was sent.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{LIMIT, root, skip};

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Waits until somebody listens on a port of this machine.
pub(crate) fn wait_listening(port: u16, child: &mut Child) {
    let deadline = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().expect("our child").is_none(), "it ended before it listened on {port}");
        assert!(Instant::now() < deadline, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The Collector's binary; none without Go.
pub(crate) fn binary() -> Option<PathBuf> {
    built_with_go(".")
}

/// The program in a folder of `tests/telemetry`, built once; none without Go.
pub(crate) fn built_with_go(folder: &str) -> Option<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    if Command::new("go").arg("version").output().is_err() {
        skip("what takes telemetry is built with Go, which is not there");
        return None;
    }
    // Others who want it wait for it, and do not build it again.
    let mut built = BUILT.lock().expect("nobody panicked");
    if let Some(path) = built.get(folder) {
        return Some(path.clone());
    }
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("telemetry-{}", folder.replace('.', "collector")));
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(&path)
        .arg(format!("./{folder}"))
        .current_dir(root().join("tests/telemetry"))
        .output()
        .expect("go runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built.insert(folder.to_owned(), path.clone());
    Some(path)
}

/// A running Collector. Killed when dropped.
pub(crate) struct Collector {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) grpc: String,
    pub(crate) http: String,
}

impl Collector {
    pub(crate) fn start() -> Option<Self> {
        let binary = binary()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lines = folder.path().join("lines");
        let exporters = format!("  lines: {{path: '{}'}}\n", lines.display());
        let pipelines = "    traces: {receivers: [otlp], exporters: [lines]}\n    metrics: {receivers: [otlp], exporters: [lines]}\n    \
                         logs: {receivers: [otlp], exporters: [lines]}\n";
        Some(Self::run(&binary, folder, "", &exporters, pipelines))
    }

    /// One that does with metrics what `deploy/telemetry/collector.yaml` says, and hands them on to `prometheus`.
    pub(crate) fn deployed(prometheus: &str) -> Option<Self> {
        let binary = binary()?;
        let text = std::fs::read_to_string(root().join("deploy/telemetry/collector.yaml")).expect("the configuration");
        let (_, line) = text.split_once("    metrics:\n      receivers: [otlp]\n").expect("the pipeline of metrics");
        let processors = line.lines().next().expect("its processors").trim();
        let pipelines = format!(
            "    metrics:\n      receivers: [otlp]\n      {processors}\n      exporters: [otlp_http/metrics]\n"
        );
        let exporters = format!(
            "  otlp_http/metrics:\n    endpoint: {prometheus}/api/v1/otlp\n    compression: none\n    tls: {{insecure: true}}\n"
        );
        // Comments between its parts have empty lines around them.
        let begin = text.find("\nprocessors:\n").expect("processors");
        let end = text.find("\nexporters:\n").expect("exporters");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Some(Self::run(&binary, folder, &text[begin..end], &exporters, &pipelines))
    }

    fn run(binary: &Path, folder: tempfile::TempDir, processors: &str, exporters: &str, pipelines: &str) -> Self {
        let (grpc, http) = (free_port(), free_port());
        let config = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:{grpc}'}}\n      \
             http: {{endpoint: '127.0.0.1:{http}'}}\n{processors}\nexporters:\n{exporters}service:\n  telemetry:\n    \
             metrics: {{level: none}}\n  pipelines:\n{pipelines}"
        );
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("created");
        let mut command = Command::new(binary);
        command.arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the Collector starts");
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let mut collector = Self { child, folder, grpc: address(grpc), http: address(http) };
        for port in [grpc, http] {
            wait_listening(port, &mut collector.child);
        }
        collector
    }

    /// What it has been sent so far.
    pub(crate) fn received(&self) -> Received {
        let text = std::fs::read_to_string(self.folder.path().join("lines")).unwrap_or_default();
        Received(text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Batches in OTLP's JSON, in the order of their arrival.
pub(crate) struct Received(Vec<Value>);

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

impl Received {
    /// The things of one kind, three levels down, each with its resource.
    fn all<'a>(
        &'a self,
        resources: &'a str,
        scopes: &'a str,
        things: &'a str,
    ) -> impl Iterator<Item = (&'a Value, &'a Value)> {
        self.0.iter().flat_map(move |batch| {
            list(batch, resources).iter().flat_map(move |resource| {
                list(resource, scopes)
                    .iter()
                    .flat_map(move |scope| list(scope, things).iter().map(move |thing| (&resource["resource"], thing)))
            })
        })
    }

    pub(crate) fn spans(&self) -> Vec<&Value> {
        self.all("resourceSpans", "scopeSpans", "spans").map(|(_, span)| span).collect()
    }

    pub(crate) fn logs(&self) -> Vec<&Value> {
        self.all("resourceLogs", "scopeLogs", "logRecords").map(|(_, record)| record).collect()
    }

    /// Every report of the metric of that name.
    pub(crate) fn metric(&self, name: &str) -> Vec<&Value> {
        let all = self.all("resourceMetrics", "scopeMetrics", "metrics");
        all.filter(|(_, metric)| metric["name"] == name).map(|(_, metric)| metric).collect()
    }

    /// Attributes of each resource that sent something.
    pub(crate) fn resources(&self) -> Vec<&Value> {
        let all = ["resourceSpans", "resourceMetrics", "resourceLogs"].map(|kind| {
            self.0.iter().flat_map(move |batch| list(batch, kind).iter().map(|resource| &resource["resource"]))
        });
        all.into_iter().flatten().collect()
    }
}

/// The value of an attribute, as text.
pub(crate) fn attribute(of: &Value, name: &str) -> Option<String> {
    let value = &list(of, "attributes").iter().find(|attribute| attribute["key"] == name)?["value"];
    let value = value.as_object()?.values().next()?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The points of a metric, whatever its kind, and the name of the kind.
pub(crate) fn points(metric: &Value) -> (&'static str, &[Value]) {
    for kind in ["gauge", "sum", "histogram"] {
        if metric[kind].is_object() {
            return (kind, list(&metric[kind], "dataPoints"));
        }
    }
    panic!("of no known kind: {metric}");
}
