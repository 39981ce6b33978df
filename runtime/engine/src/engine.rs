//! The engine as others see it: what is served, and in which state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use corymb_core::{Backend, PluginHost, Signature};
use corymb_repository::ModelFolder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::accounting::{Concurrency, InFlight};
use crate::admission::{Admission, Permit};
use crate::call::Call;
use crate::error::{EngineError, LoadError};
use crate::lifecycle::State;
use crate::load::{self, Loaded};
use crate::measure::Measuring;
use crate::pool::{Panicked, Pool, Progress, Stage};
use crate::registry::{Entry, Registry};
use crate::shared::{EngineOptions, Shared};
use crate::signals::{Protocol, Signals};
use crate::version::Version;
use crate::warmup;

/// How often the saturation is brought up to date.
const TICK: Duration = Duration::from_millis(500);

/// A cheap handle to the one engine of the process.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Shared>);

/// One version of a model and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// The version.
    pub version: String,
    /// Where it stands.
    pub state: State,
}

/// A model and its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// As clients name it.
    pub name: String,
    /// Whether a version answers.
    pub ready: bool,
    /// In order of loading.
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
    /// What goes in and comes out.
    pub signature: Signature,
}

impl Engine {
    /// An engine without models.
    ///
    /// # Errors
    /// When the compute pool's threads cannot be started, or outside a tokio runtime.
    pub fn new(
        options: EngineOptions,
        backends: Vec<Arc<dyn Backend>>,
        plugins: Option<Arc<dyn PluginHost>>,
        meter: &Meter,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            pool: Pool::new(options.workers)?,
            admission: Admission::new(options.max_in_flight, options.max_body_bytes),
            signals: Signals::new(meter),
            registry: Registry::default(),
            concurrency: Arc::default(),
            options,
            backends,
            plugins,
        });
        observe(meter, &Arc::downgrade(&shared));
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    #[cfg(test)]
    pub(crate) fn serving(&self, model: &str) -> Result<Arc<Version>, EngineError> {
        self.0.registry.find(model)?.serving(None)
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
    /// [`EngineError::UnknownModel`], [`EngineError::UnknownVersion`], [`EngineError::NotReady`],
    /// [`EngineError::Draining`].
    pub fn begin(&self, model: &str, version: Option<&str>, protocol: Protocol) -> Result<Call, EngineError> {
        let entry = self.0.registry.find(model)?;
        let in_flight = entry.concurrency.enter();
        let version = entry.serving(version)?;
        // Before its body is read: refusing should cost little.
        version.capacity.check()?;
        Ok(Call::new(Arc::clone(&self.0), version, in_flight, protocol))
    }

    /// Waits while the model is loading; at most until `deadline`. What it is then, [`Engine::begin`] says.
    pub async fn wait_loaded(&self, model: &str, deadline: Instant) {
        let Ok(entry) = self.0.registry.find(model) else { return };
        let mut changes = entry.changes();
        while !entry.is_ready() && entry.is_coming() {
            if tokio::time::timeout_at(deadline.into(), changes.changed()).await.is_err() {
                return;
            }
        }
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
        let result = self.0.pool.run(Progress::new(stage), async move { work() }).await;
        result.map_err(|Panicked(details)| EngineError::Internal { model: None, details })
    }

    /// Whether every model that was asked for answers, or failed where that is allowed.
    #[must_use]
    pub fn ready(&self) -> bool {
        let keep_going = self.0.options.keep_going;
        self.0.registry.all().iter().all(|entry| entry.is_ready() || (keep_going && entry.is_settled()))
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
        self.0.registry.find(model).map(|entry| status(&entry))
    }

    /// What a version takes and gives.
    ///
    /// # Errors
    /// As [`Engine::begin`].
    pub fn describe(&self, model: &str, version: Option<&str>) -> Result<ModelDescription, EngineError> {
        let entry = self.0.registry.find(model)?;
        let version = entry.serving(version)?;
        let findings = version.findings();
        let remarks = [("choice", version.reason.clone()), ("batching", findings.batching), ("alone", findings.alone)];
        let ready = entry.states().into_iter().filter(|(_, state)| *state == State::Ready);
        Ok(ModelDescription {
            name: version.model.clone(),
            version: version.version.clone(),
            versions: ready.map(|(version, _)| version).collect(),
            platform: version.platform,
            backend: version.backend,
            device: version.device.clone(),
            remarks: remarks.into_iter().filter(|(_, words)| !words.is_empty()).collect(),
            signature: version.signature.clone(),
        })
    }

    /// Says which models will be loaded, so that readiness waits for them and callers hear "loading", not "unknown".
    pub fn announce(&self, folders: &[ModelFolder]) {
        for folder in folders {
            // A second announcement of the same version is refused by the state machine, which is as good.
            let _ = self.0.registry.entry(&folder.name).advance(&folder.version, State::Loading);
        }
    }

    /// Loads a version off the path of requests, warms it up, and swaps it in; the version before drains. If it fails,
    /// the version before keeps serving.
    ///
    /// # Errors
    /// Why it did not become ready.
    pub async fn load(&self, folder: ModelFolder) -> Result<(), LoadError> {
        let entry = self.0.registry.entry(&folder.name);
        let announced =
            entry.states().iter().any(|(version, state)| *version == folder.version && *state == State::Loading);
        if !announced {
            self.advance(&entry, &folder.version, State::Loading)?;
        }
        let begin = Instant::now();
        let result = self.load_and_warm(&entry, &folder).await;
        let time = begin.elapsed();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.0.signals.loaded(&folder.name, &folder.version, outcome, time);
        match result {
            Ok((version, gone)) => {
                tracing::info!(
                    model = folder.name,
                    version = folder.version,
                    backend = version.backend,
                    device = version.device,
                    reason = version.reason,
                    batching = version.findings().batching,
                    plugin = version.plugin.as_ref().map(|plugin| plugin.info().name.as_str()),
                    milliseconds = time.as_millis() as u64,
                    "model ready"
                );
                self.swap_in(&entry, version, gone);
                Ok(())
            }
            Err(error) => {
                tracing::error!(model = folder.name, version = folder.version, %error, "model failed to load");
                // One that is busy is another's, whose state is not ours to change.
                if !matches!(error, LoadError::Busy { .. }) {
                    let _ = entry.advance(&folder.version, State::Failed(error.to_string()));
                }
                Err(error)
            }
        }
    }

    async fn load_and_warm(
        &self,
        entry: &Arc<Entry>,
        folder: &ModelFolder,
    ) -> Result<(Arc<Version>, tokio::sync::oneshot::Receiver<()>), LoadError> {
        let (shared, folder_for_loading) = (Arc::clone(&self.0), folder.clone());
        let loading = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| load::load(&shared, &folder_for_loading)))
                .unwrap_or_else(|payload| Err(LoadError::Panicked(Panicked::from_payload(payload.as_ref()).0)))
        });
        let Loaded { version, instances, sharing, gone } =
            loading.await.map_err(|error| LoadError::Panicked(error.to_string()))??;
        self.advance(entry, &folder.version, State::WarmingUp)?;
        let version = Arc::new(version);
        warmup::warm_up(&self.0, &version, &folder.samples, instances).await?;
        if let Some(queue) = &version.queue {
            queue.end_warm_up();
        }
        if let Some(files) = &folder.model {
            Measuring::new(&self.0, &version, sharing, files.clone()).begin().await;
        }
        Ok((version, gone))
    }

    fn swap_in(&self, entry: &Arc<Entry>, version: Arc<Version>, gone: tokio::sync::oneshot::Receiver<()>) {
        let name = version.version.clone();
        // Swapped before it is called ready, so that nobody who hears "ready" is refused.
        let before = entry.swap(Some(version));
        let _ = entry.advance(&name, State::Ready);
        if let Some(before) = before {
            let _ = entry.advance(&before.version, State::Draining);
        }
        let entry = Arc::clone(entry);
        tokio::spawn(async move {
            // The sender is never used: it is dropped with the version, after its last request.
            let _ = gone.await;
            let _ = entry.advance(&name, State::Draining);
            let _ = entry.advance(&name, State::Gone);
        });
    }

    fn advance(&self, entry: &Entry, version: &str, next: State) -> Result<(), LoadError> {
        entry.advance(version, next).map_err(|state| LoadError::Busy { version: version.to_owned(), state })
    }

    /// Lets go of every model and waits, at most for `limit`, until the last request of each has ended.
    pub async fn shut_down(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        for entry in self.0.registry.all() {
            if let Some(version) = entry.swap(None) {
                let _ = entry.advance(&version.version, State::Draining);
            }
        }
        for entry in self.0.registry.all() {
            let mut changes = entry.changes();
            while entry.states().iter().any(|(_, state)| *state == State::Draining) {
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
        for entry in engine.registry.all() {
            entry.tick(now - last);
        }
        last = now;
    }
}

fn status(entry: &Entry) -> ModelStatus {
    let versions = entry.states().into_iter().map(|(version, state)| VersionStatus { version, state }).collect();
    ModelStatus { name: entry.name.clone(), ready: entry.is_ready(), versions }
}

/// The instruments that are read rather than written.
fn observe(meter: &Meter, engine: &Weak<Shared>) {
    fn per_model(engine: &Weak<Shared>, mut each: impl FnMut(&Entry, KeyValue)) {
        let Some(engine) = engine.upgrade() else { return };
        for entry in engine.registry.all() {
            each(&entry, KeyValue::new("model", entry.name.clone()));
        }
    }

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
        .f64_observable_gauge("corymb.model.saturation")
        .with_unit("1")
        .with_description("Load of a model over the capacity that was measured while it served, 0 to 1.")
        .with_callback(move |observer| {
            per_model(&weak, |entry, model| observer.observe(entry.saturation(), &[model]));
        })
        .build();
    let weak = engine.clone();
    meter
        .u64_observable_gauge("corymb.model.state")
        .with_description("1 for the state that each version of a model is in.")
        .with_callback(move |observer| {
            per_model(&weak, |entry, model| {
                for (version, state) in entry.states() {
                    let state = KeyValue::new("state", state.name());
                    observer.observe(1, &[model.clone(), KeyValue::new("version", version), state]);
                }
            });
        })
        .build();
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
