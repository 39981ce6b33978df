//! One set of sums for the page and the push: the SDK keeps one for each reader, and each costs every recording again.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, PeriodicReader, Pipeline, Temporality};

/// Reads for both. Only where both want sums from the start of the process: a reading leaves those as they are, so it
/// does not matter who reads, or how often.
#[derive(Debug)]
pub(super) struct SharedReader<E: PushMetricExporter> {
    page: PrometheusExporter,
    push: PeriodicReader<E>,
}

impl<E: PushMetricExporter> SharedReader<E> {
    pub(super) fn new(page: PrometheusExporter, push: PeriodicReader<E>) -> Self {
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
