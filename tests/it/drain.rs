//! Stopping: readiness first, then the listener, then what is in flight; nothing accepted is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{LIMIT, Server, agent, flowers, picture, try_send};

const PREDICT: &str = "/v1/models/flowers-sample:predict";

/// What twenty clients saw, each with a connection of its own, one request after the other.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<(usize, Option<String>)>>,
}

impl Load {
    fn start(server: &Server, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = || {
            let (url, stop, picture) = (server.url(PREDICT), Arc::clone(&stop), picture());
            std::thread::spawn(move || {
                let agent = agent();
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    match try_send(&agent, &url, "POST", &[("content-type", "image/jpeg")], &picture) {
                        Ok(answer) if answer.status == 200 => answered += 1,
                        Ok(answer) => return (answered, Some(format!("{} {}", answer.status, answer.text()))),
                        Err(error) => return (answered, Some(error.to_string())),
                    }
                }
                (answered, None)
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Self { stop, clients }
    }

    fn end(self) -> Vec<(usize, Option<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    }
}

#[test]
fn no_request_is_lost_when_the_server_is_told_to_stop() {
    let mut server = Server::start(&["--drain-delay", "3s"]);
    let load = Load::start(&server, 20);
    std::thread::sleep(Duration::from_millis(500));
    server.signal("TERM");
    // Readiness goes off at once, while predictions are still served on new connections.
    let deadline = Instant::now() + LIMIT;
    while server.get("/v2/health/ready").status != 503 {
        assert!(Instant::now() < deadline, "readiness stayed on");
    }
    let while_leaving = server.post(PREDICT, "image/jpeg", &picture());
    assert_eq!(while_leaving.status, 200, "{}", while_leaving.text());
    assert_eq!(while_leaving.header("connection"), Some("close"));
    assert_eq!(server.get("/v2/health/live").status, 200);

    assert_eq!(server.wait(), Some(0));
    for (answered, error) in load.end() {
        assert!(answered > 0);
        let error = error.expect("the server is gone");
        assert!(error.to_lowercase().contains("refused"), "after {answered} answers: {error}");
    }
    let stopped = server.event(|event| event["message"] == "stopped");
    assert_eq!(stopped["requests_cut"], 0, "{stopped}");
}

#[test]
fn what_is_in_flight_is_finished_without_a_delay() {
    let mut server = Server::start(&[]);
    // One connection each and one request: no keep-alive connection to race for.
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (url, picture) = (server.url(PREDICT), picture());
            std::thread::spawn(move || try_send(&agent(), &url, "POST", &[("content-type", "image/jpeg")], &picture))
        })
        .collect();
    let deadline = Instant::now() + LIMIT;
    let in_flight = |page: &str| {
        let count = page.lines().find_map(|line| line.strip_prefix("corymb_server_in_flight "));
        count.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
    };
    // A connection that the kernel makes while the listener closes is reset, whatever a server does.
    loop {
        let finished = clients.iter().filter(|client| client.is_finished()).count();
        if in_flight(&server.get("/metrics").text()) + finished >= clients.len() {
            break;
        }
        assert!(Instant::now() < deadline, "the requests did not arrive");
    }
    server.signal("INT");
    assert_eq!(server.wait(), Some(0));
    for client in clients {
        match client.join().expect("no panic") {
            Ok(answer) => assert_eq!(answer.status, 200, "{}", answer.text()),
            Err(error) => assert!(error.to_string().to_lowercase().contains("refused"), "{error}"),
        }
    }
}

#[test]
fn a_second_signal_cuts_the_delay_short() {
    let mut server = Server::start(&["--drain-delay", "50s", "--drain-timeout", "55s"]);
    server.signal("TERM");
    server.event(|event| event["message"] == "draining");
    let begin = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(40), "the delay was waited for");
}

#[test]
fn a_stop_while_models_load_ends_without_loading_the_rest() {
    // So many that they are still loading when the signal comes, however fast the machine.
    let models: Vec<String> = (0..200).map(|index| format!("--model=m{index}={}", flowers().display())).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let ready = |server: &Server| server.events().iter().filter(|event| event["message"] == "model ready").count();

    let mut early = Server::start_until(&[&["--listen-early"], &models[..]].concat(), &[], "listening");
    early.signal("TERM");
    assert_eq!(early.wait(), Some(0));
    assert!(ready(&early) < models.len(), "every model was waited for");
    assert!(!early.events().iter().any(|event| event["message"] == "serving"));

    let mut late = Server::start_until(&models, &[], "model ready");
    late.signal("TERM");
    assert_eq!(late.wait(), Some(0));
    late.event(|event| event["message"] == "stopped before the models were ready");
    assert!(ready(&late) < models.len(), "every model was waited for");
}

#[test]
fn listening_early_is_live_but_not_ready_until_the_models_are() {
    let server = Server::start_until(&["--listen-early"], &[], "listening");
    assert_eq!(server.get("/v2/health/live").status, 200);
    let ready = server.get("/v2/health/ready").status;
    assert!(ready == 503 || ready == 200, "{ready}");
    // A request that says how long it can wait, waits for the model.
    let headers = [("content-type", "image/jpeg"), ("x-request-timeout", "60s")];
    let answer = crate::harness::send(&server.url(PREDICT), "POST", &headers, &picture());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(server.get("/v2/health/ready").status, 200);
}

/// What a terminal sends when it closes, and what other servers do something at, is no reason to end without a drain.
#[test]
fn signals_that_do_not_stop_it_have_no_effect() {
    let mut server = Server::start(&[]);
    for name in ["HUP", "USR1", "USR2"] {
        server.signal(name);
        let said = server.event(|event| event["signal"] == format!("SIG{name}"));
        assert!(said["message"].as_str().is_some_and(|text| text.contains("no effect")), "{said}");
    }
    assert_eq!(server.get("/v2/health/ready").status, 200);
    server.signal("QUIT");
    assert_eq!(server.wait(), Some(0));
    server.event(|event| event["message"] == "draining");
}

/// A pipe whose reader has stopped reading is full after 64 KiB: nobody waits for it, and what was lost is counted.
#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let mut server = Server::start_unread(&["--log-level", "debug"]);
    let lost = || {
        let page = server.get("/metrics").text();
        let line = page.lines().find(|line| line.starts_with("corymb_log_dropped_total")).expect("the counter");
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    assert!(lost() < 1.0, "there is room for megabytes");
    // Each request is some hundred bytes.
    let until = Instant::now() + LIMIT;
    while lost() < 1.0 {
        assert!(Instant::now() < until, "nothing is lost, and nothing is read");
        for _ in 0..1000 {
            assert_eq!(server.get("/v2/models/flowers-sample").status, 200);
        }
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}
