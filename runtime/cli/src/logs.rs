//! The log: readable on a terminal, JSON elsewhere, one line per event, on standard error.

use std::io::{IsTerminal as _, stderr};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogFormat;

/// Starts the log of this process.
pub(crate) fn start(format: LogFormat, level: &str) -> anyhow::Result<()> {
    // The SDK of the signals reports each of its own steps at info.
    let directives = format!("opentelemetry=warn,opentelemetry_sdk=warn,{level}");
    let filter = EnvFilter::try_new(directives).with_context(|| format!("log level '{level}'"))?;
    let terminal = stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(stderr).with_ansi(terminal);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Auto if !terminal => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_target(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log could not be started: {error}"))
}
