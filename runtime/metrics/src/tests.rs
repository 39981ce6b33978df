//! Scopes come and go; whoever reads sees those that are there, in either format.

use std::sync::Mutex;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
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

/// Does `work` as a part of a trace of that number.
fn traced(trace: u128, sampled: bool, work: impl FnOnce()) {
    let flags = TraceFlags::default().with_sampled(sampled);
    let span = SpanContext::new(TraceId::from(trace), SpanId::from(7), flags, true, TraceState::NONE);
    let _current = Context::new().with_remote_span_context(span).attach();
    work();
}

#[test]
fn each_bucket_shows_its_last_sampled_trace() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    let histogram = |meter: &Meter| {
        let histogram = meter.f64_histogram("a.duration").with_unit("s").with_description("Of \"a\".");
        histogram.with_boundaries(vec![0.1, 1.0]).build()
    };
    let lasting = histogram(&metrics.meter("corymb"));
    let scope = InstrumentationScope::builder("corymb").with_attributes([KeyValue::new("of", "b")]).build();
    let ending = metrics.meter_with_scope(scope);
    let b = [KeyValue::new("z.z", "q\"\n"), KeyValue::new("of", "b")];
    let bound = histogram(&ending).bind(&b);
    traced(1, true, || lasting.record(0.1, &[KeyValue::new("of", "a")]));
    traced(2, false, || lasting.record(0.05, &[KeyValue::new("of", "a")]));
    lasting.record(0.5, &[KeyValue::new("of", "a")]);
    traced(3, true, || bound.record(7.0));
    traced(4, true, || bound.record(8.0));
    bound.record(9.0);

    let page = metrics.page_as(PageFormat::OpenMetrics);
    let exemplar = |line: &str| {
        let line = page.lines().find(|other| other.starts_with(line)).unwrap_or_else(|| panic!("{line} in {page}"));
        line.split_once(" # ").map(|(_, exemplar)| exemplar.rsplit_once(' ').expect("a time").0.to_owned())
    };
    let of = |trace: u128| format!("{{trace_id=\"{}\",span_id=\"0000000000000007\"}}", TraceId::from(trace));
    assert_eq!(exemplar(r#"a_duration_seconds_bucket{of="a",le="0.1"} 2"#), Some(of(1) + " 0.1"));
    assert_eq!(exemplar(r#"a_duration_seconds_bucket{of="a",le="1.0"} 3"#), None);
    assert_eq!(exemplar(r#"a_duration_seconds_bucket{of="b",z_z="q\"\n",le="+Inf"} 3"#), Some(of(4) + " 8.0"));
    assert!(page.starts_with("# TYPE a_duration_seconds histogram\n# UNIT a_duration_seconds seconds\n"), "{page}");
    assert!(page.contains("# HELP a_duration_seconds Of \\\"a\\\".\n") && page.ends_with("\n# EOF\n"), "{page}");
    assert!(!metrics.page().contains("trace_id"), "the older format has none");
    drop((ending, bound));
    assert!(!metrics.page_as(PageFormat::OpenMetrics).contains(r#"of="b""#));
    assert_eq!(metrics.scopes.kept(), 0);
}

#[test]
fn openmetrics_has_each_name_once() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    let scope = |of| InstrumentationScope::builder("corymb").with_attributes([KeyValue::new("of", of)]).build();
    let meters = ["a", "b"].map(|of| metrics.meter_with_scope(scope(of)));
    meters[0].f64_gauge("x").build().record(-1.5, &[KeyValue::new("a", "b")]);
    meters[1].u64_counter("x").build().add(3, &[]);
    meters[0].f64_histogram("y").with_boundaries(Vec::new()).build().record(1.0, &[]);
    meters[1].u64_gauge("y.count").build().record(1, &[]);
    meters[1].u64_counter("z").build().add(3, &[]);
    let page = metrics.page_as(PageFormat::OpenMetrics);
    let expected = "# TYPE x gauge\nx{a=\"b\"} -1.5\n# TYPE y histogram\ny_bucket{le=\"+Inf\"} 1\ny_count 1\ny_sum 1\n\
                    # TYPE z counter\nz_total 3\n# EOF\n";
    assert_eq!(page, expected);
}

#[test]
fn every_kind_of_instrument_goes_through() {
    let metrics = MetricsBuilder::default().build().expect("registered");
    let meter = metrics.meter("corymb");
    meter.u64_counter("a").build().add(1, &[]);
    meter.f64_counter("b").with_unit("s").build().bind(&[]).add(1.5);
    meter.i64_up_down_counter("c").build().add(-1, &[]);
    meter.f64_up_down_counter("d").build().add(-0.5, &[]);
    meter.u64_gauge("e").with_unit("By").build().record(1, &[]);
    meter.f64_gauge("f").with_description("F").build().record(1.0, &[]);
    meter.i64_gauge("g").build().record(-1, &[]);
    meter.u64_histogram("h").with_boundaries(vec![1.0]).build().record(2, &[]);
    meter.u64_observable_counter("i").with_callback(|i| i.observe(1, &[])).build();
    meter.f64_observable_counter("j").with_callback(|j| j.observe(1.0, &[])).build();
    meter.i64_observable_up_down_counter("k").with_callback(|k| k.observe(-1, &[])).build();
    meter.f64_observable_up_down_counter("l").with_callback(|l| l.observe(-1.0, &[])).build();
    meter.u64_observable_gauge("m").with_callback(|m| m.observe(1, &[])).build();
    meter.i64_observable_gauge("n").with_callback(|n| n.observe(-1, &[])).build();
    meter.f64_observable_gauge("o").with_unit("1").with_callback(|o| o.observe(1.0, &[])).build();
    let page = metrics.page();
    let samples: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let histogram = ["h_bucket{le=\"1\"} 0", "h_bucket{le=\"+Inf\"} 1", "h_sum 2", "h_count 1"];
    let before = ["a_total 1", "b_seconds_total 1.5", "c -1", "d -0.5", "e_bytes 1", "f 1", "g -1"];
    let behind = ["i_total 1", "j_total 1", "k -1", "l -1", "m 1", "n -1", "o_ratio 1"];
    assert_eq!(samples, [&before[..], &histogram, &behind].concat());
    assert!(page.contains("# HELP f F\n"), "{page}");
}
