//! The engine as others see it: what is served, and in which state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use corymb_core::{Backend, PluginHost, Signature};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};

use crate::accounting::{Concurrency, InFlight};
use crate::admission::{Admission, Permit};
use crate::call::Call;
use crate::division::Division;
use crate::error::EngineError;
use crate::isolation::Survivors;
use crate::lifecycle::State;
use crate::loads::VersionStatus;
use crate::pool::{Panicked, Pool, Progress, Stage};
use crate::registry::{Entry, Registry};
use crate::shared::{EngineOptions, Shared};
use crate::signals::{self, Protocol};

/// How often the saturation is brought up to date.
const TICK: Duration = Duration::from_millis(500);

/// A cheap handle to the one engine of the process.
#[derive(Clone, Debug)]
pub struct Engine(pub(crate) Arc<Shared>);

/// A model and its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// As clients name it.
    pub name: String,
    /// Whether a version answers.
    pub ready: bool,
    /// In order of number.
    pub versions: Vec<VersionStatus>,
}

/// What the protocols' metadata is made of.
#[derive(Clone, Debug)]
pub struct ModelDescription {
    /// As clients name it.
    pub name: String,
    /// The version that is described.
    pub version: String,
    /// The versions that answer.
    pub versions: Vec<String>,
    /// The Open Inference Protocol's platform name.
    pub platform: &'static str,
    /// Which backend runs it; empty for a plugin that stands alone.
    pub backend: &'static str,
    /// What really runs it.
    pub device: String,
    /// Why this backend and device, in words; what is known of sharing runs, and of requests that are alone.
    pub remarks: Vec<(&'static str, String)>,
    /// The share of each version of the requests that name none; empty where the newest answers all.
    pub shares: Vec<(String, u64)>,
    /// What goes in and comes out.
    pub signature: Signature,
}

/// See [`Engine::opening`].
#[derive(Debug)]
pub struct Opening(Arc<Shared>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.send_replace(false);
    }
}

impl Engine {
    /// An engine without models. What it records of a version ends with the version where a meter of `meters` that was made
    /// for a scope with attributes ends with its series, as those of `corymb-metrics` do.
    ///
    /// # Errors
    /// When the compute pool's threads cannot be started, or outside a tokio runtime.
    pub fn new(
        options: EngineOptions,
        backends: Vec<Arc<dyn Backend>>,
        plugins: Option<Arc<dyn PluginHost>>,
        meters: Arc<dyn MeterProvider + Send + Sync>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            pool: Pool::new(options.workers)?,
            admission: Admission::new(options.max_in_flight, options.pool.clone()),
            registry: Registry::default(),
            loads: tokio::sync::Semaphore::new(options.workers.max(1)),
            concurrency: Arc::default(),
            survivors: Survivors::new(options.cache.as_deref()),
            load: AtomicU64::default(),
            last: std::sync::OnceLock::new(),
            opening: tokio::sync::watch::Sender::new(false),
            options,
            backends,
            plugins,
            meters,
        });
        let meter = shared.meters.meter(signals::SCOPE);
        observe_models(&meter, &Arc::downgrade(&shared));
        observe_instances(&meter, &Arc::downgrade(&shared));
        observe_server(&meter, &Arc::downgrade(&shared));
        observe_saturation(&meter, &Arc::downgrade(&shared));
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// Until the guard is dropped it is not known which models there are: nothing is ready, and a model that is unknown is
    /// one that is loading.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.0.opening.send_replace(true);
        Opening(Arc::clone(&self.0))
    }

    /// The entry of a model.
    pub(crate) fn find(&self, model: &str) -> Result<Arc<Entry>, EngineError> {
        let found = self.0.registry.find(model);
        if found.is_err() && *self.0.opening.borrow() {
            return Err(EngineError::NotReady { model: model.to_owned(), state: State::Loading.name() });
        }
        found
    }

    #[cfg(test)]
    pub(crate) fn serving(&self, model: &str) -> Result<Arc<crate::version::Version>, EngineError> {
        self.0.registry.find(model)?.newest(None)
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Takes a place for one request when its headers arrive, before its body is read.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`].
    pub fn admit(&self) -> Result<Permit, EngineError> {
        self.0.admission.admit()
    }

    /// Counts one request in the server's concurrency until the guard is dropped: from its headers to its last byte.
    #[must_use]
    pub fn track(&self) -> InFlight {
        self.0.concurrency.enter()
    }

    /// Requests in flight of the whole server.
    #[must_use]
    pub fn concurrency(&self) -> &Arc<Concurrency> {
        &self.0.concurrency
    }

    /// Finds the version that answers, and counts the request in the model's concurrency.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], [`EngineError::UnknownVersion`], [`EngineError::Unloaded`],
    /// [`EngineError::NotReady`], [`EngineError::Draining`].
    pub fn begin(&self, model: &str, version: Option<&str>, protocol: Protocol) -> Result<Call, EngineError> {
        let entry = self.find(model)?;
        let in_flight = entry.concurrency.enter();
        let version = entry.pick(version)?;
        // Before its body is read: refusing should cost little.
        version.capacity.check()?;
        Ok(Call::new(Arc::clone(&self.0), version, in_flight, protocol))
    }

    /// Waits while the model is loading; at most until `deadline`. What it is then, [`Engine::begin`] says.
    pub async fn wait_loaded(&self, model: &str, deadline: Instant) {
        let mut opening = self.0.opening.subscribe();
        if tokio::time::timeout_at(deadline.into(), opening.wait_for(|opening| !opening)).await.is_err() {
            return;
        }
        let Ok(entry) = self.0.registry.find(model) else { return };
        let mut changes = entry.changes();
        while !entry.is_ready() && entry.is_coming() {
            if tokio::time::timeout_at(deadline.into(), changes.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Whether a model does not answer and may soon.
    #[must_use]
    pub fn is_loading(&self, model: &str) -> bool {
        self.0.registry.find(model).is_ok_and(|entry| !entry.is_ready() && entry.is_coming())
    }

    /// Runs CPU work of a request on the compute pool.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when it panics.
    pub async fn compute<T: Send + 'static>(
        &self,
        stage: Stage,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let result = self.0.pool.run(Progress::new(stage, self.0.pool.own()), async move { work() }).await;
        result.map_err(|Panicked(details)| EngineError::Internal { model: None, details })
    }

    /// Whether every model that was asked for at the start answers, or failed where that is allowed, as long as one answers.
    #[must_use]
    pub fn ready(&self) -> bool {
        let keep_going = self.0.options.keep_going;
        if *self.0.opening.borrow() {
            return false;
        }
        let all = self.0.registry.all();
        let asked_for: Vec<&Arc<Entry>> = all.iter().filter(|entry| entry.is_asked_for()).collect();
        let settled = |entry: &&Arc<Entry>| entry.is_ready() || (keep_going && entry.is_settled());
        let one_answers = asked_for.is_empty() || asked_for.iter().any(|entry| entry.is_ready());
        one_answers && asked_for.iter().all(settled)
    }

    /// Every model, by name.
    #[must_use]
    pub fn models(&self) -> Vec<ModelStatus> {
        self.0.registry.all().iter().map(|entry| status(entry)).collect()
    }

    /// One model.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`].
    pub fn status(&self, model: &str) -> Result<ModelStatus, EngineError> {
        self.find(model).map(|entry| status(&entry))
    }

    /// What a version takes and gives.
    ///
    /// # Errors
    /// As [`Engine::begin`].
    pub fn describe(&self, model: &str, version: Option<&str>) -> Result<ModelDescription, EngineError> {
        let entry = self.find(model)?;
        let version = entry.newest(version)?;
        let findings = version.findings();
        let Division { rows, node, advice, .. } = version.division.clone();
        let remarks = [
            ("choice", version.reason.clone()),
            ("rows", rows.to_owned()),
            ("rows_node", node.unwrap_or_default()),
            ("rows_advice", advice.unwrap_or_default()),
            ("unverified", if version.unverified { "true".to_owned() } else { String::new() }),
            ("batching", findings.batching),
            ("alone", findings.alone),
            ("max_batch_size", version.largest_batch().to_string()),
            ("instances", version.capacity.parallel().to_string()),
        ];
        let serving = entry.served();
        Ok(ModelDescription {
            name: version.model.clone(),
            version: version.version.clone(),
            versions: serving.names(),
            shares: serving.shares(),
            platform: version.platform,
            backend: version.backend,
            device: version.device.clone(),
            remarks: remarks.into_iter().filter(|(_, words)| !words.is_empty()).collect(),
            signature: version.signature.clone(),
        })
    }

    /// Lets go of every model and waits, at most for `limit`, until the last request of each has ended.
    pub async fn shut_down(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        // What was counted since the last push goes with the last one, after the versions themselves.
        let _ = self.0.last.set(self.0.registry.all().iter().flat_map(|entry| entry.all_series()).collect());
        for entry in self.0.registry.all() {
            entry.retain(|_| false);
        }
        for entry in self.0.registry.all() {
            let mut changes = entry.changes();
            while entry.is_draining() {
                if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                    tracing::warn!(model = entry.name, "requests were still running when the time to drain was over");
                    break;
                }
            }
        }
        self.0.pool.stop();
    }
}

/// Brings what is averaged over time up to date, whoever reads it or not.
async fn keep_time(engine: Weak<Shared>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let Some(engine) = engine.upgrade() else { return };
        let now = Instant::now();
        let entries = engine.registry.all();
        entries.iter().for_each(|entry| entry.tick(now - last));
        let load: f64 = entries.iter().map(|entry| entry.shared_load()).sum();
        engine.load.store(load.to_bits(), Ordering::Relaxed);
        last = now;
    }
}

fn status(entry: &Entry) -> ModelStatus {
    ModelStatus { name: entry.name.clone(), ready: entry.is_ready(), versions: entry.statuses() }
}

/// Shows something of each model.
fn per_model(engine: &Weak<Shared>, mut each: impl FnMut(&Entry, KeyValue)) {
    let Some(engine) = engine.upgrade() else { return };
    for entry in engine.registry.all() {
        each(&entry, KeyValue::new("model", entry.name.clone()));
    }
}

/// The instruments of each model that are read rather than written.
fn observe_models(meter: &Meter, engine: &Weak<Shared>) {
    let weak = engine.clone();
    meter
        .u64_observable_gauge("corymb.request.in_flight")
        .with_unit("{request}")
        .with_description("Requests of a model that are named and not yet answered.")
        .with_callback(move |observer| {
            per_model(&weak, |entry, model| observer.observe(entry.concurrency.in_flight(), &[model]));
        })
        .build();
    let weak = engine.clone();
    meter
        .f64_observable_counter("corymb.request.concurrency.time")
        .with_unit("s")
        .with_description("Requests in flight of a model, integrated over time; its rate is the average concurrency.")
        .with_callback(move |observer| {
            per_model(&weak, |entry, model| observer.observe(entry.concurrency.integral(), &[model]));
        })
        .build();
    let weak = engine.clone();
    meter
        .u64_observable_gauge("corymb.queue.depth")
        .with_unit("{request}")
        .with_description("Requests that wait for an instance of a model.")
        .with_callback(move |observer| {
            per_model(&weak, |entry, model| observer.observe(entry.queue_depth() as u64, &[model]));
        })
        .build();
    let weak = engine.clone();
    meter
        .u64_observable_gauge("corymb.model.state")
        .with_description("1 for the state that each version of a model is in.")
        .with_callback(move |observer| {
            // A server that is still there says nothing of what is gone; one that stops says it of all it had.
            let stops = weak.upgrade().is_some_and(|engine| engine.last.get().is_some());
            per_model(&weak, |entry, model| {
                for status in entry.statuses().into_iter().filter(|status| stops || status.state != State::Gone) {
                    let state = KeyValue::new("state", status.state.name());
                    observer.observe(1, &[model.clone(), KeyValue::new("version", status.version), state]);
                }
            });
        })
        .build();
}

/// How many instances there are, and how many of them run.
fn observe_instances(meter: &Meter, engine: &Weak<Shared>) {
    let weak = engine.clone();
    meter
        .u64_observable_gauge("corymb.instance.count")
        .with_unit("{instance}")
        .with_description("Instances of each version that answers, by whether they run.")
        .with_callback(move |observer| {
            per_model(&weak, |entry, _| {
                entry.instances(|[model, version, backend, device], instances| {
                    for (state, count) in [("idle", instances.idle), ("busy", instances.busy)] {
                        let state = KeyValue::new("state", state);
                        let named = [model.clone(), version.clone(), backend.clone(), device.clone(), state];
                        observer.observe(count as u64, &named);
                    }
                });
            });
        })
        .build();
}

/// How full the models are, and the server.
fn observe_saturation(meter: &Meter, engine: &Weak<Shared>) {
    let weak = engine.clone();
    meter
        .f64_observable_gauge("corymb.model.saturation")
        .with_unit("1")
        .with_description(
            "Load over the capacity that was measured while the model served, that of other models on shared workers \
             included: 1 where it could take no more.",
        )
        .with_callback(move |observer| {
            let all = weak.upgrade().map_or(0.0, |engine| engine.load());
            per_model(&weak, |entry, model| observer.observe(entry.saturation(all), &[model]));
        })
        .build();
    let weak = engine.clone();
    meter
        .f64_observable_gauge("corymb.server.saturation")
        .with_unit("1")
        .with_description(
            "The saturation of the model where it is highest, and at least the load of the shared workers.",
        )
        .with_callback(move |observer| {
            let Some(engine) = weak.upgrade() else { return };
            let all = engine.load();
            let models = engine.registry.all();
            observer.observe(models.iter().map(|entry| entry.saturation(all)).fold(all, f64::max), &[]);
        })
        .build();
}

/// The instruments of the whole server that are read.
fn observe_server(meter: &Meter, engine: &Weak<Shared>) {
    let weak = engine.clone();
    meter
        .u64_observable_gauge("corymb.server.in_flight")
        .with_unit("{request}")
        .with_description("Requests of the whole server, from their headers to their last byte.")
        .with_callback(move |observer| {
            if let Some(engine) = weak.upgrade() {
                observer.observe(engine.concurrency.in_flight(), &[]);
            }
        })
        .build();
    let weak = engine.clone();
    meter
        .f64_observable_counter("corymb.server.concurrency.time")
        .with_unit("s")
        .with_description("Requests in flight of the whole server, integrated over time.")
        .with_callback(move |observer| {
            if let Some(engine) = weak.upgrade() {
                observer.observe(engine.concurrency.integral(), &[]);
            }
        })
        .build();
}

#[cfg(test)]
mod tests;
