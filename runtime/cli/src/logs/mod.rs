//! The log: readable on a terminal, JSON elsewhere, one line per event, on standard error.
//!
//! Every request makes an event, so lines are written here rather than by a general formatter, whose line costs more
//! than the rest of the server does for a small model. What they look like is `line.rs`, when they go out `sink.rs`.

mod line;
mod sink;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::io::{IsTerminal as _, stderr};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, registry};

use crate::config::LogFormat;
use crate::logs::line::Style;
use crate::logs::sink::{Sink, Weight};
use crate::wiring::LogBridge;

/// The target of the events that every request makes.
const ACCESS: &str = "corymb::access";

/// A line that grew longer than this gives its memory back.
const KEPT: usize = 16 << 10;

/// The running log. Dropping it waits a moment until what was gathered is written.
#[derive(Debug)]
pub(crate) struct Log(Sink);

impl Log {
    /// Lines that were lost so far, since nobody reads the log fast enough.
    pub(crate) fn lost(&self) -> Arc<AtomicU64> {
        self.0.lost()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Starts the log of this process; `bridge` is given each event too.
pub(crate) fn start(format: LogFormat, level: &str, bridge: LogBridge) -> anyhow::Result<Log> {
    // The SDK of the signals reports each of its own steps and each batch that it lost: what matters of that, we say.
    let directives = format!("opentelemetry=off,{level}");
    let filter = EnvFilter::try_new(directives).with_context(|| format!("log level '{level}'"))?;
    let terminal = stderr().is_terminal();
    let style = match format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !terminal => Style::Json,
        LogFormat::Auto | LogFormat::Text => Style::Text { colour: terminal },
    };
    let sink = Sink::start().context("start the log's thread")?;
    let started = registry().with(filter).with(Lines { style, sink: sink.clone() }).with(bridge).try_init();
    started.map_err(|error| anyhow::anyhow!("the log could not be started: {error}"))?;
    // Written by the standard library a panic would break into the lines of other threads.
    std::panic::set_hook(Box::new(log_panic));
    Ok(Log(sink))
}

/// Whoever caught it says what became of it: this is where it was. With the backtrace where `RUST_BACKTRACE` asks for one.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = panic.payload_as_str().unwrap_or("no reason given");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        tracing::warn!(place, panic = words, backtrace = %trace, "panicked");
    } else {
        tracing::warn!(place, panic = words, "panicked");
    }
}

/// Makes a line of each event.
struct Lines {
    style: Style,
    sink: Sink,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let write = |line: &mut String| {
            line.clear();
            line::write(line, self.style, event);
            let metadata = event.metadata();
            let usual =
                *metadata.level() > Level::INFO || metadata.target() == ACCESS && *metadata.level() > Level::WARN;
            self.sink.write(line, if usual { Weight::Usual } else { Weight::More });
            if line.capacity() > KEPT {
                *line = String::new();
            }
        };
        // Where a field's own formatting logs, or the thread is ending, the line has memory of its own.
        let written = LINE.try_with(|line| line.try_borrow_mut().map(|mut line| write(&mut line)).is_ok());
        if written != Ok(true) {
            write(&mut String::new());
        }
    }
}
