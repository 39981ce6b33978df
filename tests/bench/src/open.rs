//! Load that comes whether it is answered or not: each request has its moment, and what is late counts as waiting.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::load::Connection;

/// What came of the requests.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Of status 200: from the moment that a request was due to its answer.
    pub(crate) accepted: Vec<Duration>,
    /// Of status 429: from sending to the answer.
    pub(crate) refused: Vec<Duration>,
    /// Of another status.
    pub(crate) failed: usize,
    /// One of these.
    pub(crate) failure: Option<String>,
    /// How late the load itself was at worst, for want of a free connection or of a core.
    pub(crate) late: Duration,
    /// From the first request due to the last answer.
    pub(crate) time: Duration,
}

impl Answers {
    pub(crate) fn count(&self) -> usize {
        self.accepted.len() + self.refused.len() + self.failed
    }

    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused.extend(other.refused);
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.late = self.late.max(other.late);
    }
}

/// Sends `rate` requests a second, evenly, over as many connections as are needed up to `connections`.
pub(crate) fn run(
    address: SocketAddr,
    message: &[u8],
    rate: f64,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Answers> {
    let connections: Vec<Connection> = (0..connections).map(|_| Connection::open(address)).collect::<Result<_, _>>()?;
    let next = AtomicUsize::new(0);
    let total = (rate * time.as_secs_f64()) as usize;
    let begin = Instant::now() + Duration::from_millis(10);
    std::thread::scope(|scope| {
        let worker = |mut connection: Connection| {
            let mut answers = Answers::default();
            loop {
                let ticket = next.fetch_add(1, Ordering::Relaxed);
                if ticket >= total {
                    return anyhow::Ok(answers);
                }
                let due = begin + Duration::from_secs_f64(ticket as f64 / rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let sent = Instant::now();
                answers.late = answers.late.max(sent - due);
                let answer = connection.send(message)?;
                match answer.status {
                    200 => answers.accepted.push(due.elapsed()),
                    429 => answers.refused.push(sent.elapsed()),
                    status => {
                        answers.failed += 1;
                        let text = || format!("{status}: {}", String::from_utf8_lossy(answer.body));
                        answers.failure.get_or_insert_with(text);
                    }
                }
            }
        };
        let workers: Vec<_> =
            connections.into_iter().map(|connection| scope.spawn(move || worker(connection))).collect();
        let mut all = Answers::default();
        for worker in workers {
            all.add(worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??);
        }
        all.time = begin.elapsed();
        Ok(all)
    })
}
