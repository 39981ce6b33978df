//! What every part of the engine works with: its options, its pool, its instruments, its models.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corymb_core::{Backend, MemoryPool, PluginHost};
use tokio::sync::{Semaphore, watch};

use crate::accounting::Concurrency;
use crate::admission::Admission;
use crate::isolation::Survivors;
use crate::pool::Pool;
use crate::registry::Registry;
use crate::signals::{Meters, Series};

/// How the engine works. Every wait has a limit here, every queue a bound.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads of the compute pool: as many as there are cores to use.
    pub workers: usize,
    /// For models whose manifest does not say: `auto`, `fastest` or a backend's name.
    pub backend: String,
    /// For models whose manifest does not say: what [`corymb_core::DeviceChoice`] understands.
    pub device: String,
    /// Where there is one, a model that cannot fit is refused before it is loaded.
    pub memory: Option<MemoryBudget>,
    /// A folder for what is expensive to make again. None: keep nothing.
    pub cache: Option<PathBuf>,
    /// Requests that the server holds at once.
    pub max_in_flight: usize,
    /// What requests, their answers, runs and plugins take their memory from.
    pub pool: MemoryPool,
    /// Requests that may wait for one model, where its manifest does not say.
    pub max_queue: usize,
    /// How long a request may wait for an instance, where the manifest does not say.
    pub queue_timeout: Duration,
    /// Time of one run, where the manifest does not say.
    pub max_run_time: Duration,
    /// Linear memory of one plugin instance, in bytes.
    pub plugin_memory: usize,
    /// Time of one plugin call, where neither the manifest says nor the request's deadline is shorter.
    pub plugin_timeout: Duration,
    /// Whether a model that failed to load leaves the server ready.
    pub keep_going: bool,
}

/// The memory that this process may use.
#[derive(Clone)]
pub struct MemoryBudget {
    pub(crate) limit: u64,
    available: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What loads that are under way will take.
    promised: Arc<AtomicU64>,
}

/// Bytes that a load will take, until it has them or has failed.
pub(crate) struct Promise(Arc<AtomicU64>, u64);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl MemoryBudget {
    /// `limit` bytes in all, of which `available` tells what is left.
    pub fn new(limit: u64, available: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { limit, available: Arc::new(available), promised: Arc::default() }
    }

    /// Bytes that are taken now, or will be soon.
    pub(crate) fn used(&self) -> u64 {
        self.limit.saturating_sub((self.available)()).saturating_add(self.promised.load(Ordering::Relaxed))
    }

    /// Counts `bytes` as taken until the promise is dropped, so that loads side by side do not each take what is left.
    pub(crate) fn promise(&self, bytes: u64) -> Promise {
        self.promised.fetch_add(bytes, Ordering::Relaxed);
        Promise(Arc::clone(&self.promised), bytes)
    }
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBudget").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            backend: "auto".to_owned(),
            device: "auto".to_owned(),
            memory: None,
            cache: None,
            max_in_flight: 1024,
            pool: MemoryPool::default(),
            max_queue: 1024,
            queue_timeout: Duration::from_secs(60),
            max_run_time: Duration::from_secs(60),
            plugin_memory: 256 << 20,
            plugin_timeout: Duration::from_secs(10),
            keep_going: false,
        }
    }
}

/// One per process, behind every handle.
pub(crate) struct Shared {
    pub(crate) options: EngineOptions,
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    pub(crate) plugins: Option<Arc<dyn PluginHost>>,
    pub(crate) pool: Pool,
    pub(crate) meters: Meters,
    pub(crate) registry: Registry,
    /// Loads at a time: each uses a core.
    pub(crate) loads: Semaphore,
    pub(crate) admission: Arc<Admission>,
    pub(crate) concurrency: Arc<Concurrency>,
    pub(crate) survivors: Survivors,
    /// The part of the pool's workers that is asked for, of late.
    pub(crate) load: AtomicU64,
    /// Set when the server stops: what its versions have recorded, which is pushed once more when they are gone.
    pub(crate) last: OnceLock<Vec<Arc<Series>>>,
    /// Whether which models there are is still being found out.
    pub(crate) opening: watch::Sender<bool>,
}

impl Shared {
    /// The part of the pool's workers that is asked for, of late: above 1 it is more than there is.
    pub(crate) fn load(&self) -> f64 {
        f64::from_bits(self.load.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}
