//! Which signals are pushed where, from OpenTelemetry's standard variables, and what this process calls itself in them.
//!
//! Nothing is pushed unless an endpoint or an exporter is named: the specification's default is a collector on
//! localhost, which few pods have, and a server that is not told to should open no connection. Endpoints, headers,
//! compression, intervals, queue sizes and span limits are read by the SDK itself.

mod checks;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use corymb_repository::redact;
use corymb_server::Propagator;
use http::Uri;

use super::environment::Environment;

/// The specification's: how long one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// And how often metrics are delivered.
const INTERVAL: Duration = Duration::from_secs(60);

/// Where a pod's service account says in which namespace it is: Knative lets a pod's variables not ask for it.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The longest that Kubernetes allows is 63.
const MAX_NAMESPACE: u64 = 64;

/// Standard variables that are not honoured, so that nobody believes they are.
const WITHOUT_EFFECT: [&str; 8] = [
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BLRP_EXPORT_TIMEOUT",
    "OTEL_LOG_LEVEL",
];

/// How a signal is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Grpc,
    /// Protobuf in HTTP/1.1 bodies; the default of the specification.
    Http,
}

/// The push of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) transport: Transport,
    pub(crate) timeout: Duration,
    /// Where to, without secrets: for messages.
    pub(crate) endpoint: String,
}

/// Which traces are sampled that nobody has decided about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Root {
    All,
    None,
    /// This share of them.
    Ratio(f64),
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) root: Root,
    /// Whether a caller's decision counts.
    pub(crate) parent_based: bool,
}

/// What this process does with its signals beside the page at `/metrics`, which is always there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TelemetryOptions {
    pub(crate) traces: Option<Push>,
    pub(crate) metrics: Option<Push>,
    pub(crate) logs: Option<Push>,
    /// How often metrics are pushed.
    pub(crate) interval: Duration,
    pub(crate) sampling: Sampling,
    pub(crate) propagators: Vec<Propagator>,
    /// Names and values; `OTEL_RESOURCE_ATTRIBUTES` wins over them.
    pub(crate) resource: Vec<(&'static str, String)>,
    /// `OTEL_SERVICE_NAME`, which wins over everything.
    pub(crate) service_name: Option<String>,
}

impl TelemetryOptions {
    /// Values that are not understood are warned of and ignored, as the specification wants it.
    pub(crate) fn build(environment: &Environment, warnings: &mut Vec<String>) -> Self {
        warnings.extend(checks::faults(environment));
        let mut reader = Reader { environment, warnings };
        reader.warn_of_what_has_no_effect();
        let disabled = reader.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let mut push = |signal| if disabled { None } else { reader.push(signal) };
        let (traces, metrics, logs) = (push("TRACES"), push("METRICS"), push("LOGS"));
        Self {
            traces,
            metrics,
            logs,
            interval: reader.interval(),
            sampling: reader.sampling(),
            propagators: reader.propagators(),
            resource: resource(environment, Path::new(NAMESPACE_FILE)),
            service_name: reader.get("OTEL_SERVICE_NAME").map(str::to_owned),
        }
    }
}

struct Reader<'a> {
    environment: &'a Environment,
    warnings: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    /// A variable that is set; an empty one counts as unset.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn ignored(&mut self, name: &str, value: &str, expected: &str) {
        self.warnings.push(format!("{name} is '{value}', which is ignored; expected {expected}"));
    }

    /// The first that is set of a signal's own variable and the one for all signals.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, &'a str)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn push(&mut self, signal: &str) -> Option<Push> {
        let variable = format!("OTEL_{signal}_EXPORTER");
        let wanted = match self.get(&variable) {
            None => self.of_signal(signal, "ENDPOINT").is_some(),
            Some(list) => {
                let mut otlp = false;
                for exporter in list.split(',').map(str::trim) {
                    match exporter {
                        "otlp" => otlp = true,
                        "none" => {}
                        // The page is there anyway.
                        "prometheus" if signal == "METRICS" => {}
                        other => self.ignored(&variable, other, "otlp or none"),
                    }
                }
                otlp
            }
        };
        if !wanted {
            return None;
        }
        let given = self.endpoint(signal)?;
        let transport = match self.of_signal(signal, "PROTOCOL") {
            Some((_, "grpc")) => Transport::Grpc,
            None | Some((_, "http/protobuf")) => Transport::Http,
            Some((name, other)) => {
                self.ignored(&name, other, "grpc or http/protobuf");
                Transport::Http
            }
        };
        if let Some((name, compression)) = self.of_signal(signal, "COMPRESSION")
            && !["gzip", "none"].contains(&compression.to_ascii_lowercase().as_str())
        {
            self.ignored(&name, compression, "gzip or none");
        }
        let timeout = match self.of_signal(signal, "TIMEOUT") {
            None => TIMEOUT,
            Some((name, text)) => text.parse().map_or_else(
                |_| {
                    self.ignored(&name, text, "milliseconds");
                    TIMEOUT
                },
                Duration::from_millis,
            ),
        };
        let endpoint = given.unwrap_or_else(|| match transport {
            Transport::Grpc => "http://localhost:4317".to_owned(),
            Transport::Http => "http://localhost:4318".to_owned(),
        });
        Some(Push { transport, timeout, endpoint })
    }

    /// Where a signal is pushed to: None where that is no place, and a place of none where nothing is said.
    fn endpoint(&mut self, signal: &str) -> Option<Option<String>> {
        let Some((name, value)) = self.of_signal(signal, "ENDPOINT") else { return Some(None) };
        let uri = value.parse::<Uri>().ok();
        let is_place = uri.as_ref().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        if is_place {
            return Some(Some(redact(value)));
        }
        let shown = redact(value);
        let hint = match value.contains("://") {
            true => String::new(),
            false => format!("; did you mean http://{shown}?"),
        };
        let signal = signal.to_ascii_lowercase();
        let warning = format!("{name} is '{shown}', no http:// or https:// URL: {signal} are not pushed{hint}");
        self.warnings.push(warning);
        None
    }

    /// The SDK reads it too, and would take 0 as it is.
    fn interval(&self) -> Duration {
        let given = self.get("OTEL_METRIC_EXPORT_INTERVAL").and_then(|text| text.parse().ok());
        given.filter(|milliseconds| *milliseconds > 0).map_or(INTERVAL, Duration::from_millis)
    }

    fn sampling(&mut self) -> Sampling {
        const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
        const KNOWN: &str = "always_on, always_off, traceidratio, or one of these after parentbased_";
        let all = Sampling { root: Root::All, parent_based: true };
        let Some(name) = self.get(SAMPLER) else { return all };
        let (root, parent_based) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name, false),
        };
        let root = match root {
            "always_on" => Root::All,
            "always_off" => Root::None,
            "traceidratio" => self.ratio(),
            _ => {
                self.ignored(SAMPLER, name, KNOWN);
                return all;
            }
        };
        Sampling { root, parent_based }
    }

    fn ratio(&mut self) -> Root {
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = self.get(ARGUMENT) else { return Root::All };
        match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Root::Ratio(ratio),
            _ => {
                self.ignored(ARGUMENT, text, "a number from 0 to 1");
                Root::All
            }
        }
    }

    /// Without the variable both formats are read, W3C's first: what stands before a server in a mesh often speaks B3.
    fn propagators(&mut self) -> Vec<Propagator> {
        const VARIABLE: &str = "OTEL_PROPAGATORS";
        let Some(list) = self.get(VARIABLE) else { return vec![Propagator::TraceContext, Propagator::B3] };
        let mut found = Vec::new();
        for name in list.split(',').map(str::trim) {
            match name {
                "tracecontext" => found.push(Propagator::TraceContext),
                // Either name reads both forms, as the specification wants it; they differ in what is sent.
                "b3" | "b3multi" => found.push(Propagator::B3),
                // Baggage would be for those that we call, and we call nobody.
                "baggage" | "none" | "" => {}
                other => self.ignored(VARIABLE, other, "tracecontext, b3, b3multi, baggage or none"),
            }
        }
        found.dedup();
        found
    }

    fn warn_of_what_has_no_effect(&mut self) {
        for name in WITHOUT_EFFECT {
            if self.get(name).is_some() {
                self.warnings.push(format!("{name} has no effect"));
            }
        }
    }
}

/// What the pod and Knative say of this process. The names beginning with `kn.` are those of Knative's own telemetry.
fn resource(environment: &Environment, namespace: &Path) -> Vec<(&'static str, String)> {
    let first = |names: &[&str]| {
        names.iter().find_map(|name| environment.get(*name)).filter(|value| !value.is_empty()).cloned()
    };
    // A pod's host name is its name; elsewhere it is just a host.
    let in_pod = environment.contains_key("KUBERNETES_SERVICE_HOST") || environment.contains_key("K_REVISION");
    let host = first(&["HOSTNAME"]);
    let pod = first(&["POD_NAME"]).or_else(|| host.clone().filter(|_| in_pod));
    let found = [
        ("service.name", Some(first(&["K_SERVICE"]).unwrap_or_else(|| "corymb".to_owned()))),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("service.instance.id", pod.clone().or_else(|| host.clone())),
        ("host.name", host),
        ("k8s.pod.name", pod),
        ("k8s.namespace.name", first(&["POD_NAMESPACE", "NAMESPACE"]).or_else(|| read_namespace(namespace))),
        ("k8s.node.name", first(&["NODE_NAME"])),
        ("kn.service.name", first(&["K_SERVICE"])),
        ("kn.configuration.name", first(&["K_CONFIGURATION"])),
        ("kn.revision.name", first(&["K_REVISION"])),
    ];
    found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn read_namespace(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file).ok()?.take(MAX_NAMESPACE).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(variables: &[(&str, &str)]) -> (TelemetryOptions, Vec<String>) {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut warnings = Vec::new();
        (TelemetryOptions::build(&environment, &mut warnings), warnings)
    }

    fn pushes(variables: &[(&str, &str)]) -> [bool; 3] {
        let (options, warnings) = build(variables);
        assert!(warnings.is_empty(), "{warnings:?}");
        [options.traces.is_some(), options.metrics.is_some(), options.logs.is_some()]
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    #[test]
    fn nothing_is_pushed_unless_somebody_asks_for_it() {
        assert_eq!(pushes(&[]), [false; 3]);
        assert_eq!(pushes(&[("OTEL_SERVICE_NAME", "flowers"), ("OTEL_TRACES_SAMPLER", "always_on")]), [false; 3]);
        assert_eq!(pushes(&[ENDPOINT]), [true; 3]);
        assert_eq!(pushes(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), [false; 3]);
        assert_eq!(pushes(&[ENDPOINT, ("OTEL_LOGS_EXPORTER", "none")]), [true, true, false]);
        assert_eq!(pushes(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "prometheus")]), [true, false, true]);
        assert_eq!(pushes(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "otlp,prometheus")]), [true; 3]);
        assert_eq!(pushes(&[("OTEL_TRACES_EXPORTER", "otlp")]), [true, false, false]);
        assert_eq!(pushes(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs/v1/logs")]), [false, false, true]);
    }

    #[test]
    fn a_signal_of_its_own_wins() {
        let (options, warnings) = build(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "500"),
        ]);
        assert!(warnings.is_empty(), "{warnings:?}");
        let push = |transport, milliseconds| {
            let endpoint = "http://collector:4318".to_owned();
            Some(Push { transport, timeout: Duration::from_millis(milliseconds), endpoint })
        };
        assert_eq!(options.traces, push(Transport::Grpc, 500));
        assert_eq!(options.metrics, push(Transport::Grpc, 2000));
        assert_eq!(options.logs, push(Transport::Http, 2000));
    }

    #[test]
    fn samplers_have_the_names_of_the_specification() {
        let of = |sampler: &str, argument: &str| {
            let (options, warnings) = build(&[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
            assert!(warnings.is_empty(), "{warnings:?}");
            (options.sampling.root, options.sampling.parent_based)
        };
        assert_eq!(of("", ""), (Root::All, true));
        assert_eq!(of("always_off", ""), (Root::None, false));
        assert_eq!(of("traceidratio", "0.25"), (Root::Ratio(0.25), false));
        assert_eq!(of("parentbased_traceidratio", "0.01"), (Root::Ratio(0.01), true));
        assert_eq!(of("parentbased_traceidratio", ""), (Root::All, true));
        assert_eq!(of("parentbased_always_off", ""), (Root::None, true));
    }

    #[test]
    fn what_is_not_understood_is_named_and_ignored() {
        let (options, warnings) = build(&[
            ENDPOINT,
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "5s"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_PROPAGATORS", "b3multi,xray"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ]);
        assert_eq!(options.traces, None);
        let endpoint = "http://collector:4318".to_owned();
        assert_eq!(options.metrics, Some(Push { transport: Transport::Http, timeout: TIMEOUT, endpoint }));
        assert_eq!(options.sampling, Sampling { root: Root::All, parent_based: true });
        assert_eq!(options.propagators, [Propagator::B3]);
        for named in ["zipkin", "http/json", "zstd", "5s", "jaeger_remote", "xray", "OTEL_EXPORTER_OTLP_CERTIFICATE"] {
            assert!(warnings.iter().any(|warning| warning.contains(named)), "{named} in {warnings:#?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_none_is_named_and_its_signal_is_not_pushed() {
        for (value, words) in [
            (
                "localhost:4317",
                "'localhost:4317', no http:// or https:// URL: logs are not pushed; did you mean http://localhost:4317?",
            ),
            ("grpc://u:s3cret@collector:4317", "'grpc://collector:4317', no http"),
            ("http://", "'http://', no http"),
            ("collector", "did you mean http://collector?"),
        ] {
            let (options, warnings) =
                build(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", value), ("OTEL_TRACES_EXPORTER", "otlp")]);
            assert_eq!(options.logs, None, "{value}");
            assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
            assert!(warnings[0].starts_with("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is "), "{warnings:?}");
            assert_eq!(options.traces.expect("pushed").endpoint, "http://localhost:4318");
        }
    }

    #[test]
    fn propagators_are_those_that_are_named() {
        let of = |list: &str| build(&[("OTEL_PROPAGATORS", list)]).0.propagators;
        assert_eq!(of(""), [Propagator::TraceContext, Propagator::B3]);
        assert_eq!(of("b3,b3multi,tracecontext,baggage"), [Propagator::B3, Propagator::TraceContext]);
        assert_eq!(of("none"), []);
    }

    #[test]
    fn a_pod_of_knative_knows_its_names() {
        let (options, _) = build(&[
            ("K_SERVICE", "flowers"),
            ("K_CONFIGURATION", "flowers"),
            ("K_REVISION", "flowers-00001"),
            ("HOSTNAME", "flowers-00001-deployment-abc"),
            ("POD_NAMESPACE", "models"),
        ]);
        let of = |name: &str| options.resource.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value);
        assert_eq!(of("service.name"), Some("flowers"));
        assert_eq!(of("service.instance.id"), Some("flowers-00001-deployment-abc"));
        assert_eq!(of("k8s.pod.name"), Some("flowers-00001-deployment-abc"));
        assert_eq!(of("k8s.namespace.name"), Some("models"));
        assert_eq!(of("kn.revision.name"), Some("flowers-00001"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "models\n").expect("written");
        let found = resource(&Environment::from([("K_REVISION".to_owned(), "a".to_owned())]), file.path());
        assert!(found.contains(&("k8s.namespace.name", "models".to_owned())), "{found:?}");
        let elsewhere = build(&[("HOSTNAME", "laptop")]).0.resource;
        assert!(elsewhere.contains(&("host.name", "laptop".to_owned())));
        assert!(elsewhere.contains(&("service.name", "corymb".to_owned())));
        assert!(!elsewhere.iter().any(|(name, _)| name.starts_with("k8s.") || name.starts_with("kn.")));
    }
}
