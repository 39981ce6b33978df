//! Ends runs that nobody waits for any more, and those that take too long: a thread looks at the runs in progress.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use corymb_core::{Beating, CancelFlag, Heartbeat};
use ort::session::RunOptions;

/// How late a cancellation may be noticed. Runs shorter than this are over before anyone looks.
const TICK: Duration = Duration::from_millis(10);

/// The run options of one instance, and the flag of the run in progress.
pub(crate) struct Slot {
    pub(crate) options: RunOptions,
    running: Mutex<Option<Running>>,
}

struct Running {
    cancel: CancelFlag,
    ends: Option<Instant>,
    terminated: bool,
}

type Slots = Mutex<Vec<Weak<Slot>>>;

/// Looks at the flags while any run is in progress.
pub(crate) struct Watch {
    slots: Arc<Slots>,
    heart: Heartbeat,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn start() -> std::io::Result<Self> {
        let slots = Arc::<Slots>::default();
        let watched = Arc::clone(&slots);
        let heart = Heartbeat::start("onnxruntime-watch", 128 << 10, TICK, move || {
            look(&watched);
            ControlFlow::Continue(())
        })?;
        Ok(Self { slots, heart })
    }

    /// A place for one instance's runs.
    pub(crate) fn slot(&self, options: RunOptions) -> Arc<Slot> {
        let slot = Arc::new(Slot { options, running: Mutex::new(None) });
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }

    /// Watches over one run, until the guard is dropped.
    pub(crate) fn enter<'a>(&self, slot: &'a Slot, options: &corymb_core::RunOptions) -> Active<'a> {
        *slot.lock() = Some(Running { cancel: options.cancel.clone(), ends: options.ends, terminated: false });
        Active { slot, _beating: self.heart.enter() }
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(slots: &Slots) {
    let slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
    for slot in slots.iter().filter_map(Weak::upgrade) {
        // Held while the flag is set: the run cannot end in between and leave it set for the next one.
        if let Some(running) = &mut *slot.lock()
            && !running.terminated
            && (running.cancel.is_cancelled() || running.ends.is_some_and(|ends| ends <= Instant::now()))
        {
            running.terminated = slot.options.terminate().is_ok();
        }
    }
}

/// A run in progress.
pub(crate) struct Active<'a> {
    slot: &'a Slot,
    _beating: Beating,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if self.slot.lock().take().is_some_and(|running| running.terminated) {
            // The options serve the next run too.
            let _ = self.slot.options.unterminate();
        }
    }
}
