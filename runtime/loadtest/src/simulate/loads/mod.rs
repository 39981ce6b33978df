//! Loads: files that say when requests come. What a file is follows from what is in it.

mod csv;
mod hey;
mod prometheus;
mod trace;

pub use trace::Trace;

use super::SimulateError;

/// The longest file.
pub const MAX_BYTES: u64 = 256 << 20;

/// The most rates of a trace.
const MAX_STEPS: usize = 1_000_000;

/// The greatest rate.
const MAX_RATE: f64 = 1e9;

impl Trace {
    /// Parses a load: lines of `seconds,rate`, the answer of Prometheus to a range query, or what hey printed, as it does by
    /// itself or with `-o csv`.
    ///
    /// # Errors
    /// Names the line, or of an answer of Prometheus the sample.
    pub fn parse(text: &str) -> Result<Self, SimulateError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        if first.starts_with('{') {
            prometheus::parse(text)
        } else if hey::is_table(first) {
            hey::table(text)
        } else if first == hey::SUMMARY {
            hey::summary(text)
        } else {
            csv::parse(text)
        }
    }
}

/// Names a line in an error.
fn wrong(line: usize, reason: impl Into<String>) -> SimulateError {
    SimulateError::Trace { line, reason: reason.into() }
}
