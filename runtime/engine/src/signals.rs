//! The engine's instruments, recorded through the OpenTelemetry API. Nothing here depends on who reads them, or how often.

use std::sync::OnceLock;
use std::time::Duration;

use corymb_core::Code;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};
use opentelemetry::{KeyValue, StringValue};

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

/// The instruments of all models.
#[derive(Clone)]
pub(crate) struct Signals {
    request_duration: Histogram<f64>,
    stage_duration: Histogram<f64>,
    batch_size: Histogram<u64>,
    busy_time: Counter<f64>,
    load_duration: Histogram<f64>,
}

impl Signals {
    pub(crate) fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, description: &'static str| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(description);
            builder.with_boundaries(DURATION_BUCKETS.to_vec()).build()
        };
        Self {
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
        }
    }

    pub(crate) fn loaded(&self, model: &str, version: &str, outcome: &'static str, time: Duration) {
        let attributes = [
            KeyValue::new("model", model.to_owned()),
            KeyValue::new("version", version.to_owned()),
            KeyValue::new("outcome", outcome),
        ];
        self.load_duration.record(time.as_secs_f64(), &attributes);
    }
}

/// The instruments with the attributes of one version. Its series are bound when they are first needed: recording
/// hashes no attributes and allocates nothing.
pub(crate) struct VersionSignals {
    signals: Signals,
    model: StringValue,
    version: StringValue,
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
    pub(crate) fn new(signals: Signals, model: &str, version: &str, backend: &'static str, devices: &[String]) -> Self {
        // Shared strings: cloning them into attributes copies no text.
        let shared = |text: &str| StringValue::from(std::sync::Arc::<str>::from(text));
        let (model, version) = (shared(model), shared(version));
        let run = |device: &String| RunSeries {
            attributes: [
                KeyValue::new("model", model.clone()),
                KeyValue::new("version", version.clone()),
                KeyValue::new("backend", backend),
                KeyValue::new("device", shared(device)),
            ],
            busy_time: OnceLock::new(),
            batch_size: OnceLock::new(),
        };
        let runs = devices.iter().map(run).collect();
        let (stages, ok) = Default::default();
        Self { signals, model, version, runs, stages, ok }
    }

    pub(crate) fn stage(&self, stage: Stage, time: Duration) {
        let bind = || {
            let [model, version] = self.own();
            self.signals.stage_duration.bind(&[model, version, KeyValue::new("stage", stage.name())])
        };
        self.stages[stage as usize].get_or_init(bind).record(time.as_secs_f64());
    }

    /// One run of an instance on the device of that index: its time, and how many requests it served.
    pub(crate) fn run(&self, device: usize, time: Duration, requests: u64) {
        for _ in 0..requests {
            self.stage(Stage::Infer, time);
        }
        let Some(RunSeries { attributes, busy_time, batch_size }) = self.runs.get(device) else { return };
        busy_time.get_or_init(|| self.signals.busy_time.bind(attributes)).add(time.as_secs_f64());
        batch_size.get_or_init(|| self.signals.batch_size.bind(attributes)).record(requests);
    }

    pub(crate) fn request(&self, protocol: Protocol, outcome: Result<(), Code>, time: Duration) {
        let attributes = || {
            let [model, version] = self.own();
            let outcome = KeyValue::new("outcome", outcome_name(outcome));
            [model, version, KeyValue::new("protocol", protocol.name()), outcome]
        };
        let duration = &self.signals.request_duration;
        if outcome.is_ok() {
            self.ok[protocol as usize].get_or_init(|| duration.bind(&attributes())).record(time.as_secs_f64());
        } else {
            duration.record(time.as_secs_f64(), &attributes());
        }
    }

    fn own(&self) -> [KeyValue; 2] {
        [KeyValue::new("model", self.model.clone()), KeyValue::new("version", self.version.clone())]
    }
}
