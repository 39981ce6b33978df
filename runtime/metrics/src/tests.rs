//! Scopes come and go; whoever reads sees those that are there.

use std::sync::Mutex;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};

use super::*;

/// What a version records, as the engine does.
struct Recorder {
    _meter: Meter,
    runs: Counter<u64>,
    durations: Histogram<f64>,
    version: KeyValue,
}

impl Recorder {
    fn new(metrics: &Metrics, version: usize) -> Self {
        let version = KeyValue::new("version", version.to_string());
        let scope = InstrumentationScope::builder("corymb").with_attributes([version.clone()]).build();
        let meter = metrics.meter_with_scope(scope);
        let (runs, durations) = (meter.u64_counter("runs").build(), meter.f64_histogram("durations").build());
        Self { _meter: meter, runs, durations, version }
    }

    fn record(&self) {
        self.runs.add(1, std::slice::from_ref(&self.version));
        self.durations.bind(std::slice::from_ref(&self.version)).record(0.1);
    }
}

/// Adds up what it is given of `runs`.
#[derive(Clone, Debug)]
struct Sums(Arc<Mutex<Vec<(String, u64)>>>, Temporality);

impl Sums {
    fn new(temporality: Temporality) -> Self {
        Self(Arc::default(), temporality)
    }

    fn take(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

impl PushMetricExporter for Sums {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()).filter(|metric| metric.name() == "runs")
        {
            let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() else { panic!("a sum") };
            for point in sum.data_points() {
                let version = point.attributes().next().map(|attribute| attribute.value.to_string());
                self.0.lock().expect("not poisoned").push((version.unwrap_or_default(), point.value()));
            }
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        self.1
    }
}

fn pushing(temporality: Temporality) -> (Metrics, Sums) {
    let (sums, builder) = (Sums::new(temporality), MetricsBuilder::default());
    let exporter = builder.every_scope(sums.clone());
    let metrics = builder.build_pushing(exporter, Duration::from_secs(60)).expect("registered");
    // The SDK pushes nothing for a process that has nothing of its own.
    metrics.meter("corymb").u64_observable_gauge("up").with_callback(|up| up.observe(1, &[])).build();
    (metrics, sums)
}

#[test]
fn the_page_has_the_series_of_living_scopes_each_family_once() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    metrics.meter("corymb").u64_counter("runs").build().add(1, &[KeyValue::new("version", "none")]);
    let of =
        |numbers: std::ops::Range<usize>| numbers.map(|version| Recorder::new(&metrics, version)).collect::<Vec<_>>();
    let stay = of(0..3);
    stay.iter().for_each(Recorder::record);
    let before = metrics.page();
    let go = of(3..300);
    go.iter().for_each(Recorder::record);
    let during = metrics.page();
    assert_eq!(during.matches("\nruns_total{").count(), 301);
    assert_eq!(during.matches("# TYPE runs_total").count(), 1);
    assert!(during.len() > 50 * before.len(), "{} bytes, {} before", during.len(), before.len());
    drop(go);
    stay.iter().for_each(Recorder::record);
    let after = metrics.page();
    assert_eq!((after.len(), metrics.scopes.kept()), (before.len(), 3), "{after}");
    for version in 0..3 {
        assert!(after.contains(&format!("runs_total{{version=\"{version}\"}} 2")), "{after}");
        assert!(after.contains(&format!("durations_count{{version=\"{version}\"}} 2")), "{after}");
    }
    assert!(after.contains("runs_total{version=\"none\"} 1"));
}

#[test]
fn scopes_that_nobody_reads_do_not_pile_up() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    for version in 0..300 {
        Recorder::new(&metrics, version).record();
    }
    assert_eq!(metrics.scopes.kept(), 1);
}

#[test]
fn an_instrument_may_outlive_its_meter() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    let Recorder { _meter: meter, runs, version, .. } = Recorder::new(&metrics, 1);
    let other = meter.clone();
    drop(meter);
    runs.add(1, std::slice::from_ref(&version));
    assert!(metrics.page().contains("runs_total"), "a clone is held");
    drop(other);
    runs.add(1, &[version]);
    assert_eq!(metrics.page(), "");
}

#[test]
fn what_is_over_is_pushed_once_more() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let (metrics, sums) = pushing(temporality);
        let (stays, goes) = (Recorder::new(&metrics, 1), Recorder::new(&metrics, 2));
        goes.record();
        metrics.own.force_flush().expect("pushed");
        assert_eq!(sums.take(), [("2".to_owned(), 1)], "{temporality:?}");
        stays.record();
        goes.record();
        drop(goes);
        assert!(!metrics.page().contains("version=\"2\""), "{temporality:?}");
        metrics.own.force_flush().expect("pushed");
        let second = if temporality == Temporality::Delta { 1 } else { 2 };
        assert_eq!(sums.take(), [("1".to_owned(), 1), ("2".to_owned(), second)], "{temporality:?}");
        assert_eq!(metrics.scopes.kept(), 1);
        stays.record();
        assert!(metrics.page().contains("runs_total{version=\"1\"} 2"), "{temporality:?}: the page has sums");
        metrics.shutdown().expect("pushed");
        let last = if temporality == Temporality::Delta { 1 } else { 2 };
        assert_eq!(sums.take(), [("1".to_owned(), last)], "{temporality:?}: the end of the process is a push");
    }
}

#[test]
fn a_name_of_two_kinds_is_of_the_first() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    let meters: Vec<Meter> = ["a", "b"]
        .map(|model| InstrumentationScope::builder("corymb").with_attributes([KeyValue::new("model", model)]).build())
        .map(|scope| metrics.meter_with_scope(scope))
        .into();
    meters[0].u64_counter("x").build().add(1, &[]);
    meters[1].f64_histogram("x_total").build().record(1.0, &[]);
    assert_eq!(metrics.page().matches("# TYPE x_total").count(), 1);
}
