//! Metrics whose series end with those who record them: the meter provider of the process, its Prometheus page, and what
//! it pushes.
//!
//! The SDK keeps each series for as long as the provider that made its meter. What ends before the process, like a version
//! of a model, therefore asks for a meter whose scope has attributes, in the words of the OpenTelemetry API:
//!
//! ```
//! use corymb_metrics::MetricsBuilder;
//! use opentelemetry::metrics::MeterProvider as _;
//! use opentelemetry::{InstrumentationScope, KeyValue};
//!
//! let metrics = MetricsBuilder::default().build()?;
//! let scope = InstrumentationScope::builder("corymb").with_attributes([KeyValue::new("version", "7")]);
//! let meter = metrics.meter_with_scope(scope.build());
//! meter.u64_counter("runs").build().add(1, &[KeyValue::new("version", "7")]);
//! assert!(metrics.page().contains("runs_total{version=\"7\"} 1"));
//! drop(meter);
//! assert!(!metrics.page().contains("runs_total"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod exemplars;
mod meter;
mod openmetrics;
mod page;
mod push;
mod reader;
mod scopes;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider, Temporality};
use prometheus::Registry;

pub use self::page::PageFormat;
pub use self::push::EveryScope;

use self::exemplars::Exemplars;
use self::reader::SharedReader;
use self::scopes::{Scopes, at_most};

/// Series of one instrument of the process, enough for a thousand models. Series beyond it are summed up under
/// `otel.metric.overflow`.
const MAX_SERIES: usize = 20_000;

/// The meter provider of a process. Its clones are one provider.
///
/// Series of a scope without attributes last as long as the process. For a scope with attributes each call makes a new meter,
/// whose series end when its last clone is dropped, even while its instruments are held. The attributes of the scope are not
/// exported, since they would change what identifies a series: each recording names its attributes itself.
#[derive(Clone, Debug)]
pub struct Metrics {
    own: SdkMeterProvider,
    page: Registry,
    exemplars: Arc<Exemplars>,
    scopes: Arc<Scopes>,
}

/// What [`Metrics`] are made of.
#[derive(Debug, Default)]
pub struct MetricsBuilder {
    scopes: Arc<Scopes>,
}

impl MetricsBuilder {
    /// Metrics of the process that `resource` describes; it is part of what is pushed.
    #[must_use]
    pub fn new(resource: Resource) -> Self {
        Self { scopes: Arc::new(Scopes::new(resource)) }
    }

    /// An exporter that hands over the series of all scopes where it is asked to export those of the process. To be given
    /// to [`MetricsBuilder::build_pushing`], possibly inside of others.
    pub fn every_scope<E: PushMetricExporter>(&self, exporter: E) -> EveryScope<E> {
        EveryScope::new(exporter, Arc::clone(&self.scopes))
    }

    /// Metrics that are read as a page and nowhere else.
    ///
    /// # Errors
    /// When the page cannot be registered.
    pub fn build(self) -> Result<Metrics, OTelSdkError> {
        let registry = Registry::new();
        let own = self.provider().with_reader(page::exporter(&registry)?).build();
        Ok(Metrics { own, page: registry, exemplars: Arc::default(), scopes: self.scopes })
    }

    /// Metrics that are pushed besides, every `interval`.
    ///
    /// # Errors
    /// As [`MetricsBuilder::build`].
    pub fn build_pushing<E: PushMetricExporter + std::fmt::Debug>(
        self,
        exporter: E,
        interval: Duration,
    ) -> Result<Metrics, OTelSdkError> {
        let registry = Registry::new();
        let page = page::exporter(&registry)?;
        let temporality = exporter.temporality();
        self.scopes.will_be_pushed(temporality);
        let push = PeriodicReader::builder(exporter).with_interval(interval).build();
        let provider = match temporality {
            Temporality::Cumulative => self.provider().with_reader(SharedReader::new(page, push)),
            _ => self.provider().with_reader(page).with_reader(push),
        };
        Ok(Metrics { own: provider.build(), page: registry, exemplars: Arc::default(), scopes: self.scopes })
    }

    fn provider(&self) -> MeterProviderBuilder {
        SdkMeterProvider::builder().with_resource(self.scopes.resource().clone()).with_view(at_most(MAX_SERIES))
    }
}

impl Metrics {
    /// The Prometheus page in its oldest format.
    #[must_use]
    pub fn page(&self) -> String {
        self.page_as(PageFormat::Text)
    }

    /// The Prometheus page: every series of the process and of the scopes that are not over. Exemplars are part of it in
    /// OpenMetrics: histograms of seconds whose bounds were given keep, for each bucket, the last value that was recorded while a
    /// sampled span was the thread's current one.
    #[must_use]
    pub fn page_as(&self, format: PageFormat) -> String {
        let scopes = self.scopes.living();
        let registries = std::iter::once(&self.page).chain(scopes.iter().map(|scope| &scope.page));
        let exemplars = std::iter::once(&self.exemplars).chain(scopes.iter().map(|scope| &scope.exemplars));
        page::text(format, registries, || exemplars.flat_map(|exemplars| exemplars.instruments()).collect())
    }

    /// Hands over what has been recorded, for the last time.
    ///
    /// # Errors
    /// When it cannot be delivered.
    pub fn shutdown(&self) -> OTelSdkResult {
        self.own.shutdown()
    }
}

impl MeterProvider for Metrics {
    fn meter_with_scope(&self, scope: InstrumentationScope) -> Meter {
        let scoped = scope.attributes().next().is_some().then(|| self.scopes.begin(scope.name()));
        // A scope that cannot have a page of its own is better kept for ever than not seen.
        scoped
            .flatten()
            .unwrap_or_else(|| meter::keeping(self.own.meter_with_scope(scope), Arc::clone(&self.exemplars)))
    }
}

#[cfg(test)]
mod tests;
