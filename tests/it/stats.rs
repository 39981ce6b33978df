//! Knative's statistics of a pod, as its autoscaler reads them: `--knative-stats`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corymb_proto::knative::Stat;
use prost::Message as _;
use serde_json::Value;

use crate::dashboards::{Prometheus, query_of};
use crate::harness::{Answer, LIMIT, Server, picture, run, send};
use crate::signals::sample;

const PREDICT: &str = "/v1/models/flowers-sample:predict";

struct Pod {
    server: Server,
    stats: String,
}

impl Pod {
    fn start(variables: &[(&str, &str)]) -> Self {
        let server = Server::start_with(&["--knative-stats", "127.0.0.1:0"], variables);
        let event = server.event(|event| event["message"] == "answering Knative's autoscaler");
        let address = event["address"].as_str().expect("an address");
        let stats = format!("http://{address}/metrics");
        Self { server, stats }
    }

    fn scrape(&self) -> Answer {
        send(&self.stats, "GET", &[("accept", "application/protobuf")], &[])
    }

    fn stat(&self) -> Stat {
        Stat::decode(&*self.scrape().body).expect("a Stat")
    }

    /// Waits for a report of which this is true.
    fn until(&self, wanted: impl Fn(&Stat) -> bool) -> Stat {
        let deadline = Instant::now() + LIMIT;
        loop {
            let stat = self.stat();
            if wanted(&stat) {
                return stat;
            }
            assert!(Instant::now() < deadline, "the last report was {stat:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A prediction that is in flight until it is finished: half of its body is still to come.
    fn begin(&self, headers: &str) -> Unfinished {
        let mut stream = TcpStream::connect(&self.server.address).expect("connected");
        let body = picture();
        let length = body.len();
        let head = format!(
            "POST {PREDICT} HTTP/1.1\r\nhost: test\r\ncontent-type: image/jpeg\r\ncontent-length: {length}\r\n\
             connection: close\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("written");
        stream.write_all(&body[..length / 2]).expect("written");
        Unfinished { stream, rest: body[length / 2..].to_vec() }
    }
}

struct Unfinished {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Unfinished {
    fn finish(mut self) {
        self.stream.write_all(&self.rest).expect("written");
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn the_answer_is_what_the_autoscaler_takes() {
    let pod = Pod::start(&[("POD_NAME", "flowers-00001-deployment-7d")]);
    let answer = pod.scrape();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/protobuf")));
    assert!(answer.body.len() <= 336);
    assert_eq!(pod.stat().pod_name, "flowers-00001-deployment-7d");

    let head = send(&pod.stats, "HEAD", &[], &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(send(&pod.stats, "POST", &[], b"x").status, 405);
    assert_eq!(send(&pod.stats.replace("/metrics", "/"), "GET", &[], &[]).status, 404);
}

#[test]
fn without_a_pods_name_the_hosts_name_stands() {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_eq!(Pod::start(&[]).stat().pod_name, name.trim());
}

#[test]
fn requests_in_flight_are_averaged_and_told_apart() {
    let pod = Pod::start(&[]);
    let own = [pod.begin(""), pod.begin("")];
    let forwarded = pod.begin("K-Proxy-Request: activator\r\n");
    // A window that they fill has whole numbers, to the last bit but one or two.
    let near = |seen: f64, expected: f64| (seen - expected).abs() < 1e-9;
    let full = pod.until(|stat| near(stat.average_concurrent_requests, 3.0));
    assert!(near(full.average_proxied_concurrent_requests, 1.0), "{full:?}");
    assert!(full.process_uptime > 0.0 && full.timestamp == 0, "{full:?}");

    // Who only looks whether we are there is no load.
    for headers in [&[("user-agent", "kube-probe/1.35")][..], &[("k-kubelet-probe", "queue")]] {
        assert_eq!(send(&pod.server.url("/v2/health/ready"), "GET", headers, &[]).status, 200);
    }
    let next = pod.until(|stat| stat.process_uptime > full.process_uptime);
    let after = pod.until(|stat| stat.process_uptime > next.process_uptime);
    assert_eq!((next.request_count, after.request_count), (0.0, 0.0), "they arrived before, and probes do not count");

    forwarded.finish();
    pod.until(|stat| near(stat.average_concurrent_requests, 2.0) && stat.average_proxied_concurrent_requests == 0.0);
    own.into_iter().for_each(Unfinished::finish);
    pod.until(|stat| stat.average_concurrent_requests == 0.0);
}

#[test]
fn a_taken_port_fails_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&["serve", "--host", "127.0.0.1", "--port", "0", "--knative-stats", &address]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&format!("listen on {address}")), "{said}");
}

/// The load generator, the page, Prometheus behind a dashboard, and the autoscaler's listener have seen the same requests.
#[test]
fn the_generator_the_dashboards_and_the_listener_agree() {
    const RATE: f64 = 20.0;
    let pod = Pod::start(&[]);
    let Some(prometheus) = Prometheus::start(&pod.server) else { return };
    let (url, rate) = (pod.server.url(""), RATE.to_string());
    let bench = std::thread::spawn(move || {
        let output = run(&["bench", &url, "--rate", &rate, "-d", "10s", "--warm-up", "0s", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["report"].clone()
    });
    // Each window is told by its own uptime, however often it is read.
    let (mut before, mut requests, mut integral) = (0.0, 0.0, 0.0);
    // A window that is there when the generator has ended may have begun before: two more hold the rest.
    let mut rest = 2;
    while rest > 0 {
        let ended = bench.is_finished();
        let stat = if ended { pod.until(|stat| stat.process_uptime > before) } else { pod.stat() };
        rest -= u8::from(ended);
        if stat.process_uptime > before {
            requests += stat.request_count;
            integral += stat.average_concurrent_requests * (stat.process_uptime - before);
            before = stat.process_uptime;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = bench.join().expect("no panic");
    // As a dashboard shows the run, by rates of 4 s: the highest is of a time all within the load.
    let query = query_of("Rate by model").replace("[10s]", "[4s]");
    let shown = prometheus.numbers(&format!("max_over_time(({query})[30s:1s])"));

    assert_eq!(report["failed"], serde_json::json!({}));
    let answered = report["answered"].as_f64().expect("a number");
    let page = pod.server.get("/metrics").text();
    let of = |name: &str, labels: &[&str]| sample(&page, name, labels).unwrap_or_else(|| panic!("no {name}"));
    // One more was sent to see that the request is understood.
    assert_eq!(of("corymb_request_duration_seconds_count", &[r#"outcome="ok""#]), answered + 1.0, "{report}");
    // HTTP and the listener count what is no prediction too: the generator asks which models there are, and of what kind.
    let posts = of("http_server_request_duration_seconds_count", &[r#"http_request_method="POST""#]);
    assert_eq!((posts, requests), (answered + 2.0, answered + 3.0), "{report}");
    let own = of("corymb_server_concurrency_time_seconds_total", &[]);
    assert!((integral - own).abs() < 0.02 * own, "the listener's averages make {integral} s, the page has {own} s");
    let deadline = Instant::now() + LIMIT;
    while prometheus.numbers("sum(corymb_request_duration_seconds_count)") != [answered + 1.0] {
        assert!(Instant::now() < deadline, "Prometheus never had all of {answered}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let [shown] = shown[..] else { panic!("one line, not {shown:?}") };
    assert!((shown - RATE).abs() < 0.3 * RATE, "the dashboard shows {shown} requests a second; {RATE} were sent");
}
