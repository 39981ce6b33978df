//! What is said when signals cannot be delivered: one line when that begins, one when it ends.
//!
//! The SDK hands batches over on threads of its own, from queues with a bound; what does not fit is dropped. So a
//! collector that is down costs requests nothing, and the exporters' word for each failed batch is not repeated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// An exporter, watched.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    delivery: Arc<Delivery>,
}

/// Why a request failed, by who sent it: the SDK says no more than that one did. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Cause(Arc<Mutex<Option<String>>>);

impl Cause {
    /// Of the last request; none where it was answered, whatever the answer says.
    pub(super) fn set(&self, words: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How the delivery of one signal goes.
#[derive(Debug)]
pub(super) struct Delivery {
    signal: &'static str,
    /// Where to.
    endpoint: String,
    cause: Cause,
    failing: AtomicBool,
}

impl Delivery {
    pub(super) fn of(signal: &'static str, endpoint: &str) -> Arc<Self> {
        Arc::new(Self {
            signal,
            endpoint: endpoint.to_owned(),
            cause: Cause::default(),
            failing: AtomicBool::new(false),
        })
    }

    /// Where a client says why nothing comes through.
    pub(super) fn cause(&self) -> Cause {
        self.cause.clone()
    }

    /// Failures are dealt with here: the SDK would only log them again.
    fn saw(&self, result: OTelSdkResult) -> OTelSdkResult {
        match (result, self.failing.load(Ordering::Relaxed)) {
            (Err(error), false) => {
                let Self { signal, endpoint, cause, .. } = self;
                let cause = cause.take();
                tracing::warn!(signal, endpoint, %error, cause, "signals cannot be delivered and are dropped until they can");
                self.failing.store(true, Ordering::Relaxed);
            }
            (Ok(()), true) => {
                tracing::info!(signal = self.signal, "signals are delivered again");
                self.failing.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(())
    }
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, delivery: &Arc<Delivery>) -> Self {
        Self { exporter, delivery: Arc::clone(delivery) }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.delivery.saw(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.delivery.saw(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.delivery.saw(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
