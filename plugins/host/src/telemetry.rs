//! What a plugin's work leaves in the metrics: its peak memory, traps and limits, and the instruments it declares itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

/// Names that one plugin may declare.
const MAX_NAMES: usize = 64;

/// Length of such a name.
const MAX_NAME: usize = 64;

enum Custom {
    Counter(Counter<u64>),
    Histogram(Histogram<f64>),
}

/// The instruments of one loaded plugin, made once.
pub(crate) struct Telemetry {
    meter: Meter,
    model: [KeyValue; 1],
    model_and_plugin: [KeyValue; 2],
    peak_memory: AtomicU64,
    memory: Gauge<u64>,
    traps: Counter<u64>,
    limits: Counter<u64>,
    custom: Mutex<HashMap<String, Custom>>,
}

impl Telemetry {
    pub(crate) fn new(model: &str, plugin: &str) -> Self {
        let meter = opentelemetry::global::meter("corymb");
        let by_model = KeyValue::new("model", model.to_owned());
        Self {
            memory: meter
                .u64_gauge("corymb.plugin.memory")
                .with_unit("By")
                .with_description("Largest linear memory of an instance of the plugin so far")
                .build(),
            traps: meter
                .u64_counter("corymb.plugin.traps")
                .with_unit("{trap}")
                .with_description("Calls that ended in a trap")
                .build(),
            limits: meter
                .u64_counter("corymb.plugin.limits")
                .with_unit("{limit}")
                .with_description(
                    "Times that the plugin met a limit: time, memory, tensors, handles, log lines, metrics",
                )
                .build(),
            model_and_plugin: [by_model.clone(), KeyValue::new("plugin", plugin.to_owned())],
            model: [by_model],
            meter,
            peak_memory: AtomicU64::new(0),
            custom: Mutex::default(),
        }
    }

    /// An instance has used this many bytes.
    pub(crate) fn memory_used(&self, bytes: usize) {
        let bytes = bytes as u64;
        if self.peak_memory.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.memory.record(bytes, &self.model);
        }
    }

    pub(crate) fn trapped(&self) {
        self.traps.add(1, &self.model);
    }

    pub(crate) fn limit_met(&self) {
        self.limits.add(1, &self.model);
    }

    pub(crate) fn counter_add(&self, name: &str, value: u64) {
        self.with_custom(
            name,
            |custom| match custom {
                Custom::Counter(counter) => {
                    counter.add(value, &self.model_and_plugin);
                    true
                }
                Custom::Histogram(_) => false,
            },
            |meter, name| Custom::Counter(meter.u64_counter(name).build()),
        );
    }

    pub(crate) fn histogram_record(&self, name: &str, value: f64) {
        self.with_custom(
            name,
            |custom| match custom {
                Custom::Histogram(histogram) => {
                    histogram.record(value, &self.model_and_plugin);
                    true
                }
                Custom::Counter(_) => false,
            },
            |meter, name| Custom::Histogram(meter.f64_histogram(name).build()),
        );
    }

    /// What is not recorded, because the name is new beyond the last or not a name, or because the instrument is of the
    /// other kind, is counted as a limit.
    fn with_custom(
        &self,
        name: &str,
        record: impl FnOnce(&Custom) -> bool,
        make: impl FnOnce(&Meter, String) -> Custom,
    ) {
        let mut custom = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
        if !custom.contains_key(name) && custom.len() < MAX_NAMES && is_name(name) {
            custom.insert(name.to_owned(), make(&self.meter, format!("corymb.plugin.custom.{name}")));
        }
        let recorded = custom.get(name).is_some_and(record);
        drop(custom);
        if !recorded {
            self.limit_met();
        }
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> usize {
        self.custom.lock().expect("not poisoned").len()
    }
}

/// As OpenTelemetry has instrument names.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= MAX_NAME
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_declares_so_many_names_and_no_more() {
        let telemetry = Telemetry::new("model", "plugin");
        for index in 0..1000 {
            telemetry.counter_add(&format!("name{index}"), 1);
        }
        telemetry.histogram_record("name0", 1.0);
        telemetry.histogram_record("9lives", 1.0);
        telemetry.histogram_record("", 1.0);
        assert_eq!(telemetry.names(), MAX_NAMES);
    }
}
