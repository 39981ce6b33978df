//! The load: a closed loop of keep-alive HTTP/1.1 connections, one thread each, that costs little beside the server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use crate::process::own_cpu;

/// An answer that takes longer is an error.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The largest head and body together that is read; the metrics page is the largest there is.
const MAX_ANSWER: usize = 4 << 20;

/// A connection that is used again and again.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Status and body of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Self::over(TcpStream::connect(address).with_context(|| format!("connect to {address}"))?)
    }

    pub(crate) fn over(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream, buffer: vec![0; 16 << 10] })
    }

    /// Sends a whole message and reads the whole answer, which must say its length.
    pub(crate) fn send(&mut self, message: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(message).context("send a request")?;
        let mut filled = 0;
        let (status, body, end) = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).context("read an answer")?;
            anyhow::ensure!(read > 0, "the server closed the connection after {filled} bytes of an answer");
            // A terminator may lie across two reads.
            let from = filled.saturating_sub(3);
            filled += read;
            let found = self.buffer[from..filled].windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(position) = found {
                let body = from + position + 4;
                let (status, length) = head(&self.buffer[..body])?;
                anyhow::ensure!(length <= MAX_ANSWER, "an answer of {length} bytes; at most {MAX_ANSWER} are read");
                break (status, body, body + length);
            }
            anyhow::ensure!(filled < self.buffer.len(), "the head of an answer exceeds {filled} bytes");
        };
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        if filled < end {
            self.stream.read_exact(&mut self.buffer[filled..end]).context("read an answer's body")?;
        }
        Ok(Answer { status, body: &self.buffer[body..end] })
    }

    /// The body of a page.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<String> {
        let Answer { status, body } =
            self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let text = String::from_utf8_lossy(body).into_owned();
        anyhow::ensure!(status == 200, "GET {path}: {status}: {text}");
        Ok(text)
    }
}

/// Status and length of the body.
fn head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let text = std::str::from_utf8(head).context("the head of an answer")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let lengths =
        lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.map(|(_, value)| value.trim().parse().ok()).next().flatten();
    status.zip(length).with_context(|| format!("an answer without status or Content-Length: {text}"))
}

/// When a load ends: whatever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    pub(crate) time: Duration,
    pub(crate) requests: usize,
}

impl Until {
    pub(crate) fn time(time: Duration) -> Self {
        Self { time, requests: usize::MAX }
    }
}

/// What a load found.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// From the first byte sent to the last byte read of each answer of status 200.
    pub(crate) latencies: Vec<Duration>,
    /// Answers of other statuses.
    pub(crate) failed: usize,
    /// One of these.
    pub(crate) failure: Option<String>,
    /// From the first request sent to the last answer.
    pub(crate) time: Duration,
    /// CPU time of the load itself.
    pub(crate) own_cpu: Duration,
}

impl Load {
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.time += other.time;
        self.own_cpu += other.own_cpu;
    }

    /// Requests answered by 200 per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }
}

/// Keeps `concurrency` requests in flight. What is in flight at the end is waited for, and counts.
pub(crate) fn run(address: SocketAddr, message: &[u8], concurrency: usize, until: Until) -> anyhow::Result<Load> {
    let connections: Vec<Connection> = (0..concurrency).map(|_| Connection::open(address)).collect::<Result<_, _>>()?;
    let begun = AtomicUsize::new(0);
    let barrier = Barrier::new(concurrency + 1);
    let may_begin = |end: Instant| Instant::now() < end && begun.fetch_add(1, Ordering::Relaxed) < until.requests;
    let cpu = own_cpu()?;
    let mut load = std::thread::scope(|scope| {
        let worker = |mut connection: Connection| {
            barrier.wait();
            let end = Instant::now() + until.time;
            let mut load = Load::default();
            while may_begin(end) {
                let begin = Instant::now();
                let answer = connection.send(message)?;
                let took = begin.elapsed();
                if answer.status == 200 {
                    load.latencies.push(took);
                } else {
                    load.failed += 1;
                    let text = || format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body));
                    load.failure.get_or_insert_with(text);
                }
            }
            anyhow::Ok(load)
        };
        let workers: Vec<_> =
            connections.into_iter().map(|connection| scope.spawn(move || worker(connection))).collect();
        barrier.wait();
        let begin = Instant::now();
        let mut all = Load::default();
        for worker in workers {
            all.add(worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??);
        }
        all.time = begin.elapsed();
        anyhow::Ok(all)
    })?;
    load.own_cpu = own_cpu()? - cpu;
    Ok(load)
}

/// Exact percentiles by nearest rank, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Percentiles {
    /// None of no samples.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let rank = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1);
            samples.get(rank - 1).map(|sample| sample.as_secs_f64() * 1e3)
        };
        Some(Self { p50_ms: rank(50)?, p90_ms: rank(90)?, p99_ms: rank(99)?, max_ms: rank(100)? })
    }
}
