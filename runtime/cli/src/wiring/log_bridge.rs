//! The log as OpenTelemetry's third signal: each event of our own becomes a record in the trace that it names.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, Severity};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Part of the log's subscriber from the start; idle until there is somewhere to send records.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogBridge(Arc<OnceLock<SdkLogger>>);

impl LogBridge {
    /// From here on, events are sent to `logger` too.
    pub(super) fn connect(&self, logger: SdkLogger) {
        // A process has one log and connects it once.
        let _ = self.0.set(logger);
    }
}

/// The trace and the span that an event belongs to.
#[derive(Clone, Copy, Debug, Default)]
struct Ids {
    trace: Option<TraceId>,
    span: Option<SpanId>,
}

impl Ids {
    /// Whether the field is one of ours.
    fn take(&mut self, field: &Field, text: &str) -> bool {
        match field.name() {
            "trace_id" => self.trace = TraceId::from_hex(text).ok(),
            "span_id" => self.span = SpanId::from_hex(text).ok(),
            _ => return false,
        }
        true
    }

    /// Of the request whose handler is being polled.
    fn current() -> Self {
        let mut ids = Self::default();
        corymb_server::with_current_request(|trace, span, _| {
            ids.trace = TraceId::from_hex(&trace.to_string()).ok();
            ids.span = SpanId::from_hex(&span.to_string()).ok();
        });
        ids
    }
}

/// Fills a record with the fields of an event.
struct Fields<'a> {
    record: &'a mut SdkLogRecord,
    ids: Ids,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<AnyValue>) {
        self.record.add_attribute(field.name(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record.set_body(value.to_owned().into());
        } else if !self.ids.take(field, value) {
            self.put(field, value.to_owned());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

impl<S: Subscriber> Layer<S> for LogBridge {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(logger) = self.0.get() else { return };
        let metadata = event.metadata();
        // What the libraries below the exporters have to say must not be sent by them: it would never end.
        if !metadata.target().starts_with("corymb") {
            return;
        }
        let mut record = logger.create_log_record();
        record.set_timestamp(SystemTime::now());
        record.set_target(metadata.target());
        record.set_severity_number(severity(*metadata.level()));
        record.set_severity_text(metadata.level().as_str());
        let mut fields = Fields { record: &mut record, ids: Ids::default() };
        event.record(&mut fields);
        let ids = if fields.ids.trace.is_some() { fields.ids } else { Ids::current() };
        if let Some(trace) = ids.trace {
            record.set_trace_context(trace, ids.span.unwrap_or(SpanId::INVALID), None);
        }
        logger.emit(record);
    }
}
