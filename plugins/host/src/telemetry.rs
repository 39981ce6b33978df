//! What a plugin's work leaves in the metrics: its peak memory, traps and limits, and the instruments it declares itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use opentelemetry::{InstrumentationScope, KeyValue};

/// Names that one plugin may declare.
const MAX_NAMES: usize = 64;

/// Length of such a name.
const MAX_NAME: usize = 64;

enum Custom {
    Counter(Counter<u64>),
    Histogram(Histogram<f64>),
}

/// The instruments of the plugins of each model. They name the model and not its version, so plugins that replace each other
/// share them, and their series end with the last of these plugins.
#[derive(Default)]
pub(crate) struct InstrumentsByModel(Mutex<HashMap<String, Weak<Instruments>>>);

impl InstrumentsByModel {
    /// What a plugin that is loaded now for `model` records.
    pub(crate) fn telemetry(&self, model: &str, plugin: &str) -> Telemetry {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|_, instruments| instruments.strong_count() > 0);
        let known = models.get(model).and_then(Weak::upgrade);
        let instruments = known.unwrap_or_else(|| {
            let new = Arc::new(Instruments::new(model));
            models.insert(model.to_owned(), Arc::downgrade(&new));
            new
        });
        drop(models);
        let by_model = instruments.model.clone();
        Telemetry {
            model_and_plugin: [by_model, KeyValue::new("plugin", plugin.to_owned())],
            instruments,
            peak_memory: AtomicU64::new(0),
            custom: Mutex::default(),
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }
}

/// The instruments of the plugins of one model.
struct Instruments {
    /// What the series live by.
    meter: Meter,
    model: KeyValue,
    memory: Gauge<u64>,
    traps: Counter<u64>,
    limits: Counter<u64>,
}

impl Instruments {
    fn new(model: &str) -> Self {
        let model = KeyValue::new("model", model.to_owned());
        // A scope with attributes: the meter provider of the process ends its series with its meter.
        let scope = InstrumentationScope::builder("corymb").with_attributes([model.clone()]).build();
        let meter = opentelemetry::global::meter_with_scope(scope);
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
            model,
            meter,
        }
    }
}

/// What one loaded plugin records.
pub(crate) struct Telemetry {
    instruments: Arc<Instruments>,
    model_and_plugin: [KeyValue; 2],
    peak_memory: AtomicU64,
    custom: Mutex<HashMap<String, Custom>>,
}

impl Telemetry {
    /// An instance has used this many bytes.
    pub(crate) fn memory_used(&self, bytes: usize) {
        let bytes = bytes as u64;
        if self.peak_memory.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.instruments.memory.record(bytes, self.model());
        }
    }

    pub(crate) fn trapped(&self) {
        self.instruments.traps.add(1, self.model());
    }

    pub(crate) fn limit_met(&self) {
        self.instruments.limits.add(1, self.model());
    }

    fn model(&self) -> &[KeyValue] {
        std::slice::from_ref(&self.instruments.model)
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
            custom.insert(name.to_owned(), make(&self.instruments.meter, format!("corymb.plugin.custom.{name}")));
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
        let telemetry = InstrumentsByModel::default().telemetry("model", "plugin");
        for index in 0..1000 {
            telemetry.counter_add(&format!("name{index}"), 1);
        }
        telemetry.histogram_record("name0", 1.0);
        telemetry.histogram_record("9lives", 1.0);
        telemetry.histogram_record("", 1.0);
        assert_eq!(telemetry.names(), MAX_NAMES);
    }
    #[test]
    fn plugins_of_one_model_share_what_ends_with_the_last_of_them() {
        let models = InstrumentsByModel::default();
        let (old, new) = (models.telemetry("a", "x"), models.telemetry("a", "y"));
        assert!(Arc::ptr_eq(&old.instruments, &new.instruments));
        let meter = Arc::downgrade(&new.instruments);
        drop(old);
        assert!(meter.upgrade().is_some());
        drop(new);
        assert!(meter.upgrade().is_none());
        let _others: Vec<Telemetry> = ["b", "c"].map(|model| models.telemetry(model, "x")).into();
        assert_eq!(models.count(), 2, "what is gone is not remembered");
    }
}
