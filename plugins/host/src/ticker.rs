//! The clock that interrupts guests: a thread that advances the engine's epoch while calls are in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How late a deadline or a cancellation may be noticed.
const TICK: Duration = Duration::from_millis(10);

/// Ticks without a call after which the thread sleeps, so that a busy server never pays for waking it.
const IDLE_TICKS: u32 = 50;

#[derive(Default)]
struct Shared {
    active: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
}

/// Ticks while any [`Active`] exists.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (watched, engine) = (Arc::clone(&shared), engine.weak());
        let thread = thread::Builder::new().name("plugin-ticker".to_owned()).stack_size(64 << 10).spawn(move || {
            let mut idle = 0;
            while !watched.stopped.load(SeqCst) {
                thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { break };
                engine.increment_epoch();
                drop(engine);
                idle = if watched.active.load(SeqCst) == 0 { idle + 1 } else { 0 };
                if idle > IDLE_TICKS {
                    watched.sleep_until_called();
                    idle = 0;
                }
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// Keeps the clock running until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Active {
        self.shared.active.fetch_add(1, SeqCst);
        self.wake();
        Active(Arc::clone(self))
    }

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

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.wake();
    }
}

/// A call in progress.
pub(crate) struct Active(Arc<Ticker>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.shared.active.fetch_sub(1, SeqCst);
    }
}
