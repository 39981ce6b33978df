//! Every way from a pod to its autoscaler: what each manifest has the autoscaler ask, asked of a Prometheus that has the server's
//! metrics, scraped by `deploy/telemetry/prometheus.yaml` or pushed through `deploy/telemetry/collector.yaml`. A second server of the
//! same name in another namespace has all the load; nobody may scale for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::collector::Collector;
use crate::dashboards::Prometheus;
use crate::harness::{LIMIT, Server, SetOnDrop, picture, root, run, send};

/// The namespaces: next to nothing happens in the first.
const NAMESPACES: [&str; 2] = ["quiet", "busy"];

/// Who runs pods: how their names and labels are made, and whose annotations they carry.
struct Runner {
    pod: &'static str,
    labels: &'static [(&'static str, &'static str)],
    annotated_by: &'static [&'static str],
}

const KNATIVE: Runner = Runner {
    pod: "flowers-sample-00001-deployment-6d4cf56db6-x2x4z",
    labels: &[
        ("serving_knative_dev_service", "flowers-sample"),
        ("serving_knative_dev_revision", "flowers-sample-00001"),
    ],
    annotated_by: &["knative"],
};

const KSERVE: Runner =
    Runner { pod: "my-model-predictor-7b9f8c6d5-q8w7e", labels: &[], annotated_by: &["kserve", "--runtime"] };

const DEPLOYMENT: Runner = Runner { pod: "my-model-5d78c9869d-abc12", labels: &[], annotated_by: &["kubernetes"] };

/// A row of the table in `deploy/telemetry/README.md`, and what prints its manifest.
struct Row {
    runner: &'static Runner,
    print: &'static [&'static str],
    /// Names its namespace, or leaves that to prometheus-adapter.
    is_query: bool,
}

const MODEL: [&str; 4] = ["--name", "my-model", "--model", "gs://my-bucket/my-model"];

/// Those whose autoscaler asks Prometheus. Knative's own does not, and KServe's sidecar is in `tests/it/manifests.rs`.
const ROWS: [Row; 6] = [
    Row { runner: &KNATIVE, print: &["knative", "--class", "hpa"], is_query: false },
    Row { runner: &KNATIVE, print: &["knative", "--class", "keda"], is_query: true },
    Row { runner: &KSERVE, print: &["kserve", "--mode", "standard", "--autoscaler", "hpa"], is_query: false },
    Row { runner: &KSERVE, print: &["kserve", "--mode", "standard", "--prometheus", "http://p:9090"], is_query: true },
    Row { runner: &DEPLOYMENT, print: &["kubernetes"], is_query: false },
    Row { runner: &DEPLOYMENT, print: &["kubernetes", "--autoscaler", "keda"], is_query: true },
];

const METRICS: [&[&str]; 3] = [&[], &["--metric", "rps", "--target", "50"], &["--metric", "saturation"]];

fn print(arguments: &[&str]) -> String {
    let output = run(&[&["manifest"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is behind a key; quotes are taken away.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key))?;
    Some(line.trim().trim_matches('\'').trim_matches('"'))
}

impl Row {
    /// What its autoscaler asks of a namespace.
    fn asks(&self, namespace: &str, metric: &[&str]) -> String {
        let model: &[&str] = if self.print[0] == "knative" { &[] } else { &MODEL };
        let text = print(&[self.print, model, metric, &["--namespace", namespace]].concat());
        if self.is_query {
            let query = value(&text, "query:").or_else(|| value(&text, "autoscaling.knative.dev/prometheus-query:"));
            return query.expect("a query").replace("{{ .revisionName }}", "flowers-sample-00001");
        }
        let name = match self.print[0] {
            "knative" => value(&text, "autoscaling.knative.dev/metric:"),
            _ => value(text.split_once("metric:\n").expect("a metric").1, "name:"),
        };
        adapter(name.expect("its name"), namespace, self.runner.pod)
    }
}

/// prometheus-adapter's query for a metric of one pod, filled in as it does.
fn adapter(name: &str, namespace: &str, pod: &str) -> String {
    let rules = std::fs::read_to_string(root().join("deploy/telemetry/prometheus-adapter.yaml")).expect("the rules");
    let rule = rules.split("- seriesQuery:").find(|rule| value(rule, "as:") == Some(name));
    let rule = rule.unwrap_or_else(|| panic!("prometheus-adapter has no {name}"));
    let series = rule.trim().trim_start_matches('\'').split('{').next().expect("a name");
    let query = value(rule, "metricsQuery:").expect("a query");
    query
        .replace("<<.Series>>", series)
        .replace("<<.LabelMatchers>>", &format!("namespace=\"{namespace}\",pod=~\"{pod}\""))
        .replace("<<.GroupBy>>", "pod")
}

/// Asks for all rows until each has heard of both namespaces: nothing of the first, load of the second.
fn ask(prometheus: &Prometheus, [quiet, busy]: &[Server; 2], rows: &[&Row]) {
    // A series of requests begins with the first.
    let first =
        send(&quiet.url("/v1/models/flowers-sample:predict"), "POST", &[("content-type", "image/jpeg")], &picture());
    assert_eq!(first.status, 200);
    let mut waiting: Vec<(String, String)> = Vec::new();
    for row in rows {
        for metric in METRICS {
            waiting.push((row.asks(NAMESPACES[0], metric), row.asks(NAMESPACES[1], metric)));
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _stop = SetOnDrop(&done);
        let (predict, done) = (busy.url("/v1/models/flowers-sample:predict"), &done);
        threads.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(send(&predict, "POST", &[("content-type", "image/jpeg")], &picture()).status, 200);
            }
        });
        let deadline = Instant::now() + LIMIT;
        while !waiting.is_empty() && Instant::now() < deadline {
            waiting.retain(|(quiet, busy)| {
                let (quiet, busy) = (prometheus.numbers(quiet), prometheus.numbers(busy));
                // What they heard is load where there is load; what is left of one request is no load beside it.
                !(quiet.len() == 1 && busy.len() == 1 && busy[0] > 0.0 && quiet[0] < busy[0] / 20.0)
            });
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let last: Vec<_> = waiting
        .iter()
        .map(|(quiet, busy)| (quiet, prometheus.numbers(quiet), busy, prometheus.numbers(busy)))
        .collect();
    assert!(last.is_empty(), "{last:#?}");
}

/// What Kubernetes' discovery tells of a pod, as `static_configs` can say it.
fn discovered(runner: &Runner, namespace: &str, server: &Server) -> String {
    let printed = print(runner.annotated_by);
    let (ip, port) = server.address.rsplit_once(':').expect("an address");
    let mut labels = vec![
        ("pod_ip".to_owned(), ip.to_owned()),
        ("namespace".to_owned(), namespace.to_owned()),
        ("pod_name".to_owned(), runner.pod.to_owned()),
        ("pod_phase".to_owned(), "Running".to_owned()),
    ];
    labels.extend(runner.labels.iter().map(|(name, value)| (format!("pod_label_{name}"), (*value).to_owned())));
    let annotations = [
        "prometheus.io/scrape",
        "prometheus.io/port",
        "prometheus.io/path",
        "prometheus.kserve.io/port",
        "prometheus.kserve.io/path",
    ];
    for name in annotations {
        if let Some(value) = value(&printed, &format!("{name}:")) {
            // The one port that is another here.
            let value = if value == "8080" { port } else { value };
            labels.push((format!("pod_annotation_{}", name.replace(['.', '/'], "_")), value.to_owned()));
        }
    }
    let labels: String =
        labels.iter().map(|(name, value)| format!("          __meta_kubernetes_{name}: \"{value}\"\n")).collect();
    // Any container's port is discovered; the annotations say which counts.
    format!("      - targets: ['{ip}:1']\n        labels:\n{labels}")
}

#[test]
fn autoscalers_that_ask_a_scraping_prometheus_hear_of_their_own_namespace() {
    let servers = NAMESPACES.map(|_| Server::start(&[]));
    let config = std::fs::read_to_string(root().join("deploy/telemetry/prometheus.yaml")).expect("the configuration");
    let mut targets = String::from("    static_configs:\n");
    for runner in [&KNATIVE, &KSERVE, &DEPLOYMENT] {
        for (namespace, server) in NAMESPACES.iter().zip(&servers) {
            targets.push_str(&discovered(runner, namespace, server));
        }
    }
    // A pod that nobody asked to scrape.
    targets.push_str("      - targets: ['127.0.0.1:1']\n        labels: {__meta_kubernetes_pod_name: \"another\"}\n");
    let of_kubernetes = "    kubernetes_sd_configs:\n      - role: pod\n";
    assert!(config.contains(&format!("{of_kubernetes}    relabel_configs")), "the job of the server comes first");
    let config = config.replacen(of_kubernetes, &targets, 1).replace("scrape_interval: 5s", "scrape_interval: 1s");
    let (config, _) = config.split_once("  # With `metrics-protocol").expect("Knative's own comes last");
    let Some(prometheus) = Prometheus::scraping(config) else { return };
    ask(&prometheus, &servers, &ROWS.iter().collect::<Vec<_>>());
    assert_eq!(prometheus.numbers("count(up)"), [6.0], "what nobody asked for is scraped");
    let of_revision =
        "count(corymb_server_in_flight{kn_service_name=\"flowers-sample\",kn_revision_name=\"flowers-sample-00001\"})";
    assert_eq!(prometheus.numbers(of_revision), [2.0]);
}

#[test]
fn autoscalers_that_ask_a_prometheus_that_is_pushed_to_hear_of_their_own_namespace() {
    let config = std::fs::read_to_string(root().join("deploy/telemetry/prometheus.yaml")).expect("the configuration");
    let (_, section) = config.split_once("# otlp:\n").expect("what is said of OTLP");
    let section: String = section
        .lines()
        .map_while(|line| line.strip_prefix('#'))
        .fold(String::new(), |all, line| all + line.strip_prefix(' ').unwrap_or(line) + "\n");
    let Some(prometheus) = Prometheus::pushed_to(&format!("otlp:\n{section}")) else { return };
    let Some(collector) = Collector::deployed(&prometheus.address) else { return };
    let pushing = |runner: &Runner, namespace: &str| {
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", format!("{}/v1/metrics", collector.http)),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()),
            ("POD_NAME", runner.pod.to_owned()),
            ("POD_NAMESPACE", namespace.to_owned()),
        ];
        if !runner.labels.is_empty() {
            variables.push(("K_SERVICE", "flowers-sample".to_owned()));
            variables.push(("K_CONFIGURATION", "flowers-sample".to_owned()));
            variables.push(("K_REVISION", "flowers-sample-00001".to_owned()));
        }
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Server::start_with(&[], &variables)
    };
    for runner in [&KNATIVE, &KSERVE, &DEPLOYMENT] {
        let servers = NAMESPACES.map(|namespace| pushing(runner, namespace));
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.runner.pod == runner.pod).collect();
        ask(&prometheus, &servers, &rows);
    }
    let of_revision = "count(last_over_time(corymb_server_in_flight{kn_service_name=\"flowers-sample\",kn_revision_name=\"flowers-sample-00001\"}[5m]))";
    assert_eq!(prometheus.numbers(of_revision), [2.0]);
}
