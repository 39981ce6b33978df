//! Clients that send slowly.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Server, sample_request};

const PATH: &str = "/v1/models/flowers-sample:predict";
/// More than the server takes.
const SLOW: usize = 12;

/// They hold every place, and no body of theirs ever ends. A body takes its place for a second at most where others wait.
#[test]
fn bodies_that_never_end_keep_nobody_out() {
    let server = Server::start(&["--max-in-flight", "8"]);
    let address = server.url("").trim_start_matches("http://").to_owned();
    let request = sample_request();
    let begin = Instant::now();
    let mut slow: Vec<Option<TcpStream>> = (0..SLOW).map(|_| None).collect();
    let (mut refused, mut answered) = (0, 0);
    while begin.elapsed() < Duration::from_secs(5) {
        for connection in &mut slow {
            // One that was refused comes again.
            let sent = connection.as_mut().is_some_and(|stream| stream.write_all(b" ").is_ok());
            if !sent {
                let stream = TcpStream::connect(&address).expect("connects");
                let head = format!("POST {PATH} HTTP/1.1\r\nhost: here\r\ncontent-length: 1000000\r\n\r\n{{");
                (&stream).write_all(head.as_bytes()).expect("sent");
                *connection = Some(stream);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        let answer = server.post(PATH, "application/json", &request);
        match answer.status {
            200 => answered += 1,
            429 => refused += 1,
            _ => panic!("{}", answer.text()),
        }
        // Each place is another's a second after it was taken.
        assert!(begin.elapsed() < Duration::from_secs(2) || answered > 0, "{refused} refused, none answered");
    }
    assert!(answered > 3 * refused / 4, "{answered} answered, {refused} refused");
}

/// More silent connections than files may be open: those that are idle longest go, and who has something to say is served.
#[test]
fn silent_connections_keep_nobody_out() {
    let server = Server::start_after("ulimit -n 200", &[]);
    let address = server.url("").trim_start_matches("http://").to_owned();
    let silent: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(&address).expect("connects")).collect();
    let begin = Instant::now();
    let answer = server.post(PATH, "application/json", &sample_request());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(server.get("/v2/health/ready").status, 200);
    server.event(|event| event["message"].as_str().is_some_and(|text| text.contains("the limit of connections")));
    drop(silent);
}
