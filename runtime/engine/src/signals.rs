//! The engine's instruments, recorded through the OpenTelemetry API. Nothing here depends on who reads them, or how often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corymb_core::{BackendError, Code};
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue};

use crate::pool::Stage;

/// Seconds, from 100 µs to 30 s.
pub(crate) const DURATION_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0, 30.0,
];

/// Requests.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TensorFlow Serving's and KServe's REST.
    V1,
    /// The Open Inference Protocol's REST.
    V2,
    /// The Open Inference Protocol's gRPC.
    V2Grpc,
    /// From a plugin of another model.
    Plugin,
}

impl Protocol {
    const COUNT: usize = 4;

    /// The word for the `protocol` attribute of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V2Grpc => "v2-grpc",
            Self::Plugin => "plugin",
        }
    }
}

/// The word for the `outcome` attribute of metrics.
pub(crate) const fn outcome_name(outcome: Result<(), Code>) -> &'static str {
    match outcome {
        Ok(()) => "ok",
        Err(code) => code.name(),
    }
}

/// Who makes meters. A meter whose scope has attributes is made anew, and its series end with it; see `corymb-metrics`.
pub(crate) type Meters = Arc<dyn MeterProvider + Send + Sync>;

/// The name under which everything here is recorded.
pub(crate) const SCOPE: &str = "corymb";

/// The instruments of one version of one model: all series that name a version are theirs, and end with the last that holds
/// them. Loads of the same version side by side share them, since their series have the same attributes.
pub(crate) struct Series {
    /// What the series live by.
    _meter: Meter,
    model: StringValue,
    version: StringValue,
    request_duration: Histogram<f64>,
    stage_duration: Histogram<f64>,
    batch_size: Histogram<u64>,
    busy_time: Counter<f64>,
    load_duration: Histogram<f64>,
    crashes: Counter<u64>,
}

impl Series {
    pub(crate) fn new(meters: &Meters, model: &str, version: &str) -> Arc<Self> {
        let (model, version) = (shared(model), shared(version));
        let attributes = [KeyValue::new("model", model.clone()), KeyValue::new("version", version.clone())];
        let scope = InstrumentationScope::builder(SCOPE).with_attributes(attributes).build();
        let meter = meters.meter_with_scope(scope);
        let seconds = |name: &'static str, description: &'static str| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(description);
            builder.with_boundaries(DURATION_BUCKETS.to_vec()).build()
        };
        Arc::new(Self {
            model,
            version,
            request_duration: seconds("corymb.request.duration", "From the model's name being known to the answer."),
            stage_duration: seconds("corymb.stage.duration", "Time of each stage of a request."),
            batch_size: meter
                .u64_histogram("corymb.batch.size")
                .with_unit("{request}")
                .with_description("Requests of one run of the model.")
                .with_boundaries(BATCH_BUCKETS.to_vec())
                .build(),
            busy_time: meter
                .f64_counter("corymb.instance.busy.time")
                .with_unit("s")
                .with_description("Time that instances spent running; its rate over the instances is the utilisation.")
                .build(),
            load_duration: seconds("corymb.model.load.duration", "From the first byte read to ready."),
            crashes: meter
                .u64_counter("corymb.instance.crashes")
                .with_unit("{process}")
                .with_description("Processes of their own that instances ran in and that ended.")
                .build(),
            _meter: meter,
        })
    }

    /// A load of the version ended.
    pub(crate) fn loaded(&self, outcome: &'static str, time: Duration) {
        let [model, version] = self.own();
        self.load_duration.record(time.as_secs_f64(), &[model, version, KeyValue::new("outcome", outcome)]);
    }

    fn own(&self) -> [KeyValue; 2] {
        [KeyValue::new("model", self.model.clone()), KeyValue::new("version", self.version.clone())]
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").field("model", &self.model).field("version", &self.version).finish_non_exhaustive()
    }
}

/// A string whose clones in attributes copy no text.
fn shared(text: &str) -> StringValue {
    StringValue::from(Arc::<str>::from(text))
}

/// What one load of a version records. Its series are bound when they are first needed: recording hashes no attributes and
/// allocates nothing.
pub(crate) struct VersionSignals {
    series: Arc<Series>,
    /// Whether callers ask, and not warm-up.
    serving: AtomicBool,
    /// One for each device.
    runs: Vec<RunSeries>,
    stages: [OnceLock<BoundHistogram<f64>>; Stage::ALL.len()],
    /// Of requests that went well, by protocol.
    ok: [OnceLock<BoundHistogram<f64>>; Protocol::COUNT],
}

/// The series of the runs on one device.
struct RunSeries {
    attributes: [KeyValue; 4],
    busy_time: OnceLock<BoundCounter<f64>>,
    batch_size: OnceLock<BoundHistogram<u64>>,
}

impl VersionSignals {
    pub(crate) fn new(series: Arc<Series>, backend: &'static str, devices: &[String]) -> Self {
        let run = |device: &String| {
            let [model, version] = series.own();
            let (backend, device) = (KeyValue::new("backend", backend), KeyValue::new("device", shared(device)));
            RunSeries {
                attributes: [model, version, backend, device],
                busy_time: OnceLock::new(),
                batch_size: OnceLock::new(),
            }
        };
        let runs = devices.iter().map(run).collect();
        let (stages, ok) = Default::default();
        Self { series, serving: AtomicBool::new(false), runs, stages, ok }
    }

    /// What names the runs on each device: model, version, backend, device.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &[KeyValue; 4]> {
        self.runs.iter().map(|run| &run.attributes)
    }

    /// From now on runs are those of requests, and recorded.
    pub(crate) fn end_warm_up(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stage(&self, stage: Stage, time: Duration) {
        if !self.serving.load(Ordering::Relaxed) {
            return;
        }
        let bind = || {
            let [model, version] = self.series.own();
            self.series.stage_duration.bind(&[model, version, KeyValue::new("stage", stage.name())])
        };
        self.stages[stage as usize].get_or_init(bind).record(time.as_secs_f64());
    }

    /// One run of an instance on the device of that index: its time, and how many requests it served.
    pub(crate) fn run(&self, device: usize, time: Duration, requests: u64) {
        if !self.serving.load(Ordering::Relaxed) {
            return;
        }
        for _ in 0..requests {
            self.stage(Stage::Infer, time);
        }
        let Some(RunSeries { attributes, busy_time, batch_size }) = self.runs.get(device) else { return };
        busy_time.get_or_init(|| self.series.busy_time.bind(attributes)).add(time.as_secs_f64());
        batch_size.get_or_init(|| self.series.batch_size.bind(attributes)).record(requests);
    }

    /// How a run on the device of that index failed, if it did: the process of its instance may have ended, as may some have
    /// before it.
    pub(crate) fn ended(&self, device: usize, error: Option<&BackendError>, before: u64) {
        let ended = before + u64::from(matches!(error, Some(BackendError::Crashed { .. })));
        if ended > 0
            && let Some(RunSeries { attributes, .. }) = self.runs.get(device)
        {
            self.series.crashes.add(ended, attributes);
        }
    }

    pub(crate) fn request(&self, protocol: Protocol, outcome: Result<(), Code>, time: Duration) {
        let attributes = || {
            let [model, version] = self.series.own();
            let outcome = KeyValue::new("outcome", outcome_name(outcome));
            [model, version, KeyValue::new("protocol", protocol.name()), outcome]
        };
        let duration = &self.series.request_duration;
        if outcome.is_ok() {
            self.ok[protocol as usize].get_or_init(|| duration.bind(&attributes())).record(time.as_secs_f64());
        } else {
            duration.record(time.as_secs_f64(), &attributes());
        }
    }
}
