//! The clock that interrupts guests: it advances the engine's epoch while calls are in progress.

use std::ops::ControlFlow;
use std::time::Duration;

use corymb_core::Heartbeat;
use wasmtime::Engine;

/// How late a deadline or a cancellation may be noticed.
const TICK: Duration = Duration::from_millis(10);

pub(crate) fn start(engine: &Engine) -> std::io::Result<Heartbeat> {
    let engine = engine.weak();
    Heartbeat::start("plugin-ticker", 64 << 10, TICK, move || match engine.upgrade() {
        Some(engine) => {
            engine.increment_epoch();
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    })
}
