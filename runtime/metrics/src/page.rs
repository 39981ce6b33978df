//! The Prometheus page: the families of many registries, each family once, in either of two formats.

use std::collections::BTreeMap;

use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkError;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

/// Shows what it reads in `registry`.
pub(crate) fn exporter(registry: &Registry) -> Result<PrometheusExporter, OTelSdkError> {
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone());
    exporter.scope_info_enabled(false).without_target_info().build()
}

use crate::exemplars::Known;
use crate::openmetrics;

/// How the page is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageFormat {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0, which has exemplars and units.
    OpenMetrics,
}

/// All families in the order of their names, each with the series of every registry.
pub(crate) fn text<'a>(
    format: PageFormat,
    registries: impl Iterator<Item = &'a Registry>,
    exemplars: impl FnOnce() -> Known,
) -> String {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for family in registries.flat_map(Registry::gather) {
        join(&mut families, family);
    }
    let families: Vec<MetricFamily> = families.into_values().collect();
    match format {
        // Only a family without series is an error, and the SDK makes none.
        PageFormat::Text => TextEncoder::new().encode_to_string(&families).unwrap_or_default(),
        PageFormat::OpenMetrics => openmetrics::text(&families, &exemplars()),
    }
}

/// The first of a name decides what kind it is: plugins name instruments as they like, and a page with a name of two kinds
/// cannot be read.
fn join(families: &mut BTreeMap<String, MetricFamily>, mut family: MetricFamily) {
    match families.get_mut(family.name()) {
        Some(known) if known.get_field_type() == family.get_field_type() => {
            known.mut_metric().append(family.mut_metric());
        }
        Some(_) => {}
        None => {
            families.insert(family.name().to_owned(), family);
        }
    }
}
