//! The signals of this process: what records them, the page that shows the metrics, and who they are pushed to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use corymb_metrics::{Metrics, MetricsBuilder, PageFormat};
use corymb_server::{MetricsFormat, Tracing};
use opentelemetry::KeyValue;
use opentelemetry::logs::LoggerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::LogBridge;
use super::delivery::{Cause, Delivery, Watched};
use super::otlp;
use super::process;
use super::tracer::{self, Tracer};
use crate::config::telemetry::{Push, TelemetryOptions};

/// What delivering the last signals may take. A pod's grace of 30 s is nearly over when a drain took its 25.
const FLUSH: Duration = Duration::from_secs(3);

/// The signals of this process.
pub(crate) struct Signals {
    metrics: Metrics,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    tracing: Option<Arc<dyn Tracing>>,
}

/// Which signals cannot be pushed as it is asked for, and why. Serving goes on without.
pub(crate) fn check_push(options: &TelemetryOptions) -> Vec<String> {
    let TelemetryOptions { metrics, traces, logs, .. } = options;
    let faults = [
        ("metrics", metrics.clone().and_then(|push| otlp::metrics(push, Cause::default()).err())),
        ("traces", traces.clone().and_then(|push| otlp::spans(push, Cause::default()).err())),
        ("logs", logs.clone().and_then(|push| otlp::logs(push, Cause::default()).err())),
    ];
    let faults = faults.into_iter().filter_map(|(signal, fault)| Some((signal, fault?)));
    faults.map(|(signal, fault)| format!("{signal} are not pushed: {fault}")).collect()
}

/// What pushes a signal, watched; none where nobody asked for it, or it cannot be made, which is said.
fn pushing<E>(
    signal: &'static str,
    push: Option<&Push>,
    make: impl FnOnce(Push, Cause) -> Result<E, ExporterBuildError>,
) -> Option<Watched<E>> {
    let push = push?;
    let delivery = Delivery::of(signal, &push.endpoint);
    match make(push.clone(), delivery.cause()) {
        Ok(exporter) => Some(Watched::new(exporter, &delivery)),
        Err(error) => {
            tracing::warn!(signal, endpoint = push.endpoint, %error, "signals are not pushed");
            None
        }
    }
}

impl Signals {
    /// Makes every instrument of this process, from here on, record. To be called inside the tokio runtime, on which
    /// gRPC's connections live.
    pub(crate) fn start(
        options: &TelemetryOptions,
        log: &LogBridge,
        lines_lost: Arc<AtomicU64>,
    ) -> anyhow::Result<Self> {
        let resource = resource(options);
        let metrics = MetricsBuilder::new(resource.clone());
        let every_scope = |push, cause| otlp::metrics(push, cause).map(|exporter| metrics.every_scope(exporter));
        let metrics = match pushing("metrics", options.metrics.as_ref(), every_scope) {
            None => metrics.build(),
            Some(exporter) => metrics.build_pushing(exporter, options.interval),
        };
        let metrics = metrics.context("start the Prometheus page")?;
        opentelemetry::global::set_meter_provider(metrics.clone());
        let meter = opentelemetry::global::meter("corymb");
        process::observe_build(&meter, &super::BACKENDS);
        process::observe_process(&meter);
        meter
            .u64_observable_counter("corymb.log.dropped")
            .with_unit("{line}")
            .with_description("Lines of the log that were lost, since nobody read it fast enough.")
            .with_callback(move |observer| observer.observe(lines_lost.load(Ordering::Relaxed), &[]))
            .build();

        let mut traces = None;
        let mut tracing = None;
        if let Some(exporter) = pushing("traces", options.traces.as_ref(), otlp::spans) {
            let provider = tracer::provider().with_resource(resource.clone()).with_batch_exporter(exporter).build();
            opentelemetry::global::set_tracer_provider(provider.clone());
            tracing = Some(Arc::new(Tracer::new(options.sampling, &provider)) as Arc<dyn Tracing>);
            traces = Some(provider);
        }

        let mut logs = None;
        if let Some(exporter) = pushing("logs", options.logs.as_ref(), otlp::logs) {
            let provider = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
            log.connect(provider.logger("corymb"));
            logs = Some(provider);
        }
        Ok(Self { metrics, traces, logs, tracing })
    }

    /// Renders the Prometheus page.
    pub(crate) fn page(&self) -> corymb_server::MetricsPage {
        let metrics = self.metrics.clone();
        Arc::new(move |format| {
            metrics.page_as(match format {
                MetricsFormat::Text => PageFormat::Text,
                MetricsFormat::OpenMetrics => PageFormat::OpenMetrics,
            })
        })
    }

    /// Who decides which requests are traced; none where no traces are pushed.
    pub(crate) fn tracing(&self) -> Option<Arc<dyn Tracing>> {
        self.tracing.clone()
    }

    /// Hands over what has been recorded. The last thing that a stopping process does, and it takes no longer than
    /// [`FLUSH`], whatever the collector does.
    pub(crate) fn flush(self) {
        let Self { metrics, traces, logs, .. } = self;
        type Last = Box<dyn FnOnce() -> OTelSdkResult + Send>;
        let mut last: Vec<(&'static str, Last)> = vec![("metrics", Box::new(move || metrics.shutdown()))];
        last.extend(traces.map(|traces| ("traces", Box::new(move || traces.shutdown()) as Last)));
        last.extend(logs.map(|logs| ("logs", Box::new(move || logs.shutdown()) as Last)));
        let mut waiting: Vec<&'static str> = last.iter().map(|(signal, _)| *signal).collect();
        let (done, finished) = channel();
        for (signal, shutdown) in last {
            let done = done.clone();
            // A thread each: the SDK's own limits are longer, and one must not wait for another.
            std::thread::spawn(move || {
                let _ = done.send((signal, shutdown()));
            });
        }
        drop(done);
        let deadline = Instant::now() + FLUSH;
        while let Ok((signal, result)) = finished.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            waiting.retain(|waiting| *waiting != signal);
            if let Err(error) = result {
                tracing::warn!(signal, %error, "the last signals could not be delivered");
            }
        }
        if !waiting.is_empty() {
            let signals = waiting.join(", ");
            tracing::warn!(signals, "the last signals could not be delivered in time");
        }
    }
}

fn resource(options: &TelemetryOptions) -> Resource {
    let given = options.resource.iter().map(|(name, value)| KeyValue::new(*name, value.clone()));
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(given)
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &options.service_name {
        Some(name) => resource.with_service_name(name.clone()).build(),
        None => resource.build(),
    }
}
