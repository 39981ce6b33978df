//! A Collector that is down, slow or refusing: serving goes on, memory stays, and the log says it once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{PREDICT, SOON};
use crate::collector::free_port;
use crate::harness::{Server, agent, picture, try_send};

/// What stands where the Collector should be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Down,
    Slow,
    Refuses,
}

/// Answers each request on its port with 503 until it is told to be well; a slow one answers nothing.
fn stand_in(fault: Fault, well: &Arc<AtomicBool>) -> u16 {
    if fault == Fault::Down {
        return free_port();
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let well = Arc::clone(well);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if fault == Fault::Slow {
                held.push(stream);
                continue;
            }
            let well = Arc::clone(&well);
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let mut bytes = vec![0; 1 << 20];
                // The body is of no interest; a pause is its end.
                while stream.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
                let status = if well.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            });
        }
    });
    port
}

fn resident(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", server.id())).expect("the process is there");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

fn lines(server: &Server, message: &str) -> BTreeMap<String, usize> {
    let mut by_signal = BTreeMap::new();
    for event in server.events() {
        if event["message"].as_str().is_some_and(|text| text.starts_with(message)) {
            *by_signal.entry(event["signal"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    by_signal
}

fn serve_without_a_collector(fault: Fault, transport: &str) {
    const FEW: usize = 3_000;
    let well = Arc::new(AtomicBool::new(false));
    let endpoint = format!("http://127.0.0.1:{}", stand_in(fault, &well));
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", transport),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "400"),
    ];
    variables.extend(SOON);
    let mut server = Server::start_with(&[], &variables);
    let agent = agent();
    let ask = |requests: usize| {
        for _ in 0..requests {
            let answer = try_send(&agent, &server.url("/v1/models/flowers-sample"), "GET", &[], &[]);
            assert_eq!(answer.expect("answered").status, 200);
        }
    };
    ask(FEW);
    let each: BTreeMap<String, usize> = ["logs", "metrics", "traces"].map(|signal| (signal.to_owned(), 1)).into();
    server.event(|_| lines(&server, "signals cannot be delivered") == each);
    if fault == Fault::Down {
        let told =
            server.event(|event| event["message"].as_str().is_some_and(|text| text.starts_with("signals cannot")));
        assert_eq!(told["endpoint"], endpoint, "{told}");
        assert!(transport == "grpc" || told["cause"].as_str().is_some_and(|cause| cause.contains("refused")), "{told}");
    }
    let before = resident(&server);
    ask(3 * FEW);
    let grown = resident(&server).saturating_sub(before);
    // The queues were full before; a span and a record are a kilobyte each.
    assert!(grown < 6 << 20, "{fault:?}: {grown} bytes more after {} more requests", 3 * FEW);
    assert_eq!(server.post(PREDICT, "image/jpeg", &picture()).status, 200);
    assert_eq!(lines(&server, "signals cannot be delivered"), each, "{fault:?}: one line each");
    let complaints = server.events().into_iter().filter(|event| event["level"] == "WARN" || event["level"] == "ERROR");
    assert_eq!(complaints.count(), each.len(), "{fault:?}: and nobody else complains");
    assert_eq!(lines(&server, "signals are delivered again"), BTreeMap::new());
    if fault == Fault::Refuses {
        well.store(true, Ordering::SeqCst);
        ask(10);
        // On a busy machine an answer may come too late now and then, and again be said.
        server.event(|_| lines(&server, "signals are delivered again").keys().eq(each.keys()));
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{fault:?}: it ends by itself");
}

#[test]
fn mistakes_in_variables_are_named_and_keep_nothing_from_being_served() {
    let mistakes = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317", "did you mean http://localhost:4317?"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "abc", "'abc'; expected a number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret", "part 1 is no NAME=VALUE"),
        ("OTEL_TRACES_EXPORTR", "otlp", "did you mean OTEL_TRACES_EXPORTER?"),
    ];
    let variables = mistakes.map(|(name, value, _)| (name, value));
    let server = Server::start_with(&[], &variables);
    assert_eq!(server.post(PREDICT, "image/jpeg", &picture()).status, 200);
    for (name, _, words) in mistakes {
        let told = server
            .event(|event| event["message"].as_str().is_some_and(|text| text.contains(name) && text.contains(words)));
        assert_eq!(told["level"], "WARN", "{told}");
    }
    assert!(!server.events().iter().any(|event| event.to_string().contains("s3cret")));
    let doctor = crate::harness::corymb(&["doctor", "--port", "0"]).envs(variables).output().expect("runs");
    let page = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && page.contains("localhost:4317"), "{page}");
}

#[test]
fn a_collector_that_is_down_costs_nothing() {
    serve_without_a_collector(Fault::Down, "http/protobuf");
    serve_without_a_collector(Fault::Down, "grpc");
}

#[test]
fn a_collector_that_does_not_answer_costs_nothing() {
    serve_without_a_collector(Fault::Slow, "http/protobuf");
    serve_without_a_collector(Fault::Slow, "grpc");
}

#[test]
fn a_collector_that_refuses_costs_nothing() {
    serve_without_a_collector(Fault::Refuses, "http/protobuf");
}
