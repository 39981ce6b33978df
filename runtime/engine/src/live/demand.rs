//! Models on demand: each is loaded by the first request that names it, and those that were not used for longest make room.

mod item;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use corymb_core::{Code, Error, FileSource};
use corymb_repository::{ModelFolder, RepositoryError};
use futures::FutureExt as _;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

use self::item::{Item, Refusal};
use super::Live;
use crate::signals::SCOPE;

/// How long a request without a deadline waits for a model.
const LONGEST: Duration = Duration::from_secs(600);
/// The list of models is not asked for again before that, whoever asks for a name that is not in it.
const LIST_AGAIN: Duration = Duration::from_secs(5);
/// How long one waits for the last requests of a model that makes room.
const DRAIN: Duration = Duration::from_secs(10);

/// How models are kept.
#[derive(Clone)]
pub struct OnDemandOptions {
    /// Bytes that loaded models may take together.
    pub budget: u64,
    /// Bytes that the process takes now; none where that cannot be told.
    pub resident: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// A folder for what was measured of models. None: it is measured anew.
    pub cache: Option<PathBuf>,
}

impl std::fmt::Debug for OnDemandOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnDemandOptions").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// Loads models when they are asked for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OnDemand(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    live: Live,
    options: OnDemandOptions,
    items: RwLock<BTreeMap<String, Arc<Item>>>,
    /// When the list was read last.
    listed: tokio::sync::Mutex<Option<Instant>>,
    /// Held by who makes room and loads: what a model takes is measured while no other comes or goes.
    turn: tokio::sync::Mutex<()>,
    begin: Instant,
    /// Whether a model was loaded before.
    is_measuring: AtomicBool,
    loads: Counter<u64>,
    evictions: Counter<u64>,
}

impl OnDemand {
    /// Knows no models until they are listed.
    #[must_use]
    pub fn new(live: Live, options: OnDemandOptions) -> Self {
        let meter = live.0.engine.0.meters.meter(SCOPE);
        let loads = meter
            .u64_counter("corymb.model.loads")
            .with_unit("{load}")
            .with_description("Loads of a model that a request asked for, by how they ended.")
            .build();
        let evictions = meter
            .u64_counter("corymb.model.evictions")
            .with_unit("{model}")
            .with_description("Models that were unloaded to make room for others.")
            .build();
        let (items, listed, turn) = (RwLock::default(), tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let (begin, is_measuring) = (Instant::now(), AtomicBool::new(false));
        let inner = Inner { live, options, items, listed, turn, begin, is_measuring, loads, evictions };
        let demand = Self(Arc::new(inner));
        let weak = Arc::downgrade(&demand.0);
        meter
            .u64_observable_gauge("corymb.model.memory")
            .with_unit("By")
            .with_description("Memory that a loaded model takes, as it was measured when it was loaded.")
            .with_callback(move |observer| {
                let Some(inner) = weak.upgrade() else { return };
                for (name, item) in inner.all() {
                    let bytes = if inner.is_loaded(&name) { item.bytes() } else { 0 };
                    observer.observe(bytes, &[KeyValue::new("model", name)]);
                }
            })
            .build();
        demand
    }

    /// Reads the list of models. Those that are new to it are known from now on, as not loaded.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self) -> Result<usize, RepositoryError> {
        let mut listed = self.0.listed.lock().await;
        let sources = &self.0.live.0.sources;
        let mut names: Vec<String> = sources.named.iter().map(|(name, _)| name.clone()).collect();
        if let Some(folder) = &sources.folder {
            names.extend(self.0.live.0.repository.names(folder, sources.folder_name.as_deref()).await?);
        }
        names.extend(sources.embedded.iter().map(|folder| folder.name.clone()));
        let mut items = self.0.items.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            items.entry(name).or_insert_with_key(|name| {
                self.0.live.0.engine.rest(name);
                Arc::default()
            });
        }
        *listed = Some(Instant::now());
        Ok(items.len())
    }

    /// Whether a request for this model would have it loaded.
    #[must_use]
    pub fn knows(&self, model: &str) -> bool {
        self.0.item(model).is_some_and(|item| item.failure(Instant::now()).is_none())
    }

    /// Says that a model was asked for: those that were not for longest make room first.
    pub fn touch(&self, model: &str) {
        if let Some(item) = self.0.item(model) {
            item.touch(self.0.begin.elapsed());
        }
    }

    /// Has the model loaded, and waits for it, at most until `deadline`. The load goes on, whoever still waits.
    ///
    /// # Errors
    /// There is no such model; it is larger than all of them may be; nothing can make room for it; it fails to load, or has of
    /// late; the deadline passed.
    pub async fn ensure(&self, model: &str, deadline: Option<Instant>) -> Result<(), Error> {
        let item = match self.0.item(model) {
            Some(item) => item,
            None => self.new_item(model).await?,
        };
        item.touch(self.0.begin.elapsed());
        if self.0.is_loaded(model) {
            return Ok(());
        }
        if self.0.live.asked().unloaded.contains(model) {
            return Err(Error::new(Code::NotFound, format!("model '{model}' was unloaded by request; load it first")));
        }
        if let Some(refusal) = item.failure(Instant::now()) {
            return Err(refusal.error(model));
        }
        let loading = item.loading(|| {
            let (inner, model, item) = (Arc::clone(&self.0), model.to_owned(), Arc::clone(&item));
            let task = tokio::spawn(async move {
                let result = inner.load(&model, &item).await;
                item.finished(&result, Instant::now());
                let outcome = result.as_ref().map_or_else(Refusal::outcome, |()| "ok");
                inner.loads.add(1, &[KeyValue::new("model", model), KeyValue::new("outcome", outcome)]);
                result
            });
            task.map(|result| result.unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))).boxed().shared()
        });
        let until = deadline.unwrap_or_else(|| Instant::now() + LONGEST);
        match tokio::time::timeout_at(until.into(), loading).await {
            Ok(result) => result.map_err(|refusal| refusal.error(model)),
            Err(_) => {
                let message = format!("model '{model}' was not loaded when the deadline passed; it is loading");
                Err(Error::new(Code::DeadlineExceeded, message))
            }
        }
    }

    /// One that has come since the list was read.
    async fn new_item(&self, model: &str) -> Result<Arc<Item>, Error> {
        let is_old = self.0.listed.lock().await.is_none_or(|listed| listed.elapsed() >= LIST_AGAIN);
        if is_old && let Err(error) = self.list().await {
            tracing::warn!(%error, "the list of models cannot be read");
        }
        self.0.item(model).ok_or_else(|| super::not_found(model))
    }
}

impl Inner {
    fn item(&self, model: &str) -> Option<Arc<Item>> {
        self.items.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    fn all(&self) -> Vec<(String, Arc<Item>)> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        items.iter().map(|(name, item)| (name.clone(), Arc::clone(item))).collect()
    }

    fn is_loaded(&self, model: &str) -> bool {
        self.live.0.engine.find(model).is_ok_and(|entry| entry.is_ready())
    }

    async fn load(&self, model: &str, item: &Item) -> Result<(), Refusal> {
        let failed = |reason: String| Refusal::Failed(reason);
        let opened = self.live.open(model).await.map_err(|error| failed(error.message))?;
        let folders = opened.map_err(|error| failed(error.to_string()))?;
        let stored: u64 = folders.iter().map(bytes_of).sum();
        let stamp: Vec<&str> = folders.iter().map(|folder| folder.stamp.as_str()).collect();
        let record = self.options.cache.as_ref().map(|cache| item::Record::of(cache, model, &stamp));
        let known = || record.as_ref().and_then(item::Record::read);
        item.pin(folders.last().is_some_and(|newest| newest.manifest.pinned));
        let budget = self.options.budget;
        // What can be told before it is loaded decides whether it may be.
        if stored > budget {
            return Err(Refusal::TooLarge { needed: stored, budget });
        }
        let _turn = self.turn.lock().await;
        self.make_room(model, known().unwrap_or(stored).min(budget)).await?;
        let before = (self.options.resident)();
        let loaded = self.live.0.engine.update(model, folders, None).await;
        loaded.map_err(|error| failed(error.to_string()))?;
        let grown = (self.options.resident)().zip(before).map(|(after, before)| after.saturating_sub(before));
        // What the process takes with its first model is not all that model's.
        let grown = grown.filter(|_| self.is_measuring.swap(true, Ordering::Relaxed));
        // Memory that others gave back was there already, and requests meanwhile took some: it has its weights at least, and of
        // what was seen the least counts.
        let seen = grown.map(|grown| known().map_or(grown, |known| known.min(grown)).max(stored));
        if let (Some(record), Some(seen)) = (&record, seen) {
            record.write(seen);
        }
        let taken = seen.or_else(known).unwrap_or(stored).min(budget);
        item.set_bytes(taken);
        tracing::info!(model, bytes = taken, budget, "model loaded on demand");
        // It may be more than was expected: others leave as soon as they can.
        let _ = self.make_room(model, taken).await;
        Ok(())
    }

    /// Unloads others until a model of so many bytes fits.
    async fn make_room(&self, model: &str, bytes: u64) -> Result<(), Refusal> {
        let budget = self.options.budget;
        loop {
            let loaded: Vec<(String, Arc<Item>)> =
                self.all().into_iter().filter(|(name, _)| name != model && self.is_loaded(name)).collect();
            let used: u64 = loaded.iter().map(|(_, item)| item.bytes()).sum();
            if used.saturating_add(bytes) <= budget {
                return Ok(());
            }
            let is_idle =
                |name: &str| self.live.0.engine.find(name).is_ok_and(|entry| entry.concurrency.in_flight() == 0);
            let idle = loaded.iter().filter(|(name, item)| !item.is_pinned() && is_idle(name));
            let Some((oldest, _)) = idle.min_by_key(|(_, item)| item.used()) else {
                return Err(Refusal::NoRoom { needed: bytes, budget, used });
            };
            self.evict(oldest).await;
        }
    }

    async fn evict(&self, model: &str) {
        let engine = &self.live.0.engine;
        tracing::info!(model, "model unloaded to make room");
        self.evictions.add(1, &[KeyValue::new("model", model.to_owned())]);
        let Ok(entry) = engine.find(model) else { return };
        let _ = engine.unload(model).await;
        let (until, mut changes) = (Instant::now() + DRAIN, entry.changes());
        while entry.is_draining() {
            if tokio::time::timeout_at(until.into(), changes.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// The bytes of a version's model: its file, and what that keeps outside of it.
fn bytes_of(folder: &ModelFolder) -> u64 {
    let Some(files) = &folder.model else { return 0 };
    match &files.model {
        FileSource::Embedded { bytes, .. } => bytes.len() as u64,
        FileSource::Path(path) => {
            let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
            let beside = corymb_repository::external_data(path).unwrap_or_default();
            let folder = path.parent().unwrap_or(std::path::Path::new(""));
            size(path) + beside.iter().map(|location| size(&folder.join(location))).sum::<u64>()
        }
    }
}
