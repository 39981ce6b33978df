//! Standard error: the lines of requests are gathered for a moment and written together, all others are written at once.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a gathered line waits for others.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes that may be gathered. Lines beyond are lost: a reader that is too slow must not slow the server down.
const MAX: usize = 4 << 20;

/// A handle to the one sink of the process.
#[derive(Clone, Debug)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    // Held while a line is copied, never while anything is written.
    gathered: Mutex<Gathered>,
    come: Condvar,
    /// Held while lines are taken and written, so that they keep their order; with the memory that is not in use.
    out: Mutex<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Gathered {
    lines: Vec<u8>,
    lost: u64,
}

impl Sink {
    pub(super) fn start() -> std::io::Result<Self> {
        let sink = Self(Arc::default());
        let shared = Arc::clone(&sink.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.run())?;
        Ok(sink)
    }

    /// Writes a line soon, or loses it when too many wait.
    pub(super) fn gather(&self, line: &str) {
        let mut gathered = lock(&self.0.gathered);
        if gathered.lines.len() + line.len() > MAX {
            gathered.lost += 1;
            return;
        }
        let first = gathered.lines.is_empty();
        gathered.lines.extend_from_slice(line.as_bytes());
        drop(gathered);
        if first {
            self.0.come.notify_one();
        }
    }

    /// Writes what was gathered, then this line.
    pub(super) fn write(&self, line: &str) {
        let out = self.0.write_gathered();
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
        drop(out);
    }

    /// Writes what was gathered.
    pub(super) fn flush(&self) {
        drop(self.0.write_gathered());
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut gathered = lock(&self.gathered);
            while gathered.lines.is_empty() {
                gathered = self.come.wait(gathered).unwrap_or_else(PoisonError::into_inner);
            }
            drop(gathered);
            std::thread::sleep(PAUSE);
            drop(self.write_gathered());
            let lost = std::mem::take(&mut lock(&self.gathered).lost);
            if lost > 0 {
                tracing::warn!(lost, "lines of requests were lost: the log is not read fast enough");
            }
        }
    }

    fn write_gathered(&self) -> MutexGuard<'_, Vec<u8>> {
        let mut out = lock(&self.out);
        std::mem::swap(&mut lock(&self.gathered).lines, &mut out);
        let _ = std::io::stderr().lock().write_all(&out);
        out.clear();
        out
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
            sink.gather(&line);
        }
        let gathered = lock(&sink.0.gathered);
        assert_eq!((gathered.lines.len(), gathered.lost), (MAX, 2));
    }
}
