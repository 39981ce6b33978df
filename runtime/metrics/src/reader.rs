//! Readers: one for the page and the push together, and one that outlives its provider.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, PeriodicReader, Pipeline, Temporality};

/// One set of sums for the page and the push: the SDK keeps one for each reader, and each costs every recording again.
/// Only where both want sums from the start of the process: a reading leaves those as they are, so it does not matter who
/// reads, or how often.
#[derive(Debug)]
pub(crate) struct SharedReader<E: PushMetricExporter> {
    page: PrometheusExporter,
    push: PeriodicReader<E>,
}

impl<E: PushMetricExporter> SharedReader<E> {
    pub(crate) fn new(page: PrometheusExporter, push: PeriodicReader<E>) -> Self {
        Self { page, push }
    }
}

impl<E: PushMetricExporter + fmt::Debug> MetricReader for SharedReader<E> {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.page.register_pipeline(Weak::clone(&pipeline));
        self.push.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.page.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.push.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        // The push first: it reads once more, from sums that the page's end would take away.
        let pushed = self.push.shutdown_with_timeout(timeout);
        self.page.shutdown_with_timeout(timeout).and(pushed)
    }

    fn temporality(&self, _: InstrumentKind) -> Temporality {
        Temporality::Cumulative
    }
}

/// A reader whose provider may end before what it reads: the provider of a scope is dropped when its meter has been made,
/// and tells its readers that all is over. A clone is the same reader.
#[derive(Clone, Debug)]
pub(crate) struct LastingReader(Arc<Lasting>);

#[derive(Debug)]
struct Lasting {
    reader: Box<dyn MetricReader>,
    // Weak, since a pipeline holds its reader.
    pipeline: OnceLock<Weak<Pipeline>>,
}

impl LastingReader {
    pub(crate) fn new(reader: impl MetricReader) -> Self {
        Self(Arc::new(Lasting { reader: Box::new(reader), pipeline: OnceLock::new() }))
    }

    /// The sums that are read: none before a provider has the reader.
    pub(crate) fn pipeline(&self) -> Option<Arc<Pipeline>> {
        self.0.pipeline.get()?.upgrade()
    }
}

impl MetricReader for LastingReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.reader.register_pipeline(Weak::clone(&pipeline));
        let _ = self.0.pipeline.set(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.reader.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.reader.force_flush()
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.reader.temporality(kind)
    }
}
