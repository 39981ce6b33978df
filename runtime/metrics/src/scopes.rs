//! Scopes that end before the process: each has sums of its own, which go with its meter.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader as _;
use opentelemetry_sdk::metrics::{Instrument, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality};
use prometheus::Registry;

use crate::exemplars::Exemplars;
use crate::meter;
use crate::page;
use crate::reader::LastingReader;

/// Series of one instrument of a scope. One of a version has at most one for each protocol and outcome. The SDK reserves
/// memory for all of them.
const MAX_SERIES: usize = 100;

/// All scopes that are read.
#[derive(Debug)]
pub(crate) struct Scopes {
    resource: Resource,
    /// The temporality of the push; empty where nothing is pushed.
    pushed: OnceLock<Temporality>,
    // Held to copy the list, never while anything is read.
    all: Mutex<Vec<Arc<Scope>>>,
}

/// The sums of one scope.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) page: Registry,
    pub(crate) exemplars: Arc<Exemplars>,
    /// None where nothing is pushed.
    push: Option<LastingReader>,
    /// The sums, one set for each reader. The meter holds them too; its instruments do not.
    pipelines: Vec<Arc<Pipeline>>,
}

impl Scope {
    /// Makes the sums, and the meter that holds them. None when there can be no page of them.
    fn begin(resource: Resource, pushed: Option<Temporality>, name: String) -> Option<(Self, Meter)> {
        let registry = Registry::new();
        let page = LastingReader::new(page::exporter(&registry).ok()?);
        let push = pushed.map(|temporality| match temporality {
            Temporality::Cumulative => page.clone(),
            other => LastingReader::new(ManualReader::builder().with_temporality(other).build()),
        });
        let apart = pushed.is_some_and(|temporality| temporality != Temporality::Cumulative);
        let readers: Vec<LastingReader> = std::iter::once(page).chain(push.clone().filter(|_| apart)).collect();
        let provider = SdkMeterProvider::builder().with_resource(resource).with_view(at_most(MAX_SERIES));
        let provider = readers.iter().cloned().fold(provider, |provider, reader| provider.with_reader(reader)).build();
        let exemplars = Arc::<Exemplars>::default();
        let meter = provider.meter_with_scope(InstrumentationScope::builder(name).build());
        let meter = meter::keeping(meter, Arc::clone(&exemplars));
        let pipelines = readers.iter().filter_map(LastingReader::pipeline).collect();
        Some((Self { page: registry, exemplars, push, pipelines }, meter))
    }

    /// Whether its meter has been dropped: nobody else holds the pipelines then.
    fn is_over(&self) -> bool {
        self.pipelines.iter().all(|pipeline| Arc::strong_count(pipeline) == 1)
    }

    /// Reads for the push.
    ///
    /// # Errors
    /// The SDK's.
    pub(crate) fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.push.as_ref().map_or(Ok(()), |push| push.collect(metrics))
    }
}

/// A view that changes nothing but the number of series.
pub(crate) fn at_most(series: usize) -> impl Fn(&Instrument) -> Option<Stream> {
    move |_| Stream::builder().with_cardinality_limit(series).build().ok()
}

impl Default for Scopes {
    fn default() -> Self {
        Self::new(Resource::builder_empty().build())
    }
}

impl Scopes {
    pub(crate) fn new(resource: Resource) -> Self {
        Self { resource, pushed: OnceLock::new(), all: Mutex::default() }
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Said before the first scope begins.
    pub(crate) fn will_be_pushed(&self, temporality: Temporality) {
        let _ = self.pushed.set(temporality);
    }

    /// The meter of a new scope. None when there can be no page of it.
    pub(crate) fn begin(&self, name: &str) -> Option<Meter> {
        let (scope, meter) = Scope::begin(self.resource.clone(), self.pushed.get().copied(), name.to_owned())?;
        let mut all = self.lock();
        self.let_go(&mut all);
        all.push(Arc::new(scope));
        Some(meter)
    }

    /// The scopes whose meters are held.
    pub(crate) fn living(&self) -> Vec<Arc<Scope>> {
        let mut all = self.lock();
        self.let_go(&mut all);
        all.iter().filter(|scope| !scope.is_over()).cloned().collect()
    }

    /// The scopes whose meters are held, and once more each that has ended since the last push.
    pub(crate) fn to_push(&self) -> Vec<Arc<Scope>> {
        let mut all = self.lock();
        let found = all.clone();
        all.retain(|scope| !scope.is_over());
        found
    }

    /// Removes the scopes that are over. Where there is a push it removes them itself, after it has read their last values.
    fn let_go(&self, all: &mut Vec<Arc<Scope>>) {
        if self.pushed.get().is_none() {
            all.retain(|scope| !scope.is_over());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Scope>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.lock().len()
    }
}
