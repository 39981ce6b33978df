//! OpenMetrics 1.0's text, <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::exemplars::{Exemplar, Known, Labels};

/// Units that the name of a family may end with. A unit that is told must be the name's end.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// The page of these families; `exemplars` are those of their histograms.
pub(crate) fn text(families: &[MetricFamily], exemplars: &Known) -> String {
    let (mut page, mut taken) = (String::new(), HashSet::new());
    for family in families {
        let Some((name, kind, suffixes)) = kind(family) else { continue };
        // Plugins name instruments as they like: what would have to share a name with another is left out, since a page with both
        // cannot be read.
        let names = || std::iter::once("").chain(suffixes.iter().copied()).map(|suffix| format!("{name}{suffix}"));
        if names().any(|name| taken.contains(&name)) {
            continue;
        }
        taken.extend(names());
        let _ = writeln!(page, "# TYPE {name} {kind}");
        let unit = name.rsplit_once('_').map(|(_, unit)| unit).filter(|unit| UNITS.contains(unit));
        if let Some(unit) = unit {
            let _ = writeln!(page, "# UNIT {name} {unit}");
        }
        if !family.help().is_empty() {
            let _ = writeln!(page, "# HELP {name} {}", escaped(family.help()));
        }
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => sample(&mut page, name, "_total", metric, &[], metric.get_counter().get_value()),
                MetricType::GAUGE => sample(&mut page, name, "", metric, &[], metric.get_gauge().get_value()),
                MetricType::HISTOGRAM => histogram(&mut page, name, metric, exemplars),
                _ => {}
            }
        }
    }
    page.push_str("# EOF\n");
    page
}

/// The name, the type, and what the names of samples may end with.
fn kind(family: &MetricFamily) -> Option<(&str, &'static str, &'static [&'static str])> {
    let name = family.name();
    match family.get_field_type() {
        MetricType::COUNTER => Some((name.strip_suffix("_total")?, "counter", &["_total", "_created"])),
        MetricType::GAUGE => Some((name, "gauge", &[])),
        MetricType::HISTOGRAM => Some((name, "histogram", &["_bucket", "_count", "_sum", "_created"])),
        _ => None,
    }
}

fn histogram(page: &mut String, name: &str, metric: &Metric, exemplars: &Known) {
    let histogram = metric.get_histogram();
    let of_buckets = exemplars.of(name, &own_labels(metric));
    let bounds = histogram.get_bucket().iter().map(|bucket| (number(bucket.upper_bound()), bucket.cumulative_count()));
    let all = std::iter::once(("+Inf".to_owned(), histogram.get_sample_count()));
    for (bucket, (bound, count)) in bounds.chain(all).enumerate() {
        sample(page, name, "_bucket", metric, &[("le", &bound)], count as f64);
        // Only of what was counted: a series that began anew may have older ones.
        if let Some(Some(exemplar)) = of_buckets.get(bucket).filter(|_| count > 0) {
            page.pop();
            put_exemplar(page, exemplar);
        }
    }
    sample(page, name, "_count", metric, &[], histogram.get_sample_count() as f64);
    sample(page, name, "_sum", metric, &[], histogram.get_sample_sum());
}

/// Behind a sample, on its line. Trace and span are 63 characters; 128 are allowed.
fn put_exemplar(page: &mut String, exemplar: &Exemplar) {
    let Exemplar { trace, span, value, at } = exemplar;
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let _ = writeln!(page, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {} {at:.3}", number(*value));
}

fn sample(page: &mut String, name: &str, suffix: &str, metric: &Metric, more: &[(&str, &str)], value: f64) {
    let _ = write!(page, "{name}{suffix}");
    let own = metric.get_label().iter().map(|label: &LabelPair| (label.name(), label.value()));
    for (index, (name, value)) in own.chain(more.iter().copied()).enumerate() {
        let _ = write!(page, "{}{name}=\"{}\"", if index == 0 { '{' } else { ',' }, escaped(value));
    }
    if !metric.get_label().is_empty() || !more.is_empty() {
        page.push('}');
    }
    // Counts stay whole numbers.
    if value.fract() == 0.0 && value.abs() < 1e15 {
        let _ = writeln!(page, " {value:.0}");
    } else {
        let _ = writeln!(page, " {}", number(value));
    }
}

fn own_labels(metric: &Metric) -> Labels {
    let one = |label: &LabelPair| (label.name().to_owned(), label.value().to_owned());
    let mut labels: Labels = metric.get_label().iter().map(one).collect();
    labels.sort_unstable();
    labels
}

/// As the specification's canonical numbers are written: with a fraction always.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => format!("{value:?}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
