//! Every query of the dashboards and of prometheus-adapter's rules, asked of a real Prometheus that scrapes a real server
//! under load. Knative's own metrics are an exposition made here, with the names that Knative 1.19 and later give them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::collector::{built_with_go, free_port, wait_listening};
use crate::harness::{LIMIT, Server, SetOnDrop, folder, picture, root, send, skip};
use crate::telemetry::grpc_picture;

/// What Knative's autoscaler and activator show, as their OpenTelemetry instruments are named in Prometheus.
/// `{n}` grows with each scrape.
const KNATIVE: &str = r#"# TYPE kn_revision_pods_desired gauge
kn_revision_pods_desired{R} 8
# TYPE kn_revision_pods_requested gauge
kn_revision_pods_requested{R} 8
# TYPE kn_revision_pods_count gauge
kn_revision_pods_count{R} 5
# TYPE kn_revision_pods_not_ready_count gauge
kn_revision_pods_not_ready_count{R} 2
# TYPE kn_revision_pods_pending_count gauge
kn_revision_pods_pending_count{R} 1
# TYPE kn_revision_pods_terminating_count gauge
kn_revision_pods_terminating_count{R} 0
# TYPE kn_revision_panic_mode gauge
kn_revision_panic_mode{R} 1
# TYPE kn_revision_capacity_excess gauge
kn_revision_capacity_excess{R} -208
# TYPE kn_revision_concurrency_stable gauge
kn_revision_concurrency_stable{R} 4.4
# TYPE kn_revision_concurrency_panic gauge
kn_revision_concurrency_panic{R} 5
# TYPE kn_revision_concurrency_target gauge
kn_revision_concurrency_target{R} 0.7
# TYPE kn_revision_request_concurrency gauge
kn_revision_request_concurrency{R} 5
# TYPE kn_revision_request_queued gauge
kn_revision_request_queued{R} 1
# TYPE kn_revision_request_active gauge
kn_revision_request_active{R} 5
# TYPE kn_autoscaler_scrape_duration_seconds histogram
kn_autoscaler_scrape_duration_seconds_bucket{S,le="0.005"} {n}
kn_autoscaler_scrape_duration_seconds_bucket{S,le="+Inf"} {n}
kn_autoscaler_scrape_duration_seconds_sum{S} {n}
kn_autoscaler_scrape_duration_seconds_count{S} {n}
"#;

/// Knative tells the service of a scrape, and the revision of all else.
const SERVICE: &str = r#"k8s_namespace_name="models",kn_service_name="flowers",kn_configuration_name="flowers""#;
const REVISION: &str = r#"kn_revision_name="flowers-00001""#;

/// What a user picks for each variable: everything, one thing, and a plain Deployment, which has no revision.
const ALL: [(&str, &str); 4] = [("$namespace", ".*"), ("$revision", ".*"), ("$pod", ".*"), ("$model", ".*")];
const ONE: [(&str, &str); 4] = [
    ("$namespace", "models"),
    ("$revision", "flowers-00001"),
    ("$pod", "flowers-00001-abc"),
    ("$model", "flowers-sample"),
];
const PLAIN: [(&str, &str); 4] =
    [("$namespace", "plain"), ("$revision", ".*"), ("$pod", "plain-abc"), ("$model", "flowers-sample")];

/// The labels that deploy/telemetry/prometheus.yaml gives what it scrapes of a Knative Service, and of a Deployment.
const SERVICE_LABELS: &str =
    "{namespace: models, pod: flowers-00001-abc, kn_service_name: flowers, kn_revision_name: flowers-00001}";
const DEPLOYMENT_LABELS: &str = "{namespace: plain, pod: plain-abc}";

/// Serves [`KNATIVE`] until the test ends.
fn knative() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for (scrape, mut stream) in listener.incoming().flatten().enumerate() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let page = KNATIVE
                .replace("{R}", &format!("{{{SERVICE},{REVISION}}}"))
                .replace("{S", &format!("{{{SERVICE}"))
                .replace("{n}", &(scrape + 1).to_string());
            let length = page.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes()));
        }
    });
    port
}

/// A running Prometheus. Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes the server as a pod of a Knative Service, and Knative.
    pub(crate) fn start(server: &Server) -> Option<Self> {
        Self::start_as(server, &[("corymb", SERVICE_LABELS)])
    }

    /// Scrapes the server by so many jobs, each with its labels.
    fn start_as(server: &Server, jobs: &[(&str, &str)]) -> Option<Self> {
        let mut config = "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned();
        let knative = format!("127.0.0.1:{}", knative());
        let corymb = jobs.iter().map(|(job, labels)| (*job, server.address.as_str(), *labels));
        for (job, address, labels) in corymb.chain([("knative-serving", knative.as_str(), "{}")]) {
            config += &format!("  - job_name: {job}\n    static_configs:\n      - targets: ['{address}']\n");
            config += &format!("        labels: {labels}\n");
        }
        Self::scraping(&config)
    }

    /// One that is told what to scrape; none where it is not installed.
    pub(crate) fn scraping(config: &str) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            skip("Prometheus is not installed");
            return None;
        }
        let mut command = Command::new("prometheus");
        Some(Self::run(config, |config, folder, port| {
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--enable-feature=exemplar-storage");
            command
        }))
    }

    /// What is pushed to, built from `tests/telemetry/prometheus`; none where Go is not there.
    pub(crate) fn pushed_to(config: &str) -> Option<Self> {
        let mut command = Command::new(built_with_go("prometheus")?);
        Some(Self::run(config, |config, folder, port| {
            command.arg("--config").arg(config).arg("--data").arg(folder.join("data"));
            command.arg("--address").arg(format!("127.0.0.1:{port}"));
            command
        }))
    }

    fn run(config: &str, command: impl FnOnce(&Path, &Path, u16) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("prometheus.yaml");
        std::fs::write(&path, config).expect("written");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("created");
        let mut command = command(&path, folder.path(), port);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let mut prometheus = Self { child, address: format!("http://127.0.0.1:{port}"), _folder: folder };
        wait_listening(port, &mut prometheus.child);
        prometheus
    }

    /// What its API answers about a query.
    pub(crate) fn get(&self, path: &str, query: &str, more: &str) -> Value {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = send(&format!("{}/api/v1/{path}?query={encoded}{more}", self.address), "GET", &[], &[]);
        if answer.status == 503 {
            // It is starting.
            return Value::Null;
        }
        let json = answer.json();
        assert_eq!(json["status"], "success", "{query}: {json}");
        json["data"].clone()
    }

    /// Whether the query gives a number.
    pub(crate) fn answers(&self, query: &str) -> bool {
        self.numbers(query).iter().any(|number| !number.is_nan())
    }

    /// The numbers that a query gives now.
    pub(crate) fn numbers(&self, query: &str) -> Vec<f64> {
        let result = self.get("query", query, "");
        let series = result["result"].as_array().cloned().unwrap_or_default();
        series.iter().filter_map(|series| series["value"][1].as_str()?.parse().ok()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The query of a panel, as [`queries`] has it.
pub(crate) fn query_of(title: &str) -> String {
    let found = queries(&ALL).into_iter().find(|(place, _)| place.contains(&format!("\"{title}\"")));
    found.unwrap_or_else(|| panic!("no panel {title}")).1
}

/// The panels' queries as they stand, each with where that is.
fn panels() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for name in DASHBOARDS {
        for panel in dashboard(name)["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().map_or(&[][..], Vec::as_slice) {
                let expr = target["expr"].as_str().expect("a query");
                queries.push((format!("{name}, {}", panel["title"]), expr.to_owned()));
            }
        }
    }
    queries
}

const DASHBOARDS: [&str; 2] = ["service.json", "scaling.json"];

fn dashboard(name: &str) -> Value {
    let text = std::fs::read_to_string(root().join("deploy/dashboards").join(name)).expect(name);
    serde_json::from_str(&text).expect("JSON")
}

/// The dashboards' queries, each with where it stands; variables replaced as Grafana does.
fn queries(picked: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut queries = panels();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        let variables = dashboard["templating"]["list"].as_array().expect("variables");
        for variable in variables.iter().filter(|variable| variable["type"] == "query") {
            let query = variable["definition"].as_str().expect("a query");
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect(query);
            let (metric, label) = inner.split_once(", ").expect("a metric and a label");
            queries.push((format!("{name}, variable {}", variable["name"]), format!("count by ({label}) ({metric})")));
        }
    }
    for (place, query) in &mut queries {
        *query = query.replace("$__rate_interval", "10s");
        for (variable, value) in picked {
            *query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "{place}: an unknown variable in {query}");
    }
    queries
}

/// The metrics that a query asks for, each with what stands in its braces.
fn selectors(query: &str) -> Vec<(&str, &str)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let (mut found, mut rest) = (Vec::new(), query);
    while let Some(begin) = rest.find(is_name) {
        rest = &rest[begin..];
        let end = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind;
        let takes_labels = ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word);
        let list = rest.trim_start().strip_prefix('(').and_then(|list| list.split_once(')'));
        if let Some((labels, behind)) = rest.strip_prefix('{').and_then(|labels| labels.split_once('}')) {
            found.push((word, labels));
            rest = behind;
        } else if let Some((labels, behind)) = list.filter(|(labels, _)| takes_labels && !labels.contains('(')) {
            assert!(!labels.contains('{'), "{query}");
            rest = behind;
        } else if word.contains('_') && !takes_labels && !rest.starts_with('(') && !word.starts_with("__") {
            found.push((word, ""));
        }
    }
    found
}

/// prometheus-adapter's queries, filled in as it does for one pod.
fn adapter_queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("deploy/telemetry/prometheus-adapter.yaml")).expect("the rules");
    let quoted = |line: &str, key: &str| {
        let rest = line.trim().trim_start_matches("- ").strip_prefix(key)?;
        Some(rest.trim().trim_matches('\'').to_owned())
    };
    let series: Vec<String> = text.lines().filter_map(|line| quoted(line, "seriesQuery:")).collect();
    let metrics: Vec<String> = text.lines().filter_map(|line| quoted(line, "metricsQuery:")).collect();
    assert!(series.len() == metrics.len() && !series.is_empty(), "{series:?} {metrics:?}");
    let filled = series.iter().zip(&metrics).map(|(series, metric)| {
        let name = series.split('{').next().unwrap_or_default();
        metric
            .replace("<<.Series>>", name)
            .replace("<<.LabelMatchers>>", r#"namespace="models",pod=~"flowers-00001-abc""#)
            .replace("<<.GroupBy>>", "pod")
    });
    let all = series.iter().cloned().chain(filled);
    all.map(|query| ("prometheus-adapter".to_owned(), query)).collect()
}

/// The labels that say which pod a series is of: Knative's components name them as OpenTelemetry does.
fn filters(metric: &str) -> [&'static str; 2] {
    let namespace =
        if metric.starts_with("kn_") { r#"k8s_namespace_name=~"$namespace""# } else { r#"namespace=~"$namespace""# };
    let of_services = metric.starts_with("kn_autoscaler_scrape_duration_");
    [namespace, if of_services { namespace } else { r#"kn_revision_name=~"$revision""# }]
}

#[test]
fn every_query_of_a_panel_is_of_a_namespace_and_a_revision() {
    let panels = panels();
    assert!(panels.len() > 30, "the dashboards have their panels");
    for (place, query) in panels {
        let selectors = selectors(&query);
        assert!(!selectors.is_empty(), "{place}: {query}");
        for (metric, labels) in &selectors {
            let given: Vec<&str> = labels.split(',').collect();
            for filter in filters(metric) {
                assert!(given.contains(&filter), "{place}: {metric} is not filtered by {filter}: {query}");
            }
        }
        assert!(query.contains("$revision"), "{place}: {query}");
    }
    for name in DASHBOARDS {
        let variables = dashboard(name)["templating"]["list"].clone();
        for wanted in ["namespace", "revision"] {
            let variable = variables.as_array().and_then(|all| all.iter().find(|one| one["name"] == wanted));
            let all = variable.map(|variable| (&variable["allValue"], &variable["includeAll"]));
            // What has no such label is shown, too.
            assert_eq!(all, Some((&Value::from(".*"), &Value::from(true))), "{name}: {wanted}");
        }
    }
}

#[test]
fn selectors_are_found_wherever_they_stand() {
    let query = r#"sum by (a_b) (rate(x_total{n="1"}[5m])) / on (c_d) group_left (e_f) y_z and z_y{} > 0.5"#;
    assert_eq!(selectors(query), [("x_total", r#"n="1""#), ("y_z", ""), ("z_y", "")]);
    let query = r#"x_y{n="1"} / ignoring(a_b) group_left sum(rate(y_z[5m]))"#;
    assert_eq!(selectors(query), [("x_y", r#"n="1""#), ("y_z", "")]);
}

#[test]
fn every_query_returns_data() {
    let server = Server::start(&[]);
    let jobs = [("corymb", SERVICE_LABELS), ("deployment", DEPLOYMENT_LABELS)];
    let Some(prometheus) = Prometheus::start_as(&server, &jobs) else { return };
    let plain = queries(&PLAIN)
        .into_iter()
        .filter(|(place, _)| place.starts_with("service.json") && !place.contains("revision"));
    let mut waiting = [queries(&ALL), queries(&ONE), plain.collect(), adapter_queries()].concat();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _stop = SetOnDrop(&done);
        let (url, predict, done) = (server.url(""), server.url("/v1/models/flowers-sample:predict"), &done);
        threads.spawn(move || {
            // The load: both protocols, and now and then somebody who is refused.
            while !done.load(Ordering::SeqCst) {
                let post = |body: &[u8]| send(&predict, "POST", &[("content-type", "image/jpeg")], body).status;
                assert_eq!(post(&picture()), 200);
                assert_eq!(post(b"no picture"), 400);
                grpc_picture(url.clone(), "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // A rate needs two scrapes, a second apart.
        let deadline = Instant::now() + LIMIT;
        while !waiting.is_empty() && Instant::now() < deadline {
            waiting.retain(|(_, query)| !prometheus.answers(query));
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    assert!(waiting.is_empty(), "without data: {waiting:#?}");
}

/// The names that Knative has today are the only ones of its that the dashboards speak of.
#[test]
fn the_scaling_view_asks_for_todays_names() {
    let known: BTreeSet<&str> =
        KNATIVE.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for (place, query) in queries(&ALL) {
        for word in query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            let label = ["kn_revision_name", "kn_service_name"].contains(&word);
            assert!(!word.starts_with("kn_") || label || known.contains(metric), "{place}: {word}");
        }
    }
}

#[test]
fn the_dashboards_are_what_their_script_writes() {
    let script = root().join("deploy/dashboards/make.py");
    let Ok(checked) = Command::new("python3").arg(&script).arg("--check").output() else {
        return skip("Python is not installed");
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn prometheus_accepts_its_configuration() {
    let text = std::fs::read_to_string(root().join("deploy/telemetry/prometheus.yaml")).expect("the configuration");
    // Debian's build cannot discover anything in Kubernetes, so what is discovered is left out here.
    let mut left_out = 0;
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| {
            let depth = line.len() - line.trim_start().len();
            left_out = if line.contains("kubernetes_sd_configs:") {
                depth
            } else if depth > left_out && left_out > 0 {
                left_out
            } else {
                0
            };
            left_out == 0
        })
        .collect();
    assert!(kept.iter().any(|line| line.contains("relabel_configs")) && kept.len() < text.lines().count());
    let folder = folder(&[("prometheus.yaml", kept.join("\n").as_bytes())]);
    let config = folder.path().join("prometheus.yaml");
    let Ok(checked) = Command::new("promtool").args(["check", "config"]).arg(config).output() else {
        return skip("promtool, a part of Prometheus, is not installed");
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
