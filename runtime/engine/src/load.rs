//! From a model's folder to a version that can answer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corymb_core::{Device, LoadOptions, Model, ModelFiles, Plugin, PluginOptions, Signature};
use corymb_repository::{Manifest, ModelFolder};
use tokio::sync::oneshot;

use crate::batch::{Queue, QueueParts};
use crate::capacity::{Capacity, Cores};
use crate::choice::{self, Chosen, Wanted};
use crate::division::Division;
use crate::error::LoadError;
use crate::isolation::Processes;
use crate::measure::{self, Sharing};
use crate::models::OtherModels;
use crate::pool::{NO_PRIORITY, Share};
use crate::shared::Shared;
use crate::signals::{Series, VersionSignals};
use crate::version::Version;
use crate::waiting::{QueueLimits, Waiting};

/// Instances of a model that are processes of their own, where the manifest does not say.
const MOST_PROCESSES: usize = 2;

/// A version, what to measure of it, and the receiver that learns when its last request has ended.
pub(crate) struct Loaded {
    pub(crate) version: Version,
    pub(crate) instances: usize,
    pub(crate) sharing: Sharing,
    pub(crate) gone: oneshot::Receiver<()>,
}

/// Reads, optimises, compiles and configures. Takes long and uses a core: not for a thread that serves.
pub(crate) fn load(shared: &Arc<Shared>, folder: &ModelFolder, series: Arc<Series>) -> Result<Loaded, LoadError> {
    let manifest = &folder.manifest;
    let chosen = folder.model.as_ref().map(|files| load_model(shared, folder, files)).transpose()?;
    let model = chosen.as_ref().map(|chosen| chosen.models[0].as_ref());
    let plugin = load_plugin(shared, folder, model.map(Model::signature))?;
    let signature = served(plugin.as_deref(), model);
    let copies = Copies::of(manifest, shared.pool.workers(), model);
    let sharing = sharing(manifest, copies.on_cores && copies.threads == 1);
    let Runner { backend, engine, reason, devices } = Runner::of(chosen.as_ref());
    let signals = Arc::new(VersionSignals::new(series, backend, &devices));
    let limits = QueueLimits {
        max: manifest.queue.max.unwrap_or(shared.options.max_queue),
        timeout: manifest.queue.timeout.unwrap_or(shared.options.queue_timeout),
        run_time: manifest.instances.run_timeout.unwrap_or(shared.options.max_run_time),
    };
    let all_copies = copies.of_each * devices.len();
    let parallel = all_copies.min(shared.pool.workers());
    let of_run = if copies.on_cores { copies.threads } else { 0 };
    let cores = Cores { workers: shared.pool.workers(), of_run };
    let capacity = Arc::new(Capacity::new(&folder.name, parallel, cores, manifest.batching.latency_target));
    let unverified = model.and_then(Model::unverified);
    if let Some(nodes) = unverified {
        let (model, version) = (&folder.name, &folder.version);
        tracing::warn!(%model, %version, nodes, "nodes run that {backend} is not known to compute rightly: the manifest allows it");
    }
    let unverified = unverified.is_some();
    let share = Share::new(manifest.share.weight());
    let mut division = Division::none();
    let queue = match chosen {
        Some(Chosen { models, .. }) => {
            let profile = models[0].profile();
            division = Division::of(&profile.rows, manifest.batching.enabled).map_err(LoadError::Batching)?;
            let parts = QueueParts {
                name: folder.name.clone(),
                models,
                instances: copies.of_each,
                threads: copies.threads,
                rows: measure::unmeasured(&sharing, division.axes.is_some(), profile.batches_pay),
                axes: division.axes.clone(),
                limits,
                pool: shared.pool.clone(),
                share: share.clone(),
                signals: Arc::clone(&signals),
                capacity: Arc::clone(&capacity),
                memory: shared.options.pool.clone(),
            };
            Some(Queue::new(parts).map_err(|error| LoadError::Backend { backend, error })?)
        }
        None => None,
    };
    let (alive, gone) = oneshot::channel();
    let instances = if queue.is_some() { all_copies } else { shared.pool.workers() };
    let version = Version {
        model: folder.name.clone(),
        version: folder.version.clone(),
        signature,
        platform: if queue.is_some() { "onnx_onnxv1" } else { "wasm_component" },
        backend,
        engine,
        device: devices.join(","),
        headers: folder.plugin.as_ref().map(|plugin| plugin.headers.clone()).unwrap_or_default(),
        plugin,
        share,
        waiting: Waiting::new(&folder.name, limits),
        queue,
        signals,
        capacity,
        priority: manifest.queue.priority.unwrap_or(NO_PRIORITY),
        reason,
        division,
        unverified,
        settings: format!("{:?}", manifest.onnxruntime.settings()),
        findings: Mutex::default(),
        _held: folder.held.clone(),
        _alive: alive,
    };
    Ok(Loaded { version, instances, sharing, gone })
}

/// What clients see: the plugin's signature where there is one.
fn served(plugin: Option<&dyn Plugin>, model: Option<&dyn Model>) -> Signature {
    match (plugin, model) {
        (Some(plugin), _) => plugin.served().clone(),
        (None, Some(model)) => model.signature().clone(),
        (None, None) => Signature::default(),
    }
}

/// What runs a version.
struct Runner {
    /// Empty for a plugin that stands alone, as are the engine and the reason.
    backend: &'static str,
    engine: String,
    reason: String,
    devices: Vec<String>,
}

impl Runner {
    fn of(chosen: Option<&Chosen>) -> Self {
        match chosen {
            Some(chosen) => Self {
                backend: chosen.backend,
                engine: chosen.engine.clone(),
                reason: chosen.reason.clone(),
                devices: chosen.models.iter().map(|model| model.device().to_string()).collect(),
            },
            None => Self {
                backend: "",
                engine: String::new(),
                reason: String::new(),
                devices: vec![Device::Cpu.to_string()],
            },
        }
    }
}

/// Executable copies of a model.
struct Copies {
    /// On each device.
    of_each: usize,
    /// Threads of a run.
    threads: usize,
    /// Whether they run on the processor.
    on_cores: bool,
}

impl Copies {
    fn of(manifest: &Manifest, workers: usize, model: Option<&dyn Model>) -> Self {
        let threads = manifest.instances.threads.unwrap_or(1).min(workers);
        // An accelerator works on one run at a time; the cores work on as many as there are.
        let on_cores = model.is_none_or(|model| *model.device() == Device::Cpu);
        let usual = if on_cores { (workers / threads).max(1) } else { 1 };
        // Processes do not share weights.
        let usual = if model.is_some_and(Model::is_apart) { usual.min(MOST_PROCESSES) } else { usual };
        Self { of_each: manifest.instances.count.unwrap_or(usual), threads, on_cores }
    }
}

/// What the manifest says of runs that requests share, and of requests that are alone; `single` when runs have one
/// thread of the processor.
fn sharing(manifest: &Manifest, single: bool) -> Sharing {
    Sharing {
        enabled: manifest.batching.enabled,
        max_size: manifest.batching.max_size,
        max_delay: manifest.batching.max_delay.unwrap_or_default(),
        preferred: manifest.batching.preferred.clone(),
        latency_target: manifest.batching.latency_target,
        alone: single && manifest.instances.alone.unwrap_or(true),
    }
}

fn load_model(shared: &Shared, folder: &ModelFolder, files: &ModelFiles) -> Result<Chosen, LoadError> {
    let manifest = &folder.manifest;
    // A manifest that says `auto` says nothing: the server's flags are of more weight.
    let said = |word: &Option<String>, or: &String| word.clone().filter(|word| word != "auto").unwrap_or(or.clone());
    let (backend, device) =
        (said(&manifest.backend, &shared.options.backend), said(&manifest.device, &shared.options.device));
    let wanted = Wanted {
        backend: &backend,
        device: &device,
        options: LoadOptions {
            model: folder.name.clone(),
            device: Device::Cpu,
            cache: shared.options.cache.as_ref().map(|cache| cache.join("optimised")),
            unverified: manifest.unverified,
            hazards: false,
            apart: false,
            settings: manifest.onnxruntime.settings().clone(),
            memory: shared.options.pool.clone(),
        },
        memory: shared.options.memory.as_ref(),
        processes: Processes {
            isolation: manifest.instances.isolation,
            survivors: &shared.survivors,
            run_time: manifest.instances.run_timeout.unwrap_or(shared.options.max_run_time),
            memory: shared.options.memory.as_ref().map(|memory| memory.limit),
        },
    };
    let chosen =
        choice::choose(&shared.backends, &wanted, files).map_err(|error| match (manifest.device_by, &error) {
            (Some(by), LoadError::Backend { .. } | LoadError::NoBackend(_)) => {
                LoadError::Asked { by, error: Box::new(error) }
            }
            _ => error,
        })?;
    let settings = &wanted.options.settings;
    if !settings.is_empty() && chosen.backend != settings.backend {
        let (model, backend, meant) = (&folder.name, chosen.backend, settings.backend);
        tracing::warn!(model, backend, meant, "what the manifest asks of another backend has no effect");
    }
    Ok(chosen)
}

/// Where compiled plugins lie in a cache.
#[must_use]
pub fn compiled_plugins(cache: &Path) -> PathBuf {
    cache.join("plugins")
}

fn load_plugin(
    shared: &Arc<Shared>,
    folder: &ModelFolder,
    model: Option<&Signature>,
) -> Result<Option<Arc<dyn Plugin>>, LoadError> {
    let Some(plugin) = &folder.plugin else { return Ok(None) };
    let host = shared.plugins.as_ref().ok_or(LoadError::NoPluginHost)?;
    let call_timeout = folder.manifest.plugin.as_ref().and_then(|section| section.timeout);
    let options = PluginOptions {
        model: folder.name.clone(),
        version: folder.version.clone(),
        config: plugin.config.clone(),
        memory: shared.options.plugin_memory,
        pool: shared.options.pool.clone(),
        call_timeout: call_timeout.unwrap_or(shared.options.plugin_timeout),
        cache: shared.options.cache.as_deref().map(compiled_plugins),
    };
    let models = Arc::new(OtherModels(Arc::downgrade(shared)));
    Ok(Some(Arc::from(host.load(&plugin.file, &options, model, models)?)))
}
