//! A thread that does something small at every tick while work is in progress, and sleeps when there is none.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

/// Ticks without work after which the thread sleeps, so that a busy server never pays for waking it.
const IDLE_TICKS: u32 = 50;

#[derive(Debug, Default)]
struct Shared {
    active: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Thread,
}

/// Beats while any [`Beating`] exists, and a few ticks longer. The thread ends with the last handle.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Handle>);

impl Heartbeat {
    /// Starts the thread, which calls `beat` at every tick until that breaks.
    ///
    /// # Errors
    /// The operating system's, when there can be no thread.
    pub fn start(
        name: &str,
        stack_size: usize,
        tick: Duration,
        mut beat: impl FnMut() -> ControlFlow<()> + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack_size).spawn(move || {
            let mut idle = 0;
            while !watched.stopped.load(SeqCst) {
                thread::sleep(tick);
                if beat().is_break() {
                    break;
                }
                idle = if watched.active.load(SeqCst) == 0 { idle + 1 } else { 0 };
                if idle > IDLE_TICKS {
                    watched.sleep_until_called();
                    idle = 0;
                }
            }
        })?;
        Ok(Self(Arc::new(Handle { shared, thread: thread.thread().clone() })))
    }

    /// Keeps it beating until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> Beating {
        self.0.shared.active.fetch_add(1, SeqCst);
        self.0.wake();
        Beating(Arc::clone(&self.0))
    }
}

impl Handle {
    fn wake(&self) {
        if self.shared.parked.load(SeqCst) && self.shared.parked.swap(false, SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Shared {
    /// Either this sees the caller's count, or the caller sees `parked`: both are written before the other is read.
    fn sleep_until_called(&self) {
        self.parked.store(true, SeqCst);
        if self.active.load(SeqCst) > 0 || self.stopped.load(SeqCst) {
            self.parked.store(false, SeqCst);
        }
        while self.parked.load(SeqCst) {
            thread::park();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.wake();
    }
}

/// Work in progress.
#[derive(Debug)]
pub struct Beating(Arc<Handle>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.shared.active.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn it_sleeps_without_work_beats_with_it_and_ends_with_its_handle() {
        let (sender, beats) = mpsc::channel();
        let beat = move || if sender.send(()).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        let heart = Heartbeat::start("test", 64 << 10, Duration::from_millis(1), beat).expect("a thread");
        // Until it sleeps.
        let long = Duration::from_secs(10);
        let deadline = std::time::Instant::now() + long;
        while !heart.0.shared.parked.load(SeqCst) {
            assert!(std::time::Instant::now() < deadline, "it sleeps without work");
            // It may fall asleep after it was looked at: no beat is waited for.
            thread::sleep(Duration::from_millis(1));
        }
        while beats.try_recv().is_ok() {}
        for _ in 0..3 {
            let beating = heart.enter();
            beats.recv_timeout(long).expect("it beats again");
            drop(beating);
        }
        drop(heart);
        while beats.recv_timeout(long).is_ok() {}
        assert_eq!(beats.try_recv(), Err(mpsc::TryRecvError::Disconnected), "the thread has ended");
    }
}
