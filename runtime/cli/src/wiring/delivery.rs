//! What is said when signals cannot be delivered: one line when that begins, one when it ends.
//!
//! The SDK hands batches over on threads of its own, from queues with a bound; what does not fit is dropped. So a
//! collector that is down costs requests nothing, and the exporters' word for each failed batch is not repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How the delivery of one signal goes.
#[derive(Debug)]
pub(super) struct Delivery {
    signal: &'static str,
    failing: AtomicBool,
}

impl Delivery {
    pub(super) fn of(signal: &'static str) -> Arc<Self> {
        Arc::new(Self { signal, failing: AtomicBool::new(false) })
    }

    /// Failures are dealt with here: the SDK would only log them again.
    fn saw(&self, result: OTelSdkResult) -> OTelSdkResult {
        match (result, self.failing.load(Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(signal = self.signal, %error, "signals cannot be delivered and are dropped until they can");
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
