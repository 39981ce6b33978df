//! How far downloads are: bars on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corymb_repository::{Meter, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Between two lines on the same download. What is done sooner has one line, from who downloads it.
const EVERY: Duration = Duration::from_secs(5);

/// Bars that take more than a moment are worth seeing.
const WORTH_SHOWING: u64 = 1 << 20;

/// For a person, or for a file.
pub(crate) fn of_this_terminal() -> Arc<dyn Progress> {
    if std::io::stderr().is_terminal() { Arc::new(Bars::default()) } else { Arc::new(Lines) }
}

/// Shows that a model is being loaded, until it is dropped: where a person looks as something that moves, elsewhere by a line now and
/// then.
pub(crate) struct Loading {
    spinner: Option<ProgressBar>,
    lines: Option<tokio::task::JoinHandle<()>>,
}

impl Loading {
    /// Within a runtime.
    pub(crate) fn begin(model: &str) -> Self {
        if std::io::stderr().is_terminal() {
            let spinner = ProgressBar::new_spinner().with_message(format!("loading {model}"));
            spinner.enable_steady_tick(Duration::from_millis(100));
            return Self { spinner: Some(spinner), lines: None };
        }
        let (model, begun) = (model.to_owned(), Instant::now());
        let lines = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                tracing::info!(model, seconds = begun.elapsed().as_secs(), "still loading");
            }
        });
        Self { spinner: None, lines: Some(lines) }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        if let Some(lines) = &self.lines {
            lines.abort();
        }
    }
}

#[derive(Debug, Default)]
struct Bars(MultiProgress);

impl Progress for Bars {
    fn begin(&self, object: &str, size: u64, present: u64) -> Box<dyn Meter> {
        if size < WORTH_SHOWING {
            return Box::new(Bar(ProgressBar::hidden()));
        }
        let bar = self.0.add(ProgressBar::new(size));
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(object.to_owned());
        bar.set_position(present);
        bar.reset_eta();
        Box::new(Bar(bar))
    }
}

struct Bar(ProgressBar);

impl Meter for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[derive(Debug)]
struct Lines;

impl Progress for Lines {
    fn begin(&self, object: &str, size: u64, present: u64) -> Box<dyn Meter> {
        if present > 0 && present < size {
            tracing::info!(object, bytes = size, present, "going on with a download");
        }
        Box::new(Line {
            object: object.to_owned(),
            size,
            done: AtomicU64::new(present),
            said: Mutex::new(Instant::now()),
        })
    }
}

struct Line {
    object: String,
    size: u64,
    done: AtomicU64,
    said: Mutex<Instant>,
}

impl Meter for Line {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= EVERY {
            *said = Instant::now();
            let percent = done.saturating_mul(100) / self.size.max(1);
            tracing::info!(object = self.object, bytes = self.size, done, percent, "downloading");
        }
    }

    fn finish(&self) {}
}
