//! Ends runs that nobody waits for any more: a thread looks at the cancel flags of runs in progress.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use corymb_core::CancelFlag;
use ort::session::RunOptions;

/// How late a cancellation may be noticed. Runs shorter than this are over before anyone looks.
const TICK: Duration = Duration::from_millis(10);
/// Ticks without a run after which the thread sleeps, so that a busy server never pays for waking it.
const IDLE_TICKS: u32 = 50;

/// The run options of one instance, and the flag of the run in progress.
pub(crate) struct Slot {
    pub(crate) options: RunOptions,
    running: Mutex<Option<Running>>,
}

struct Running {
    cancel: CancelFlag,
    terminated: bool,
}

#[derive(Default)]
struct Shared {
    active: AtomicUsize,
    parked: AtomicBool,
    stopped: AtomicBool,
    slots: Mutex<Vec<Weak<Slot>>>,
}

/// Looks at the flags while any run is in progress.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Thread,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        let builder = thread::Builder::new().name("onnxruntime-watch".to_owned()).stack_size(128 << 10);
        let thread = builder.spawn(move || {
            let mut idle = 0;
            while !watched.stopped.load(SeqCst) {
                thread::sleep(TICK);
                watched.look();
                idle = if watched.active.load(SeqCst) == 0 { idle + 1 } else { 0 };
                if idle > IDLE_TICKS {
                    watched.sleep_until_called();
                    idle = 0;
                }
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// A place for one instance's runs.
    pub(crate) fn slot(&self, options: RunOptions) -> Arc<Slot> {
        let slot = Arc::new(Slot { options, running: Mutex::new(None) });
        let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }

    /// Watches over one run, until the guard is dropped.
    pub(crate) fn enter<'a>(&'a self, slot: &'a Slot, cancel: &CancelFlag) -> Active<'a> {
        *slot.lock() = Some(Running { cancel: cancel.clone(), terminated: false });
        self.shared.active.fetch_add(1, SeqCst);
        self.wake();
        Active { watch: self, slot }
    }

    fn wake(&self) {
        if self.shared.parked.load(SeqCst) && self.shared.parked.swap(false, SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn look(&self) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.iter().filter_map(Weak::upgrade) {
            // Held while the flag is set: the run cannot end in between and leave it set for the next one.
            if let Some(running) = &mut *slot.lock()
                && !running.terminated
                && running.cancel.is_cancelled()
            {
                running.terminated = slot.options.terminate().is_ok();
            }
        }
    }

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

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.wake();
    }
}

/// A run in progress.
pub(crate) struct Active<'a> {
    watch: &'a Watch,
    slot: &'a Slot,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.watch.shared.active.fetch_sub(1, SeqCst);
        if self.slot.lock().take().is_some_and(|running| running.terminated) {
            // The options serve the next run too.
            let _ = self.slot.options.unterminate();
        }
    }
}
