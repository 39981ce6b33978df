//! The configuration: flags, environment and file as typed, then as built. The only place that reads the environment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use corymb_core::RUN_BYTES;
use corymb_engine::{EngineOptions, MemoryBudget};
use corymb_hardware::{Hardware, MAX_THREADS, ThreadOverrides, ThreadPlan};
use corymb_repository::nearest;
use corymb_server::{KnativeStats, ServerOptions};

use crate::sources::SourceFlags;
use crate::telemetry::TelemetryOptions;
use crate::wiring::LibrarySearch;

const PREFIX: &str = "CORYMB_";

/// Set by Knative, read when neither flag nor `CORYMB_PORT` is given.
const KNATIVE_PORT: &str = "PORT";

/// The pod's name, which Knative's and most other manifests set; without it, the host's name is the pod's.
const POD_NAME: &str = "POD_NAME";
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Looking costs a walk through the folders, or a question to the store.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// Keys with several values: a list in the file, words in a variable.
const LISTS: [&str; 3] = ["model", "verify_signature", "admin_root"];

/// Requests of bodies that are held at once: so many times the largest.
const BODIES: usize = 4;

/// What `serve` takes: each is a flag, a variable `CORYMB_…` and a key of the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeFlags {
    #[command(flatten)]
    pub(crate) sources: SourceFlags,
    /// A configuration file in TOML: the names of these flags with _ for -
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on [default: 0.0.0.0]
    #[arg(long)]
    host: Option<IpAddr>,
    /// The one port of every protocol; 0 picks one [default: $PORT, or 8080]
    #[arg(long, alias = "http_port")]
    port: Option<u16>,
    /// A second port
    #[arg(long, alias = "grpc_port")]
    grpc_port: Option<u16>,
    /// Serve the other models when one fails to load
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    keep_going: Option<bool>,
    /// Listen before the models are ready, for pods with HTTP probes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    listen_early: Option<bool>,
    /// Look for changes of models so often, and load them while serving [default: never]
    #[arg(long, value_parser = interval, value_name = "INTERVAL")]
    poll: Option<Duration>,
    /// Load and unload models by request: POST /v2/repository/models/M/load and its like
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    admin: Option<bool>,
    /// Where else, beside the sources named above, models that are loaded by request may lie; may be repeated
    #[arg(long, value_name = "URI")]
    admin_root: Vec<String>,
    /// Answer Knative's autoscaler on this address, in pods without its queue-proxy: GET /metrics
    #[arg(long, value_name = "ADDR")]
    knative_stats: Option<SocketAddr>,
    /// How long to go on serving after the signal to stop, while endpoints disappear [default: 0s]
    #[arg(long, value_parser = humantime::parse_duration)]
    drain_delay: Option<Duration>,
    /// How long stopping may take in all [default: 25s]
    #[arg(long, value_parser = humantime::parse_duration)]
    drain_timeout: Option<Duration>,
    /// Threads that compute [default: one per core that may be used]
    #[arg(long, value_parser = threads, value_name = "N")]
    workers: Option<usize>,
    /// Threads that move bytes [default: as many as workers, at most one per core]
    #[arg(long, value_parser = threads, value_name = "N")]
    io_threads: Option<usize>,
    /// Requests held at once [default: 512 a worker]
    #[arg(long, value_parser = positive)]
    max_in_flight: Option<usize>,
    /// Bytes of one request's body or gRPC message [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    max_body: Option<ByteSize>,
    /// Memory that one run of a model may take on the processor [default: 4GiB, at most 3/4 of the memory limit]
    #[arg(long, value_parser = some_bytes, value_name = "SIZE")]
    max_run_memory: Option<ByteSize>,
    /// Requests waiting for one model, where its manifest does not say [default: 512 a worker]
    #[arg(long, value_parser = positive)]
    max_queue: Option<usize>,
    /// From a request's first byte to the end of its headers [default: 30s]
    #[arg(long, value_parser = humantime::parse_duration)]
    header_timeout: Option<Duration>,
    /// A body that makes no progress for this long is given up [default: 30s]
    #[arg(long, value_parser = humantime::parse_duration)]
    body_timeout: Option<Duration>,
    /// A connection without requests is closed after this long [default: 120s]
    #[arg(long, value_parser = humantime::parse_duration)]
    idle_timeout: Option<Duration>,
    /// auto is text on a terminal and JSON elsewhere [default: auto]
    #[arg(long)]
    log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace, or directives such as info,corymb_engine=debug [default: info]
    #[arg(long)]
    log_level: Option<String>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

fn some_bytes(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>()? {
        ByteSize(0) => Err("expected at least 1".to_owned()),
        size => Ok(size),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if interval < SHORTEST_POLL => Err(format!("expected at least {SHORTEST_POLL:?}")),
        Ok(interval) => Ok(interval),
        Err(error) => Err(error.to_string()),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        number if number > MAX_THREADS => Err(format!("expected at most {MAX_THREADS}")),
        number => Ok(number),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

/// The configuration as built.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) sources: SourceFlags,
    pub(crate) listen: SocketAddr,
    pub(crate) second: Option<SocketAddr>,
    pub(crate) listen_early: bool,
    pub(crate) poll: Option<Duration>,
    pub(crate) admin: bool,
    pub(crate) admin_root: Vec<String>,
    pub(crate) threads: ThreadPlan,
    pub(crate) knative_stats: Option<SocketAddr>,
    pub(crate) engine: EngineOptions,
    pub(crate) libraries: LibrarySearch,
    /// What one run may take.
    pub(crate) run_bytes: u64,
    pub(crate) server: ServerOptions,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) telemetry: TelemetryOptions,
    /// Things to say once there is a log.
    pub(crate) warnings: Vec<String>,
}

/// What the process was given beside its arguments.
pub(crate) type Environment = BTreeMap<String, String>;

/// The environment of this process.
pub(crate) fn environment() -> Environment {
    // A value that is not UTF-8 cannot be meant for us.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

impl Config {
    /// Flags before environment before file before defaults.
    pub(crate) fn build(flags: ServeFlags, environment: &Environment, hardware: &Hardware) -> anyhow::Result<Self> {
        let mut warnings = Vec::new();
        let from_environment = environment_layer(environment, &mut warnings)?;
        let mut layers = flags.or(from_environment);
        if layers.port.is_none()
            && let Some(port) = environment.get(KNATIVE_PORT)
        {
            layers.port = Some(port.parse().with_context(|| format!("$PORT is '{port}'; expected a port number"))?);
        }
        if let Some(path) = layers.config.clone() {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            layers = layers.or(file_layer(&text).with_context(|| format!("{}", path.display()))?);
        }
        let mut config = layers.with_defaults(environment, hardware, warnings);
        if config.knative_stats.is_some() {
            config.server.knative_stats = Some(KnativeStats::new(pod_name(environment)?).context("--knative-stats")?);
        }
        Ok(config)
    }
}

impl ServeFlags {
    fn or(self, lower: Self) -> Self {
        Self {
            sources: self.sources.or(lower.sources),
            config: self.config.or(lower.config),
            host: self.host.or(lower.host),
            port: self.port.or(lower.port),
            grpc_port: self.grpc_port.or(lower.grpc_port),
            keep_going: self.keep_going.or(lower.keep_going),
            listen_early: self.listen_early.or(lower.listen_early),
            poll: self.poll.or(lower.poll),
            admin: self.admin.or(lower.admin),
            admin_root: if self.admin_root.is_empty() { lower.admin_root } else { self.admin_root },
            knative_stats: self.knative_stats.or(lower.knative_stats),
            drain_delay: self.drain_delay.or(lower.drain_delay),
            drain_timeout: self.drain_timeout.or(lower.drain_timeout),
            workers: self.workers.or(lower.workers),
            io_threads: self.io_threads.or(lower.io_threads),
            max_in_flight: self.max_in_flight.or(lower.max_in_flight),
            max_body: self.max_body.or(lower.max_body),
            max_run_memory: self.max_run_memory.or(lower.max_run_memory),
            max_queue: self.max_queue.or(lower.max_queue),
            header_timeout: self.header_timeout.or(lower.header_timeout),
            body_timeout: self.body_timeout.or(lower.body_timeout),
            idle_timeout: self.idle_timeout.or(lower.idle_timeout),
            log_format: self.log_format.or(lower.log_format),
            log_level: self.log_level.or(lower.log_level),
        }
    }

    fn with_defaults(self, environment: &Environment, hardware: &Hardware, mut warnings: Vec<String>) -> Config {
        let telemetry = TelemetryOptions::build(environment, &mut warnings);
        let host = self.host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let server = ServerOptions::default();
        let max_body =
            self.max_body.map_or(server.max_body, |size| usize::try_from(size.as_u64()).unwrap_or(usize::MAX));
        let overrides = ThreadOverrides { workers: self.workers, io_threads: self.io_threads };
        let threads = ThreadPlan::new(&hardware.cores, overrides);
        warnings.extend(threads.warning());
        let mut engine = engine_options(&self.sources, environment);
        engine.workers = threads.workers;
        engine.memory = memory_budget(hardware);
        // Wide enough that an autoscaler sees the excess: far above ten times the concurrency that keeps a core busy.
        let wide = 512 * engine.workers;
        engine.max_in_flight = self.max_in_flight.unwrap_or(wide);
        engine.max_queue = self.max_queue.unwrap_or(wide);
        engine.max_body_bytes = max_body.saturating_mul(BODIES);
        engine.keep_going = self.keep_going.unwrap_or(false);
        Config {
            listen: SocketAddr::new(host, self.port.unwrap_or(8080)),
            second: self.grpc_port.map(|port| SocketAddr::new(host, port)),
            listen_early: self.listen_early.unwrap_or(false),
            poll: self.poll,
            admin: self.admin.unwrap_or(false),
            admin_root: self.admin_root,
            knative_stats: self.knative_stats,
            server: ServerOptions {
                max_body,
                header_timeout: self.header_timeout.unwrap_or(server.header_timeout),
                body_timeout: self.body_timeout.unwrap_or(server.body_timeout),
                idle_timeout: self.idle_timeout.unwrap_or(server.idle_timeout),
                drain_delay: self.drain_delay.unwrap_or(server.drain_delay),
                drain_timeout: self.drain_timeout.unwrap_or(server.drain_timeout),
                propagators: telemetry.propagators.clone(),
                ..server
            },
            threads,
            engine,
            libraries: library_search(&self.sources, environment),
            run_bytes: self.max_run_memory.map_or_else(|| run_bytes(hardware), |size| size.as_u64()),
            sources: self.sources,
            log_format: self.log_format.unwrap_or(LogFormat::Auto),
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
            telemetry,
            warnings,
        }
    }
}

/// What one run may take where nobody says: the process has to hold models and requests beside it.
fn run_bytes(hardware: &Hardware) -> u64 {
    hardware.memory.limit().map_or(RUN_BYTES, |limit| RUN_BYTES.min(limit.limit_bytes / 4 * 3))
}

/// What the control group or the machine allows; none where it cannot be told.
fn memory_budget(hardware: &Hardware) -> Option<MemoryBudget> {
    let limit = hardware.memory.limit()?.limit_bytes;
    let memory = hardware.memory.clone();
    Some(MemoryBudget::new(limit, move || memory.available_bytes().unwrap_or(limit)))
}

fn pod_name(environment: &Environment) -> anyhow::Result<String> {
    if let Some(name) = environment.get(POD_NAME).filter(|name| !name.is_empty()) {
        return Ok(name.clone());
    }
    let name = std::fs::read_to_string(HOST_NAME_FILE)
        .with_context(|| format!("--knative-stats: {POD_NAME} is not set, and {HOST_NAME_FILE}"))?;
    Ok(name.trim().to_owned())
}

/// The part of the configuration that every command with a model needs.
pub(crate) fn engine_options(sources: &SourceFlags, environment: &Environment) -> EngineOptions {
    let defaults = EngineOptions::default();
    EngineOptions {
        backend: sources.backend.clone().unwrap_or(defaults.backend),
        device: sources.device.clone().unwrap_or(defaults.device),
        cache: sources.cache.clone().or_else(|| cache_folder(environment)),
        ..defaults
    }
}

/// Where ONNX Runtime's library is looked for.
pub(crate) fn library_search(sources: &SourceFlags, environment: &Environment) -> LibrarySearch {
    let path = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let paths =
        |name: &str| environment.get(name).map(|value| std::env::split_paths(value).collect()).unwrap_or_default();
    let named = sources.onnxruntime.clone().or_else(|| path("CORYMB_ONNXRUNTIME"));
    LibrarySearch {
        disabled: named.as_ref().is_some_and(|named| named.as_os_str() == "none"),
        explicit: named,
        dylib_path: path("ORT_DYLIB_PATH"),
        beside: std::env::current_exe().ok().and_then(|binary| binary.parent().map(PathBuf::from)),
        library_path: paths("LD_LIBRARY_PATH"),
        system: LibrarySearch::system_folders(),
        virtual_env: path("VIRTUAL_ENV"),
        conda_prefix: path("CONDA_PREFIX"),
        path: paths("PATH"),
        home: path("HOME"),
    }
}

/// The user's cache folder for us.
pub(crate) fn cache_folder(environment: &Environment) -> Option<PathBuf> {
    let home = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = home("XDG_CACHE_HOME").or_else(|| home("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("corymb"))
}

/// Parses one layer with the parser of the flags, so that a duration, a size or a choice is understood alike in all.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Layer {
    #[command(flatten)]
    flags: ServeFlags,
}

fn layer(arguments: Vec<String>) -> Result<ServeFlags, clap::Error> {
    let matches = Layer::command().try_get_matches_from(arguments)?;
    Layer::from_arg_matches(&matches).map(|layer| layer.flags)
}

/// clap's text draws usage and hints over many lines: the first says what is wrong.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// The flags' names, as keys of the file: `max_in_flight`.
fn keys() -> Vec<String> {
    Layer::command().get_arguments().map(|argument| argument.get_id().to_string()).collect()
}

fn environment_layer(environment: &Environment, warnings: &mut Vec<String>) -> anyhow::Result<ServeFlags> {
    let keys = keys();
    let names: Vec<String> = keys.iter().map(|key| format!("{PREFIX}{}", key.to_uppercase())).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut flags = ServeFlags::default();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let Some(index) = known.iter().position(|known| known == name) else {
            // Kubernetes sets variables of this form in every pod beside a Service named corymb.
            if !is_service_link(name) {
                let hint = nearest(name, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                warnings.push(format!("the variable {name} is unknown and ignored{hint}"));
            }
            continue;
        };
        if value.starts_with("tcp://") && name == "CORYMB_PORT" {
            warnings
                .push(format!("CORYMB_PORT is '{value}', which Kubernetes sets for a Service named corymb: ignored"));
            continue;
        }
        let values: Vec<&str> =
            if LISTS.contains(&&*keys[index]) { value.split_whitespace().collect() } else { vec![value] };
        let flag = keys[index].replace('_', "-");
        let arguments = values.iter().map(|value| format!("--{flag}={value}")).collect();
        let one = layer(arguments).map_err(|error| anyhow::anyhow!("{name}: {}", first_line(&error)))?;
        flags = flags.or(one);
    }
    Ok(flags)
}

fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_") || name.starts_with("CORYMB_PORT_")
}

fn file_layer(text: &str) -> anyhow::Result<ServeFlags> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        anyhow::anyhow!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    let keys = keys();
    // A file that names another would raise the question which of the two wins.
    let known: Vec<&str> = keys.iter().map(String::as_str).filter(|key| *key != "config").collect();
    corymb_repository::check_keys(&table, &known).map_err(anyhow::Error::msg)?;
    let mut arguments = Vec::new();
    for (key, value) in &table {
        let flag = key.replace('_', "-");
        let values = match value {
            toml::Value::Array(values) if LISTS.contains(&&**key) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                other => bail!("`{key}` is a {}; expected a text, a number, or true or false", other.type_str()),
            };
            arguments.push(format!("--{flag}={value}"));
        }
    }
    layer(arguments).map_err(|error| anyhow::anyhow!(first_line(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> ServeFlags {
        layer(arguments.iter().map(|&argument| argument.to_owned()).collect()).expect("valid")
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn build(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        Config::build(flags(arguments), &environment(variables), &Hardware::read())
    }

    fn config_file(text: &str) -> (std::path::PathBuf, impl Drop) {
        struct Remove(PathBuf);
        impl Drop for Remove {
            fn drop(&mut self) {
                let _ = std::fs::remove_file(&self.0);
            }
        }
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corymb-config-{}-{count}.toml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        (path.clone(), Remove(path))
    }

    #[test]
    fn flags_win_over_the_environment_over_the_port_of_knative_over_the_file() {
        let (path, _remove) = config_file("port = 1\nmax_body = '64MiB'\nmodel = ['a=/a', 'b=/b']\nkeep_going = true");
        let file = path.to_string_lossy();
        let config_flag = format!("--config={file}");
        let all = [("CORYMB_PORT", "3"), ("PORT", "2")];
        let port =
            |arguments: &[&str], variables: &[(&str, &str)]| build(arguments, variables).expect("valid").listen.port();
        assert_eq!(port(&["--port=4", &config_flag], &all), 4);
        assert_eq!(port(&[&config_flag], &all), 3);
        assert_eq!(port(&[&config_flag], &all[1..]), 2);
        assert_eq!(port(&[&config_flag], &[]), 1);
        assert_eq!(port(&[], &[]), 8080);
        assert_eq!(port(&["--http_port=9"], &[]), 9);

        let config = build(&[], &[("CORYMB_CONFIG", &file)]).expect("valid");
        assert_eq!(config.server.max_body, 64 << 20);
        assert!(config.engine.keep_going);
        assert_eq!(config.sources.model.len(), 2);
        assert!(!build(&["--keep-going=false"], &[("CORYMB_CONFIG", &file)]).expect("valid").engine.keep_going);
    }

    #[test]
    fn lists_come_from_everywhere() {
        let (path, _remove) = config_file("admin = true\nadmin_root = ['/c']\npoll = '2s'");
        let config = build(&[], &[("CORYMB_CONFIG", &path.to_string_lossy())]).expect("valid");
        assert_eq!((config.admin_root, config.poll), (vec!["/c".to_owned()], Some(Duration::from_secs(2))));
        let config = build(&[], &[("CORYMB_ADMIN_ROOT", "/a s3://b/c")]).expect("valid");
        assert_eq!((config.admin_root.len(), config.admin), (2, false));
        assert!(build(&[], &[("CORYMB_POLL", "1ms")]).is_err());
    }

    #[test]
    fn a_pods_name_has_a_bound() {
        let long = "p".repeat(254);
        let message = |name: &str| build(&["--knative-stats=127.0.0.1:0"], &[("POD_NAME", name)]);
        assert!(message(&long[..253]).expect("valid").server.knative_stats.is_some());
        let error = format!("{:#}", message(&long).expect_err("too long"));
        assert_eq!(error, "--knative-stats: the pod's name has 254 bytes; expected at most 253");
        assert!(build(&[], &[("POD_NAME", &long)]).expect("nobody reads it").server.knative_stats.is_none());
    }

    #[test]
    fn units_are_understood_alike_everywhere() {
        let config = build(&["--drain-delay=250ms"], &[("CORYMB_MAX_BODY", "1000"), ("CORYMB_KEEP_GOING", "true")]);
        let config = config.expect("valid");
        assert_eq!(config.server.drain_delay, Duration::from_millis(250));
        assert_eq!(config.server.max_body, 1000);
        assert!(config.engine.keep_going);
    }

    #[test]
    fn a_run_may_take_what_is_named_else_part_of_the_memory() {
        let named = |size: &str| build(&[], &[("CORYMB_MAX_RUN_MEMORY", size)]);
        assert_eq!(named("1GiB").expect("valid").run_bytes, 1 << 30);
        let error = format!("{:#}", named("0").expect_err("no run takes nothing"));
        assert!(error.contains("expected at least 1"), "{error}");
        for (gibibytes, expected) in [(1, 3 << 28), (64, 4 << 30)] {
            let root = tempfile::tempdir().expect("a temporary folder");
            std::fs::create_dir(root.path().join("proc")).expect("made");
            let total = format!("MemTotal: {} kB\n", gibibytes << 20);
            std::fs::write(root.path().join("proc/meminfo"), total).expect("written");
            assert_eq!(run_bytes(&Hardware::read_below(root.path())), expected);
        }
    }

    #[test]
    fn threads_are_as_many_as_are_named() {
        let config = build(&["--workers=3"], &[("CORYMB_IO_THREADS", "1")]).expect("valid");
        assert_eq!((config.engine.workers, config.threads.io_threads), (3, 1));
        assert_eq!(config.engine.max_queue, 3 * 512);
        for wrong in ["0", "1025", "-1"] {
            assert!(build(&[], &[("CORYMB_WORKERS", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mistakes_name_where_they_were_made() {
        let message = |variables: &[(&str, &str)]| format!("{:#}", build(&[], variables).expect_err("wrong"));
        assert!(message(&[("CORYMB_MAX_QUEUE", "0")]).starts_with("CORYMB_MAX_QUEUE: "));
        assert!(message(&[("CORYMB_DRAIN_DELAY", "soon")]).contains("invalid value 'soon' for '--drain-delay"));
        assert_eq!(
            message(&[("PORT", "http")]),
            "$PORT is 'http'; expected a port number: invalid digit found in string"
        );
        for (text, expected) in [
            ("prot = 1", "unknown key `prot`; did you mean `port`?"),
            ("port = 1.5", "`port` is a float; expected a text, a number, or true or false"),
            ("config = 'x'", "unknown key `config`"),
            ("port = ", "line 1"),
        ] {
            let (path, _remove) = config_file(text);
            let message = message(&[("CORYMB_CONFIG", &path.to_string_lossy())]);
            assert!(message.contains(expected), "{message}");
            assert!(message.starts_with(&*path.to_string_lossy()), "{message}");
        }
        assert!(message(&[("CORYMB_CONFIG", "/absent.toml")]).starts_with("/absent.toml: No such file"));
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_named_corymb_does_no_harm() {
        let variables = [
            ("CORYMB_PORT", "tcp://10.0.0.7:8080"),
            ("CORYMB_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("CORYMB_SERVICE_HOST", "10.0.0.7"),
            ("CORYMB_SERVICE_PORT", "8080"),
            ("CORYMB_MAX_QUEU", "7"),
        ];
        let config = build(&[], &variables).expect("valid");
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
        assert!(config.warnings[0].ends_with("did you mean CORYMB_MAX_QUEUE?"), "{}", config.warnings[0]);
    }
}
