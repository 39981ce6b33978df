//! The server's side of one child: orders it, waits for it, and ends it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{self, ChildStderr, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use corymb_core::{CancelFlag, Ending, Holder};

use crate::messages::{Order, Report};
use crate::records::Missing;
use crate::starter::Started;
use crate::stream::Stream;

/// How late a cancellation may be noticed.
const TICK: Duration = Duration::from_millis(10);
/// How long a run that was told to stop may go on before its process is ended: engines look for it between nodes.
const GRACE: Duration = Duration::from_secs(2);
/// Of what a child writes to its standard error so many lines are kept, and so many bytes of each.
const LINES: usize = 4;
const LINE_BYTES: u64 = 1 << 10;

/// Why a child is no more.
pub(crate) enum End {
    /// It has ended, as these words say.
    Gone { how: String, by: Ending },
    /// It was ended since it did not stop when it was told to.
    Late,
}

/// What a child said last.
#[derive(Default)]
struct LastWords {
    lines: VecDeque<String>,
    /// Whether it has said that it was refused memory; what comes behind that may be long.
    no_memory: bool,
}

/// A child process that runs.
pub(crate) struct Child {
    process: process::Child,
    stream: Stream,
    pub(crate) memory: File,
    /// Whether it has answered a run.
    pub(crate) has_served: bool,
    last_words: Arc<Mutex<LastWords>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Child {
    pub(crate) fn new(started: Started, model: &str) -> io::Result<Self> {
        let Started { mut process, stream, memory } = started;
        let last_words = Arc::<Mutex<LastWords>>::default();
        let reader = process.stderr.take().map(|errors| {
            let (words, model) = (Arc::clone(&last_words), model.to_owned());
            let name = "child-stderr".to_owned();
            thread::Builder::new().name(name).stack_size(128 << 10).spawn(move || listen(errors, &words, &model))
        });
        let stream = Stream::new(stream, Some(TICK));
        // Ended if anything went wrong.
        let child = |stream, reader| Self { process, stream, memory, has_served: false, last_words, reader };
        match (stream, reader.transpose()) {
            (Ok(stream), Ok(reader)) => Ok(child(stream, reader)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Sends an order and waits for its answer. What the child borrows for it is added to `holder`. At `ends`, or when it is
    /// cancelled, the child is told to stop, and ended when it does not.
    pub(crate) fn ask(
        &mut self,
        order: &Order,
        cancel: &CancelFlag,
        ends: Option<Instant>,
        holder: &mut Holder,
    ) -> Result<Report, End> {
        self.stream.send(order).map_err(|_| self.gone())?;
        let mut told: Option<Instant> = None;
        loop {
            match self.stream.receive() {
                Ok(Some(Report::Lend(bytes))) => {
                    let lent = holder.grow(bytes).map_err(Missing::from);
                    self.stream.send(&Order::Lent(lent)).map_err(|_| self.gone())?;
                }
                Ok(Some(report)) => return Ok(report),
                Ok(None) => {}
                Err(_) => return Err(self.gone()),
            }
            let now = Instant::now();
            match told {
                Some(told) if now.duration_since(told) >= GRACE => return Err(End::Late),
                None if cancel.is_cancelled() || ends.is_some_and(|ends| ends <= now) => {
                    self.stream.send(&Order::Cancel).map_err(|_| self.gone())?;
                    told = Some(now);
                }
                _ => {}
            }
        }
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<End> {
        let ended = self.process.try_wait().is_ok_and(|status| status.is_some());
        ended.then(|| self.gone())
    }

    /// How it ended, and what it said last.
    fn gone(&mut self) -> End {
        // Its socket is closed: it is about to end, or will not do anything of use.
        let until = Instant::now() + GRACE;
        let status = loop {
            match self.process.try_wait() {
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                Ok(Some(status)) => break Ok(status),
                _ => {
                    let _ = self.process.kill();
                    break self.process.wait();
                }
            }
        };
        let is_killed = status.as_ref().is_ok_and(|status| status.signal() == Some(KILLED));
        let how = status.map_or_else(|error| error.to_string(), in_words);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let by = match is_killed {
            true => Ending::Outside,
            false if words.no_memory => Ending::Memory,
            false => Ending::Itself,
        };
        let words = words.lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
        End::Gone { how: if words.is_empty() { how } else { format!("{how}; it said: {words}") }, by }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // A process that was killed is gone as soon as the kernel has it off a core.
        let _ = self.process.wait();
    }
}

fn in_words(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => {
            let name = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("", |(_, name)| name);
            format!("ended by signal {signal}{name}")
        }
        None => format!("ended with {status}"),
    }
}

/// What the runtimes of C++ and of Rust say last where memory is refused.
const NO_MEMORY: [&str; 2] = ["std::bad_alloc", "memory allocation of "];
/// The number of the signal that nobody can hinder: of the kernel, where memory has run out, or of a person.
const KILLED: i32 = 9;
/// Those that end processes by what they do, by their numbers on Linux.
const SIGNALS: [(i32, &str); 7] = [
    (4, " (SIGILL)"),
    (6, " (SIGABRT)"),
    (7, " (SIGBUS)"),
    (8, " (SIGFPE)"),
    (9, " (SIGKILL)"),
    (11, " (SIGSEGV)"),
    (24, " (SIGXCPU: it took more of the processors' time than it may)"),
];

/// Keeps the last lines of a child, and logs them.
fn listen(errors: ChildStderr, words: &Mutex<LastWords>, model: &str) {
    let mut errors = BufReader::new(errors);
    loop {
        let mut line = Vec::new();
        match errors.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if line.is_empty() {
            continue;
        }
        tracing::debug!(model, line, "a model's process said");
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.no_memory |= NO_MEMORY.iter().any(|said| line.contains(said));
        if words.lines.len() == LINES {
            words.lines.pop_front();
        }
        words.lines.push_back(line);
    }
}
