//! Knative's statistics of a pod, as its autoscaler reads them: `--knative-stats`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corymb_proto::knative::Stat;
use prost::Message as _;

use crate::harness::{Answer, LIMIT, Server, picture, run, send};

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
