//! Standard error: lines are gathered for a moment and written together, by a thread of their own. Whoever logs never waits for who
//! reads the log.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a line waits for others.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of lines that may wait: those that every request makes, and those that say more. Lines beyond are lost.
const MAX_USUAL: usize = 4 << 20;
const MAX: usize = 5 << 20;
/// How long a process that ends waits for who reads the log.
const LAST: Duration = Duration::from_secs(1);

/// A handle to the one sink of the process.
#[derive(Clone, Debug)]
pub(super) struct Sink(Arc<Shared>);

/// How much a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// One of very many: it waits for others.
    Usual,
    /// It is written as soon as can be: the process may end.
    More,
}

#[derive(Debug, Default)]
struct Shared {
    // Held while a line is copied, never while anything is written.
    gathered: Mutex<Gathered>,
    come: Condvar,
    /// When all that was gathered is written.
    written: Condvar,
    lost: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Gathered {
    lines: Vec<u8>,
    /// Whether a line waits that says more.
    urgent: bool,
    /// Whether lines were taken and are being written.
    writing: bool,
}

impl Sink {
    pub(super) fn start() -> std::io::Result<Self> {
        let sink = Self(Arc::default());
        let shared = Arc::clone(&sink.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.run())?;
        Ok(sink)
    }

    /// Writes a line soon, or loses it when too many wait.
    pub(super) fn write(&self, line: &str, weight: Weight) {
        let max = if weight == Weight::Usual { MAX_USUAL } else { MAX };
        let mut gathered = lock(&self.0.gathered);
        if gathered.lines.len() + line.len() > max {
            drop(gathered);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let wakes = gathered.lines.is_empty() || (weight == Weight::More && !gathered.urgent);
        gathered.lines.extend_from_slice(line.as_bytes());
        gathered.urgent |= weight == Weight::More;
        drop(gathered);
        if wakes {
            self.0.come.notify_one();
        }
    }

    /// Lines that were lost so far.
    pub(super) fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.lost)
    }

    /// Waits until what was gathered is written, if somebody reads it.
    pub(super) fn flush(&self) {
        let until = Instant::now() + LAST;
        let mut gathered = lock(&self.0.gathered);
        gathered.urgent = true;
        self.0.come.notify_one();
        while !gathered.lines.is_empty() || gathered.writing {
            let left = until.saturating_duration_since(Instant::now());
            let (next, waited) = self.0.written.wait_timeout(gathered, left).unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return;
            }
            gathered = next;
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut said = 0;
        let mut lines = Vec::new();
        loop {
            let mut gathered = lock(&self.gathered);
            while gathered.lines.is_empty() {
                gathered = self.come.wait(gathered).unwrap_or_else(PoisonError::into_inner);
            }
            if !gathered.urgent {
                gathered = self.come.wait_timeout(gathered, PAUSE).unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut gathered.lines, &mut lines);
            gathered.urgent = false;
            gathered.writing = true;
            drop(gathered);
            // Nobody is left to tell when standard error is gone.
            let _ = std::io::stderr().lock().write_all(&lines);
            lines.clear();
            lock(&self.gathered).writing = false;
            self.written.notify_all();
            let lost = self.lost.load(Ordering::Relaxed);
            if lost > said {
                tracing::warn!(lost = lost - said, "lines were lost: the log is not read fast enough");
                said = lost;
            }
        }
    }
}

/// Whole lines or nothing: what lies behind a poisoned lock is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_bounded() {
        // Without its thread, so that nothing is written meanwhile.
        let sink = Sink(Arc::default());
        let line = "x".repeat(1 << 20);
        for _ in 0..6 {
            sink.write(&line, Weight::Usual);
        }
        assert_eq!((lock(&sink.0.gathered).lines.len(), sink.lost().load(Ordering::Relaxed)), (MAX_USUAL, 2));
        // There is room for what says that something is wrong, and an end of that, too.
        sink.write("something is wrong", Weight::More);
        for _ in 0..6 {
            sink.write(&line, Weight::More);
        }
        assert_eq!((lock(&sink.0.gathered).lines.len(), sink.lost().load(Ordering::Relaxed)), (MAX_USUAL + 18, 8));
        // Nobody waits for ever for who does not read.
        sink.flush();
    }
}
