//! A web server whose answers fail on demand: for what real servers do rarely.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Body bytes written at once.
const PIECE: usize = 16 << 10;

/// What goes wrong with one answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A status instead of content, with `Retry-After` seconds.
    Status(u16, Option<u64>),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the body.
    Stall(usize),
    /// Another ETag than before.
    OtherTag,
    /// Everything, whatever range was asked for.
    IgnoreRange,
    /// A part of so many bytes, honestly labelled.
    Short(usize),
    /// One bit is not what it was.
    Flip,
}

/// A request, as far as faults depend on it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// The first byte that is asked for.
    pub(crate) start: Option<u64>,
    /// Of content: the first byte of a file alone is asked for to learn of it.
    pub(crate) is_probe: bool,
    pub(crate) authorization: Option<String>,
    /// Of all requests for content, counted from 0.
    pub(crate) number: usize,
}

type Decide = dyn Fn(&Request) -> Option<Fault> + Send + Sync;

struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Body bytes that were sent.
    delivered: AtomicU64,
    numbers: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    /// Bytes a second and connection; 0 is as fast as it goes.
    rate: AtomicU64,
    decide: Box<Decide>,
}

/// A running server of files.
pub(crate) struct Store {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

impl Store {
    /// Serves these files and nothing goes wrong.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        Self::faulty(files, |_| None)
    }

    pub(crate) fn faulty(
        files: &[(&str, &[u8])],
        decide: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let files = files.iter().map(|(path, content)| (format!("/{path}"), content.to_vec()));
        let shared = Arc::new(Shared {
            files: Mutex::new(files.collect()),
            delivered: AtomicU64::new(0),
            numbers: AtomicUsize::new(0),
            requests: Mutex::default(),
            rate: AtomicU64::new(0),
            decide: Box::new(decide),
        });
        let accepting = Arc::clone(&shared);
        // It ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || converse(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        self.shared.files.lock().expect("not poisoned").insert(format!("/{path}"), content.to_vec());
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::SeqCst)
    }

    pub(crate) fn limit_rate(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }
}

/// Requests on one connection, until either side ends it.
fn converse(stream: &TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader, shared) {
        if answer(stream, &request, shared).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>, shared: &Shared) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split_whitespace().nth(1)?.split('?').next()?.to_owned();
    let (mut range, mut authorization) = (None, None);
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.trim_start_matches("bytes=").to_owned()),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let is_probe = range.as_deref() == Some("0-0");
    let start = range.as_deref().and_then(|range| range.split('-').next()?.parse().ok());
    let number = if is_probe { 0 } else { shared.numbers.fetch_add(1, Ordering::SeqCst) };
    let request = Request { path, start, is_probe, authorization, number };
    shared.requests.lock().expect("not poisoned").push(request.clone());
    // The end of the range, for the answer: parts are asked for with both ends.
    END.with(|end| {
        let last = range.as_deref().and_then(|range| range.split('-').nth(1)?.parse().ok());
        end.set(last);
    });
    Some(request)
}

thread_local! {
    /// The last byte that the request on this connection asks for.
    static END: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

fn answer(mut stream: &TcpStream, request: &Request, shared: &Shared) -> std::io::Result<()> {
    let fault = (shared.decide)(request);
    let file = shared.files.lock().expect("not poisoned").get(&request.path).cloned();
    let (status, wait) = match (&fault, &file) {
        (Some(Fault::Status(status, wait)), _) => (Some(*status), *wait),
        (_, None) => (Some(404), None),
        _ => (None, None),
    };
    if let Some(status) = status {
        let wait = wait.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        return stream.write_all(format!("HTTP/1.1 {status} No\r\n{wait}Content-Length: 0\r\n\r\n").as_bytes());
    }
    let mut content = file.unwrap_or_default();
    let size = content.len();
    let tag = format!("{:x}-{}", crc(&content), if matches!(fault, Some(Fault::OtherTag)) { "other" } else { "tag" });
    let ranged = request.start.filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let start = ranged.map_or(0, |start| usize::try_from(start).expect("small"));
    let mut end = END.get().filter(|_| ranged.is_some()).map_or(size, |last| usize::try_from(last + 1).expect("small"));
    end = end.min(size);
    match fault {
        Some(Fault::Short(length)) => end = end.min(start + length),
        Some(Fault::Flip) if start < end => content[start] ^= 1,
        _ => {}
    }
    let status = if ranged.is_some() { "206 Partial Content" } else { "200 OK" };
    let range = ranged.map(|_| format!("Content-Range: bytes {start}-{}/{size}\r\n", end - 1)).unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\nETag: \"{tag}\"\r\n{range}Content-Length: {}\r\n\r\n", end - start);
    stream.write_all(head.as_bytes())?;
    let stop = match fault {
        Some(Fault::Cut(after) | Fault::Stall(after)) => after.min(end - start),
        _ => end - start,
    };
    for piece in content[start..start + stop].chunks(PIECE) {
        stream.write_all(piece)?;
        shared.delivered.fetch_add(piece.len() as u64, Ordering::SeqCst);
        let rate = shared.rate.load(Ordering::SeqCst);
        if let Some(pause) = (piece.len() as u64 * 1_000_000).checked_div(rate) {
            std::thread::sleep(Duration::from_micros(pause));
        }
    }
    match fault {
        Some(Fault::Cut(_)) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Stall(_)) => {
            std::thread::sleep(Duration::from_secs(30));
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        _ => Ok(()),
    }
}

/// Enough to tell contents apart.
fn crc(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
