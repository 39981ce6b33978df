//! The configuration: flags, variables and a file as typed, each group of flags in a file of its own, then as built.

mod address;
mod cache;
mod compiler;
mod drain;
mod engine;
mod environment;
mod file;
mod flags;
mod instance;
mod knative;
mod layer;
mod limits;
mod listener;
mod loading;
mod log;
mod models;
mod server;
pub(crate) mod telemetry;
mod threads;
mod timeouts;
mod variables;

use std::net::SocketAddr;
use std::time::Duration;

use corymb_engine::EngineOptions;
use corymb_hardware::{Hardware, ThreadPlan};
use corymb_listener::ListenerOptions;
use corymb_server::ServerOptions;

use self::telemetry::TelemetryOptions;

pub(crate) use self::cache::{cache, try_to_write};
pub(crate) use self::compiler::CompilerFlags;
pub(crate) use self::engine::engine_options;
pub(crate) use self::environment::{Environment, environment};
pub(crate) use self::flags::ServeFlags;
pub(crate) use self::instance::InstanceFlags;
pub(crate) use self::limits::duration;
pub(crate) use self::log::LogFormat;
pub(crate) use self::models::{NamedFile, NamedModel, SourceFlags};

/// The configuration as built.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) sources: SourceFlags,
    pub(crate) listen: SocketAddr,
    pub(crate) second: Option<SocketAddr>,
    pub(crate) listen_early: bool,
    pub(crate) poll: Option<Duration>,
    /// Bytes that models may take together which are loaded when they are asked for; none where they are loaded before.
    pub(crate) on_demand: Option<u64>,
    pub(crate) admin: bool,
    pub(crate) admin_root: Vec<String>,
    pub(crate) threads: ThreadPlan,
    pub(crate) knative_stats: Option<SocketAddr>,
    pub(crate) engine: EngineOptions,
    /// What one run may take.
    pub(crate) run_bytes: u64,
    pub(crate) listener: ListenerOptions,
    pub(crate) server: ServerOptions,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) telemetry: TelemetryOptions,
    /// Things to say once there is a log.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// Flags before environment before file before defaults.
    pub(crate) fn build(flags: ServeFlags, environment: &Environment, hardware: &Hardware) -> anyhow::Result<Self> {
        let mut warnings = Vec::new();
        let mut flags = flags.or(variables::read(environment, &mut warnings)?);
        flags.address = flags.address.or_port_of_knative(environment)?;
        if let Some(path) = flags.config.clone() {
            flags = flags.or(file::read(&path)?);
        }
        flags.address.check()?;
        warnings.extend(flags.sources.without_effect().into_iter().chain(flags.loading.without_effect()));
        let telemetry = TelemetryOptions::build(environment, &mut warnings);
        let threads = flags.threads.plan(hardware);
        warnings.extend(threads.warning());
        warnings.extend(cache(flags.sources.cache.as_ref(), environment).warning);
        let knative_stats = flags.knative.stats(environment)?;
        Ok(Self {
            listen: flags.address.first(),
            second: flags.address.second(),
            listen_early: flags.loading.listen_early.unwrap_or(false),
            on_demand: flags.loading.budget(hardware),
            poll: flags.loading.poll.filter(|_| flags.loading.load_on_demand != Some(true)),
            admin: flags.loading.admin.unwrap_or(false),
            engine: engine::serving(&flags, threads.workers, environment, hardware),
            run_bytes: flags.limits.run_bytes(hardware),
            listener: listener::options(&flags),
            server: server::options(&flags, hardware, telemetry.propagators.clone(), knative_stats),
            knative_stats: flags.knative.knative_stats,
            log_format: flags.log.format(),
            log_level: flags.log.level(),
            sources: flags.sources,
            admin_root: flags.loading.admin_root,
            threads,
            telemetry,
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn flags(arguments: &[&str]) -> ServeFlags {
        layer::parse(arguments.iter().map(|&argument| argument.to_owned()).collect()).expect("valid")
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
        let (path, _remove) = config_file("custom_operators = ['ops=/a.so', '/b']");
        let config = build(&[], &[("CORYMB_CONFIG", &path.to_string_lossy())]).expect("valid");
        let libraries = config.sources.custom_operators;
        assert_eq!((libraries[0].name.as_deref(), &*libraries[1].file), (Some("ops"), std::path::Path::new("/b")));
        assert!(build(&[], &[("CORYMB_CUSTOM_OPERATORS", "ops=")]).is_err());
    }

    #[test]
    fn a_pods_name_has_a_bound() {
        let long = "p".repeat(254);
        let message = |name: &str| build(&["--knative-stats=127.0.0.1:0"], &[("POD_NAME", name)]);
        assert!(message(&long[..253]).expect("valid").server.observe.knative_stats.is_some());
        let error = format!("{:#}", message(&long).expect_err("too long"));
        assert_eq!(error, "--knative-stats: the pod's name has 254 bytes; expected at most 253");
        assert!(build(&[], &[("POD_NAME", &long)]).expect("nobody reads it").server.observe.knative_stats.is_none());
    }

    #[test]
    fn units_are_understood_alike_everywhere() {
        let config = build(&["--drain-delay=250ms"], &[("CORYMB_MAX_BODY", "1000"), ("CORYMB_KEEP_GOING", "true")]);
        let config = config.expect("valid");
        assert_eq!(config.listener.drain_delay, Duration::from_millis(250));
        assert_eq!(config.server.max_body, 1000);
        assert!(config.engine.keep_going);
    }

    #[test]
    fn connections_may_be_given_an_age() {
        assert_eq!(build(&[], &[]).expect("valid").listener.max_connection_age, None);
        let config = build(&["--max-connection-age=10m"], &[]).expect("valid");
        assert_eq!(config.listener.max_connection_age, Some(Duration::from_secs(600)));
        let error = format!("{:#}", build(&[], &[("CORYMB_MAX_CONNECTION_AGE", "0s")]).expect_err("no time at all"));
        assert!(error.contains("expected more than 0"), "{error}");
    }

    #[test]
    fn a_run_may_take_what_is_named() {
        let named = |size: &str| build(&[], &[("CORYMB_MAX_RUN_MEMORY", size)]);
        assert_eq!(named("1GiB").expect("valid").run_bytes, 1 << 30);
        let error = format!("{:#}", named("0").expect_err("no run takes nothing"));
        assert!(error.contains("expected at least 1"), "{error}");
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
        assert_eq!(message(&[("PORT", "http")]), "$PORT is 'http'; expected a port number");
        for (text, expected) in [
            ("prot = 1", "unknown key `prot`; did you mean `port`?"),
            ("port = 1.5", "`port` is of the type float; expected a text, a number, or true or false"),
            ("config = 'x'", "unknown key `config`"),
            ("port = ", "line 1"),
        ] {
            let (path, _remove) = config_file(text);
            let message = message(&[("CORYMB_CONFIG", &path.to_string_lossy())]);
            assert!(message.contains(expected), "{message}");
            assert!(message.starts_with(&format!("--config {}: ", path.display())), "{message}");
        }
        let absent = message(&[("CORYMB_CONFIG", "/absent.toml")]);
        assert!(absent.starts_with("--config /absent.toml: No such file"), "{absent}");
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_named_corymb_does_no_harm() {
        let variables = [
            ("CORYMB_PORT", "tcp://10.0.0.7:8080"),
            ("CORYMB_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("CORYMB_SERVICE_HOST", "10.0.0.7"),
            ("CORYMB_SERVICE_PORT", "8080"),
            ("CORYMB_MAX_QUEU", "7"),
            ("CORYMB_CACHE", "/tmp"),
        ];
        let config = build(&[], &variables).expect("valid");
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
        assert!(config.warnings[0].ends_with("did you mean CORYMB_MAX_QUEUE?"), "{}", config.warnings[0]);
    }
}
