//! From a model's folder to a version that can answer.

use std::sync::Arc;

use corymb_core::{Backend, Device, LoadOptions, Model, ModelFiles, Plugin, PluginOptions, Signature};
use corymb_repository::ModelFolder;
use tokio::sync::oneshot;

use crate::batch::Queue;
use crate::error::LoadError;
use crate::models::OtherModels;
use crate::shared::Shared;
use crate::signals::VersionSignals;
use crate::version::Version;
use crate::waiting::{QueueLimits, Waiting};

/// A version, its instances counted, and the receiver that learns when its last request has ended.
pub(crate) struct Loaded {
    pub(crate) version: Version,
    pub(crate) instances: usize,
    pub(crate) gone: oneshot::Receiver<()>,
}

/// Reads, optimises, compiles and configures. Takes long and uses a core: not for a thread that serves.
pub(crate) fn load(shared: &Arc<Shared>, folder: &ModelFolder) -> Result<Loaded, LoadError> {
    let manifest = &folder.manifest;
    let model = match &folder.model {
        Some(files) => Some(load_model(shared, folder, files)?),
        None => None,
    };
    let plugin = load_plugin(shared, folder, model.as_ref().map(|(_, model)| model.signature()))?;
    let (backend, device) = match &model {
        Some((backend, model)) => (*backend, model.device().to_string()),
        None => ("", Device::Cpu.to_string()),
    };
    let signature = match (&plugin, &model) {
        (Some(plugin), _) => plugin.served().clone(),
        (None, Some((_, model))) => model.signature().clone(),
        (None, None) => Signature::default(),
    };
    let signals = VersionSignals::new(shared.signals.clone(), &folder.name, &folder.version, backend, &device);
    let signals = Arc::new(signals);
    let limits = QueueLimits {
        max: manifest.queue.max.unwrap_or(shared.options.max_queue),
        timeout: manifest.queue.timeout.unwrap_or(shared.options.queue_timeout),
    };
    let (queue, instances) = match model {
        Some((backend, model)) => {
            let count = manifest.instances.count.unwrap_or_else(|| shared.pool.workers());
            let instances = (0..count).map(|_| model.instance(1)).collect::<Result<Vec<_>, _>>();
            let instances = instances.map_err(|error| LoadError::Backend { backend, error })?;
            let queue = Queue::new(&folder.name, model, instances, limits, shared.pool.clone(), Arc::clone(&signals));
            (Some(queue), count)
        }
        None => (None, shared.pool.workers()),
    };
    let (alive, gone) = oneshot::channel();
    let version = Version {
        model: folder.name.clone(),
        version: folder.version.clone(),
        signature,
        platform: if queue.is_some() { "onnx_onnxv1" } else { "wasm_component" },
        backend,
        device,
        headers: folder.plugin.as_ref().map(|plugin| plugin.headers.clone()).unwrap_or_default(),
        plugin,
        waiting: Waiting::new(&folder.name, limits),
        queue,
        signals,
        _alive: alive,
    };
    Ok(Loaded { version, instances, gone })
}

fn load_model(
    shared: &Shared,
    folder: &ModelFolder,
    files: &ModelFiles,
) -> Result<(&'static str, Box<dyn Model>), LoadError> {
    let manifest = &folder.manifest;
    let backend_name = manifest.backend.as_deref().unwrap_or(&shared.options.backend);
    let device_name = manifest.device.as_deref().unwrap_or(&shared.options.device);
    let options = LoadOptions {
        device: device(device_name)?,
        cache: shared.options.cache.as_ref().map(|cache| cache.join("optimised")),
    };
    let backend = choose(&shared.backends, backend_name, files)?;
    let model = backend.load(files, &options).map_err(|error| LoadError::Backend { backend: backend.name(), error })?;
    Ok((backend.name(), model))
}

fn device(name: &str) -> Result<Device, LoadError> {
    let unknown = || LoadError::UnknownDevice(name.to_owned());
    match name.split_once(':') {
        None if name == "auto" || name == "cpu" => Ok(Device::Cpu),
        None if name == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", index)) => index.parse().map(Device::Cuda).map_err(|_| unknown()),
        _ => Err(unknown()),
    }
}

/// The backend of that name; for `auto` the first that is usable here and lacks nothing that the model needs.
fn choose<'a>(
    backends: &'a [Arc<dyn Backend>],
    name: &str,
    files: &ModelFiles,
) -> Result<&'a Arc<dyn Backend>, LoadError> {
    if name != "auto" {
        let found = backends.iter().find(|backend| backend.name() == name);
        let known = || backends.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ");
        let backend = found.ok_or_else(|| LoadError::UnknownBackend { name: name.to_owned(), known: known() })?;
        backend.check().map_err(|error| LoadError::Backend { backend: backend.name(), error })?;
        return Ok(backend);
    }
    let mut usable = Vec::new();
    let mut reasons = Vec::new();
    for backend in backends {
        match backend.check() {
            Ok(_) => usable.push(backend),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if let [only] = usable[..] {
        // Its own loading says what it lacks; looking first would only cost time.
        return Ok(only);
    }
    for backend in usable {
        let info = backend.inspect(files).map_err(|error| LoadError::Backend { backend: backend.name(), error })?;
        match info.unsupported.first() {
            None => return Ok(backend),
            Some(lack) => reasons.push(format!("{} lacks {lack}", backend.name())),
        }
    }
    Err(LoadError::NoBackend(reasons.join("; ")))
}

fn load_plugin(
    shared: &Arc<Shared>,
    folder: &ModelFolder,
    model: Option<&Signature>,
) -> Result<Option<Arc<dyn Plugin>>, LoadError> {
    let Some(plugin) = &folder.plugin else { return Ok(None) };
    let host = shared.plugins.as_ref().ok_or(LoadError::NoPluginHost)?;
    let options = PluginOptions {
        model: folder.name.clone(),
        version: folder.version.clone(),
        config: plugin.config.clone(),
        memory: shared.options.plugin_memory,
        call_timeout: shared.options.plugin_timeout,
        cache: shared.options.cache.as_ref().map(|cache| cache.join("plugins")),
    };
    let models = Arc::new(OtherModels(Arc::downgrade(shared)));
    Ok(Some(Arc::from(host.load(&plugin.file, &options, model, models)?)))
}
