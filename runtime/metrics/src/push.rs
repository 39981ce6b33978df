//! Pushes the series of every scope after those of the process.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;

use crate::scopes::Scopes;

/// See [`MetricsBuilder::every_scope`](crate::MetricsBuilder::every_scope).
#[derive(Debug)]
pub struct EveryScope<E> {
    exporter: E,
    scopes: Arc<Scopes>,
}

impl<E> EveryScope<E> {
    pub(crate) fn new(exporter: E, scopes: Arc<Scopes>) -> Self {
        Self { exporter, scopes }
    }
}

impl<E: PushMetricExporter> PushMetricExporter for EveryScope<E> {
    /// A batch for the process and one for each scope: the SDK's batches cannot be joined. The first that fails is the last that
    /// is tried, so that a collector that is down costs one timeout.
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        // Before anything can fail: scopes that are over are let go even when nothing can be delivered.
        let scopes = self.scopes.to_push();
        self.exporter.export(metrics).await?;
        for scope in scopes {
            let mut metrics = ResourceMetrics::default();
            scope.collect(&mut metrics)?;
            if metrics.scope_metrics().next().is_some() {
                self.exporter.export(&metrics).await?;
            }
        }
        Ok(())
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
