//! The contract's `logging` and `metrics`: what a plugin says goes where everything else of the server goes, in bounds.

use crate::bindings::{logging, metrics, types};
use crate::limits::{LOG_LINE, cut};
use crate::state::State;

impl types::Host for State {}

impl logging::Host for State {
    fn log(&mut self, level: logging::Level, message: String) -> wasmtime::Result<()> {
        let Some(left) = self.log_lines.checked_sub(1) else { return Ok(()) };
        self.log_lines = left;
        let (plugin, model) = (&self.identity.plugin, &self.identity.model);
        // A line stays one line, whatever the plugin puts into it.
        let message = cut(message, LOG_LINE).replace(char::is_control, " ");
        match level {
            logging::Level::Trace => tracing::trace!(%plugin, %model, "{message}"),
            logging::Level::Debug => tracing::debug!(%plugin, %model, "{message}"),
            logging::Level::Info => tracing::info!(%plugin, %model, "{message}"),
            logging::Level::Warn => tracing::warn!(%plugin, %model, "{message}"),
            logging::Level::Error => tracing::error!(%plugin, %model, "{message}"),
        }
        if left == 0 {
            self.identity.telemetry.limit_met();
            tracing::warn!(%plugin, %model, "further log lines of this request are dropped");
        }
        Ok(())
    }
}

impl metrics::Host for State {
    fn counter_add(&mut self, name: String, value: u64) -> wasmtime::Result<()> {
        self.identity.telemetry.counter_add(&name, value);
        Ok(())
    }

    fn histogram_record(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.identity.telemetry.histogram_record(&name, value);
        Ok(())
    }
}
