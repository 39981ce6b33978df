//! Models on demand: each is loaded by the first request that names it, and those that were not used for longest make room.

mod item;
mod listing;
mod room;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use corymb_core::{Code, Error, FileSource};
use corymb_repository::ModelFolder;
use futures::FutureExt as _;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio::task::JoinError;

pub use self::item::Waiting;
use self::item::{Item, Measured, Record, Refusal};
use super::{Live, LoadAsk, failed};
use crate::signals::SCOPE;
use crate::split::Split;

/// How long a request without a deadline waits for a model.
const LONGEST: Duration = Duration::from_secs(600);

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
    listing: Mutex<listing::State>,
    /// Held by who makes room and loads: what a model takes is measured while no other comes or goes.
    turn: tokio::sync::Mutex<()>,
    begin: Instant,
    /// Whether a model was loaded before.
    is_measuring: AtomicBool,
    loads: Counter<u64>,
    evictions: Counter<u64>,
}

/// Who has a model loaded.
enum For {
    /// A request: where the newest version cannot be loaded, an older one will do.
    Request,
    /// Somebody who asked for just that, and how requests are divided among the versions.
    Admin(Option<Split>),
}

impl OnDemand {
    /// Knows no models until they are listed.
    #[must_use]
    pub fn new(live: Live, options: OnDemandOptions) -> Self {
        let meter = live.0.engine.0.meters.meter(SCOPE);
        let loads = meter
            .u64_counter("corymb.model.loads")
            .with_unit("{load}")
            .with_description("Loads of a model that is loaded on demand, by how they ended.")
            .build();
        let evictions = meter
            .u64_counter("corymb.model.evictions")
            .with_unit("{model}")
            .with_description("Models that were unloaded to make room for others.")
            .build();
        let (items, listing, turn) = (RwLock::default(), Mutex::default(), tokio::sync::Mutex::default());
        let (begin, is_measuring) = (Instant::now(), AtomicBool::new(false));
        let inner = Inner { live, options, items, listing, turn, begin, is_measuring, loads, evictions };
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

    /// Whether a request for this model would have it loaded: it is not, and nothing speaks against it.
    #[must_use]
    pub fn knows(&self, model: &str) -> bool {
        let may_load = |item: Arc<Item>| item.failure(Instant::now()).is_none();
        self.0.item(model).is_some_and(may_load)
            && !self.0.is_loaded(model)
            && !self.0.live.asked().unloaded.contains(model)
    }

    /// Why a request for this model would be refused as things are: it could not be loaded of late.
    #[must_use]
    pub fn failure(&self, model: &str) -> Option<Error> {
        let (refusal, left) = self.0.item(model)?.failure(Instant::now())?;
        (!self.0.is_loaded(model)).then(|| Error { retry_after: Some(left), ..refusal.error(model) })
    }

    /// Says that a model was asked for: those that were not for longest make room first.
    pub fn touch(&self, model: &str) {
        if let Some(item) = self.0.item(model) {
            item.touch(self.0.begin.elapsed());
        }
    }

    /// Has the model loaded, and waits for it, at most until `deadline`. The load goes on, whoever still waits. Until what it
    /// returns is dropped, the model stays.
    ///
    /// # Errors
    /// There is no such model; it is larger than all of them may be; nothing can make room for it; it fails to load, or has of
    /// late; the deadline passed.
    pub async fn ensure(&self, model: &str, deadline: Option<Instant>) -> Result<Waiting, Error> {
        let until = deadline.unwrap_or_else(|| Instant::now() + LONGEST);
        let item = match self.0.item(model) {
            Some(item) => item,
            None => self.new_item(model, until).await?,
        };
        item.touch(self.0.begin.elapsed());
        let waiting = item.wait();
        if self.0.is_loaded(model) {
            return Ok(waiting);
        }
        if self.0.live.asked().unloaded.contains(model) {
            return Err(Error::new(Code::NotFound, format!("model '{model}' was unloaded by request; load it first")));
        }
        if let Some((refusal, left)) = item.failure(Instant::now()) {
            return Err(Error { retry_after: Some(left), ..refusal.error(model) });
        }
        let loading = item.loading(|| {
            let (inner, model, item) = (Arc::clone(&self.0), model.to_owned(), Arc::clone(&item));
            let task = tokio::spawn(async move {
                let work = AssertUnwindSafe(inner.load_asked(&model, &item)).catch_unwind();
                let panicked = |_| Err(Refusal::Failed(Code::Internal, "the load panicked".to_owned()));
                let result = work.await.unwrap_or_else(panicked);
                item.finished(&result, Instant::now());
                inner.count(&model, &result);
                result
            });
            let stopped = |error: JoinError| Err(Refusal::Failed(Code::Internal, error.to_string()));
            task.map(move |result| result.unwrap_or_else(stopped)).boxed().shared()
        });
        match tokio::time::timeout_at(until.into(), loading).await {
            Ok(Ok(())) => Ok(waiting),
            Ok(Err(refusal)) => {
                let left = item.failure(Instant::now()).map(|(_, left)| left);
                let error = refusal.error(model);
                Err(Error { retry_after: error.retry_after.or(left), ..error })
            }
            Err(_) => {
                let message = format!("model '{model}' was not loaded when the deadline passed; it is loading");
                Err(Error::new(Code::DeadlineExceeded, message))
            }
        }
    }

    /// As [`Live::load`], within the memory that models may take.
    ///
    /// # Errors
    /// Those, and that it is too large, or nothing can make room for it.
    pub async fn load(&self, model: &str, ask: LoadAsk) -> Result<(), Error> {
        let LoadAsk { uri, split } = ask;
        let live = &self.0.live;
        let folders = live.opened(model, uri.as_deref()).await.inspect_err(|error| {
            self.0.count(model, &Err(Refusal::Failed(error.code, String::new())));
        })?;
        let item = self.0.item_or_new(model);
        item.touch(self.0.begin.elapsed());
        let result = self.0.load(model, &item, folders, For::Admin(split)).await;
        self.0.count(model, &result);
        result.map_err(|refusal| match refusal {
            Refusal::Failed(code, reason) => failed(code, model, &reason),
            other => other.error(model),
        })?;
        item.succeeded();
        live.taken(model, uri);
        Ok(())
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

    /// One that is known from now on.
    fn item_or_new(&self, model: &str) -> Arc<Item> {
        let mut items = self.items.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(items.entry(model.to_owned()).or_default())
    }

    fn count(&self, model: &str, result: &Result<(), Refusal>) {
        let outcome = result.as_ref().map_or_else(Refusal::outcome, |()| "ok");
        self.loads.add(1, &[KeyValue::new("model", model.to_owned()), KeyValue::new("outcome", outcome)]);
    }

    /// Loads what a request asks for.
    async fn load_asked(&self, model: &str, item: &Item) -> Result<(), Refusal> {
        let opened = self.live.open_listed(model, item.listed().as_ref()).await;
        let failed = |code, reason: String| {
            self.live.0.engine.not_opened(model, &reason);
            Refusal::Failed(code, reason)
        };
        match opened.map_err(|error| failed(error.code, error.message))? {
            Ok(folders) => self.load(model, item, folders, For::Request).await,
            Err(error) if error.is_absence() && !self.is_listed(model).await => {
                tracing::warn!(model, %error, "the model is there no more");
                self.items.write().unwrap_or_else(PoisonError::into_inner).remove(model);
                self.live.0.engine.forget(model).await;
                Err(Refusal::Gone)
            }
            Err(error) => Err(failed(error.code(), error.to_string())),
        }
    }

    async fn load(&self, model: &str, item: &Item, folders: Vec<ModelFolder>, whom: For) -> Result<(), Refusal> {
        let stamp: Vec<&str> = folders.iter().map(|folder| folder.stamp.as_str()).collect();
        let record = self.options.cache.as_ref().map(|cache| Record::of(cache, model, &stamp));
        item.pin(folders.last().is_some_and(|newest| newest.manifest.pinned));
        let (stored, known, folders) = blocking({
            let record = record.clone();
            move || (folders.iter().map(bytes_of).sum::<u64>(), record.and_then(|record| record.read()), folders)
        })
        .await?;
        let budget = self.options.budget;
        let certain = known.filter(Measured::is_certain).map_or(stored, |known| known.least.max(stored));
        if certain > budget {
            return Err(Refusal::TooLarge { needed: certain, budget });
        }
        let _turn = self.turn.lock().await;
        if matches!(whom, For::Request) && self.is_loaded(model) {
            return Ok(());
        }
        let expected = known.map_or(stored, |known| known.least.max(stored)).min(budget);
        self.make_room(model, expected).await?;
        let before = self.resident().await?;
        let loaded = match whom {
            For::Request => self.live.load_or_older(model, folders).await,
            For::Admin(split) => self.live.0.engine.update(model, folders, split).await,
        };
        loaded.map_err(|error| Refusal::Failed(error.code(), error.to_string()))?;
        let grown = self.resident().await?.zip(before).map(|(after, before)| after.saturating_sub(before));
        // What the process takes with its first model is not all that model's.
        let grown = grown.filter(|_| self.is_measuring.swap(true, Ordering::Relaxed));
        // Memory that others gave back was there already: it has its weights at least.
        let measured = grown.map(|grown| Measured::and(known, grown.max(stored)));
        if let (Some(record), Some(measured)) = (record, measured) {
            blocking(move || record.write(measured)).await?;
        }
        let taken = measured.or(known).map_or(stored, |measured| measured.least.max(stored)).min(budget);
        item.set_bytes(taken);
        tracing::info!(model, bytes = taken, budget, "model loaded on demand");
        // It may be more than was expected: others leave as soon as they can.
        let _ = self.make_room(model, taken).await;
        Ok(())
    }

    /// Bytes that the process takes.
    async fn resident(&self) -> Result<Option<u64>, Refusal> {
        let resident = Arc::clone(&self.options.resident);
        blocking(move || resident()).await
    }
}

/// Asks the system on a thread that serves nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let stopped = |error: JoinError| Refusal::Failed(Code::Internal, error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(stopped)
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
