//! Exemplars: for each bucket of a histogram the last value of a sampled trace, so that a slow request on a chart leads to its trace.
//!
//! The SDK keeps none. Who records is asked here whether a sampled span is current, as the specification's `trace_based` filter
//! has it; only then is anything looked up, allocated or locked.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::SystemTime;

use opentelemetry::metrics::{BoundHistogram, BoundSyncInstrument, Histogram, SyncInstrument};
use opentelemetry::trace::{SpanId, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};

/// Series of one instrument that have exemplars.
const MAX_SERIES: usize = 1000;

/// A value, and where it was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) value: f64,
    pub(crate) at: SystemTime,
}

impl Exemplar {
    /// Of this value, where a sampled span is current.
    fn of(value: f64) -> Option<Self> {
        let sampled = Context::map_current(|context| {
            // Most requests have none, and this asks for no more than a look.
            if !context.has_active_span() {
                return None;
            }
            let span = context.span();
            let context = span.span_context();
            (context.is_valid() && context.is_sampled()).then(|| (context.trace_id(), context.span_id()))
        });
        let (trace, span) = sampled.filter(|_| value.is_finite())?;
        Some(Self { trace, span, value, at: SystemTime::now() })
    }
}

/// The labels of a series as the page has them: names and values in order.
pub(crate) type Labels = Vec<(String, String)>;

/// The labels that these attributes become.
fn labels(attributes: &[KeyValue]) -> Labels {
    let one = |attribute: &KeyValue| (page_name(attribute.key.as_str()), attribute.value.to_string());
    let mut labels: Labels = attributes.iter().map(one).collect();
    labels.sort_unstable();
    labels
}

/// A name of OpenTelemetry's as Prometheus writes it.
fn page_name(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == ':' { letter } else { '_' }).collect()
}

/// One series' exemplars, by bucket.
#[derive(Debug)]
struct Series(Box<[Mutex<Option<Exemplar>>]>);

impl Series {
    fn keep(&self, bounds: &[f64], exemplar: Exemplar) {
        // A bound belongs to the bucket that it ends.
        let bucket = bounds.partition_point(|bound| *bound < exemplar.value);
        match self.0.get(bucket).map(Mutex::try_lock) {
            Some(Ok(mut kept)) => *kept = Some(exemplar),
            Some(Err(TryLockError::Poisoned(kept))) => *kept.into_inner() = Some(exemplar),
            // Somebody else is at it: theirs is as good.
            Some(Err(TryLockError::WouldBlock)) | None => {}
        }
    }
}

/// The exemplars of one histogram.
pub(crate) struct Instrument {
    /// The name of its family on the page.
    family: String,
    bounds: Vec<f64>,
    series: Mutex<HashMap<Labels, Arc<Series>>>,
}

impl Instrument {
    fn lock(&self) -> MutexGuard<'_, HashMap<Labels, Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None where too many series have exemplars already.
    fn series(&self, labels: Labels) -> Option<Arc<Series>> {
        let mut all = self.lock();
        let room = all.len() < MAX_SERIES;
        match all.get(&labels) {
            Some(series) => Some(Arc::clone(series)),
            None if room => {
                let series = Arc::new(Series((0..=self.bounds.len()).map(|_| Mutex::default()).collect()));
                all.insert(labels, Arc::clone(&series));
                Some(series)
            }
            None => None,
        }
    }

    fn of(&self, labels: &Labels) -> Option<Vec<Option<Exemplar>>> {
        let series = self.lock().get(labels).cloned()?;
        Some(series.0.iter().map(|kept| *kept.lock().unwrap_or_else(PoisonError::into_inner)).collect())
    }
}

impl fmt::Debug for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instrument").field("family", &self.family).finish_non_exhaustive()
    }
}

/// The exemplars of all histograms of some meters. They end with the histograms.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<Vec<Weak<Instrument>>>);

impl Exemplars {
    /// The same histogram, whose values are kept as exemplars too. `unit` is a word of the page, `seconds`.
    pub(crate) fn keeping(&self, inner: Histogram<f64>, name: &str, unit: &str, bounds: Vec<f64>) -> Histogram<f64> {
        let family = format!("{}_{unit}", page_name(name));
        let instrument = Arc::new(Instrument { family, bounds, series: Mutex::default() });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|instrument| instrument.strong_count() > 0);
        all.push(Arc::downgrade(&instrument));
        drop(all);
        Histogram::new(Arc::new(Keeping { inner, instrument }))
    }

    /// The histograms that are still held.
    pub(crate) fn instruments(&self) -> Vec<Arc<Instrument>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// What is known of the series of a page.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<String, Vec<Arc<Instrument>>>);

impl FromIterator<Arc<Instrument>> for Known {
    fn from_iter<T: IntoIterator<Item = Arc<Instrument>>>(instruments: T) -> Self {
        let mut known = Self::default();
        for instrument in instruments {
            known.0.entry(instrument.family.clone()).or_default().push(instrument);
        }
        known
    }
}

impl Known {
    /// The exemplars of a series by bucket, the last of them for the values above all bounds; empty where there are none.
    pub(crate) fn of(&self, family: &str, labels: &Labels) -> Vec<Option<Exemplar>> {
        let instruments = self.0.get(family).map_or(&[][..], Vec::as_slice);
        instruments.iter().find_map(|instrument| instrument.of(labels)).unwrap_or_default()
    }
}

/// A histogram that keeps exemplars.
struct Keeping {
    inner: Histogram<f64>,
    instrument: Arc<Instrument>,
}

impl SyncInstrument<f64> for Keeping {
    fn measure(&self, value: f64, attributes: &[KeyValue]) {
        self.inner.record(value, attributes);
        if let Some(exemplar) = Exemplar::of(value)
            && let Some(series) = self.instrument.series(labels(attributes))
        {
            series.keep(&self.instrument.bounds, exemplar);
        }
    }

    fn bind(&self, attributes: &[KeyValue]) -> Box<dyn BoundSyncInstrument<f64> + Send + Sync> {
        Box::new(BoundKeeping {
            inner: self.inner.bind(attributes),
            instrument: Arc::clone(&self.instrument),
            attributes: attributes.to_vec(),
            series: OnceLock::new(),
        })
    }
}

/// The same of one series.
struct BoundKeeping {
    inner: BoundHistogram<f64>,
    instrument: Arc<Instrument>,
    attributes: Vec<KeyValue>,
    /// Found with the first exemplar.
    series: OnceLock<Option<Arc<Series>>>,
}

impl BoundSyncInstrument<f64> for BoundKeeping {
    fn measure(&self, value: f64) {
        self.inner.record(value);
        if let Some(exemplar) = Exemplar::of(value) {
            let series = self.series.get_or_init(|| self.instrument.series(labels(&self.attributes)));
            if let Some(series) = series {
                series.keep(&self.instrument.bounds, exemplar);
            }
        }
    }
}
