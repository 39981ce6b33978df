//! The ONNX Runtime backend: the fastest engine on the processor, and the way to accelerators.
//!
//! Its library is not part of the binary: it is found when the process starts (`search.rs`), and a process without it
//! serves on. What it does not check itself, or dies of, is looked for in the file before it sees it (`divide.rs`); what it
//! takes while it runs comes from an allocator of ours, which bounds each run (`memory.rs`).

mod custom;
mod devices;
mod divide;
mod elements;
mod fault;
mod instance;
mod library;
mod memory;
mod model;
mod operators;
mod providers;
mod python;
mod ranks;
mod search;
mod searched;
mod session;
mod support;
mod types;
mod unwritten;
mod values;
mod watch;
mod weights;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use corymb_core::{
    Availability, Backend, BackendError, Danger, Device, Dim, Finding, Hazard, LoadOptions, Model, ModelFiles,
    ModelInfo, RowAnalysis, Signature, UnsupportedOperator,
};
use corymb_onnx::proto::{decode, encode};
use corymb_onnx::{
    Declared, OnnxFile, analyse_rows, check_external, costly_load, declared, shapes_bound_cost, tables,
    uncounted_memory,
};
use sha2::{Digest as _, Sha256};

use crate::library::Library;
use crate::model::{Graph, OrtModel};
pub use crate::search::{OperatorLibrary, Place, Search};
use crate::session::{Asked, Recipe};
use crate::watch::Watch;
use crate::weights::Weights;

const NAME: &str = "onnxruntime";

/// The inference engine ONNX Runtime, by a library that is looked for on this machine.
#[derive(Debug)]
pub struct OnnxRuntime {
    search: Search,
    run_bytes: u64,
    found: OnceLock<(Vec<Place>, Result<Library, String>)>,
    probed: OnceLock<Vec<(Device, Result<(), String>)>>,
    watch: Mutex<Option<Arc<Watch>>>,
}

impl OnnxRuntime {
    /// Looks for the library when it is first needed, not here. One run on the processor may take `run_bytes`: a request
    /// that asks for more fails.
    #[must_use]
    pub fn new(search: Search, run_bytes: u64) -> Self {
        Self { search, run_bytes, found: OnceLock::new(), probed: OnceLock::new(), watch: Mutex::new(None) }
    }

    /// Where the library was looked for, in that order, and what was found.
    pub fn searched(&self) -> &[Place] {
        &self.found().0
    }

    /// That the library works which the user named, if he named one: nothing else may take its place.
    ///
    /// # Errors
    /// Where it was named, the path, and what is wrong with it.
    pub fn check_named(&self) -> Result<(), String> {
        let Search { disabled, explicit, dylib_path, .. } = &self.search;
        if *disabled || (explicit.is_none() && dylib_path.is_none()) {
            return Ok(());
        }
        self.found().1.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Each kind of device, best first, with its first index: usable, or why not. Empty without a library.
    pub fn devices(&self) -> &[(Device, Result<(), String>)] {
        match &self.found().1 {
            Ok(library) => self.probed.get_or_init(|| devices::probe(library)),
            Err(_) => &[],
        }
    }

    fn found(&self) -> &(Vec<Place>, Result<Library, String>) {
        self.found.get_or_init(|| library::find(&self.search))
    }

    fn library(&self) -> Result<&Library, BackendError> {
        self.found().1.as_ref().map_err(|reason| BackendError::Unavailable { backend: NAME, reason: reason.clone() })
    }

    fn watch(&self) -> Result<Arc<Watch>, BackendError> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = &*watch {
            return Ok(Arc::clone(watch));
        }
        let started = Watch::start().map_err(|error| BackendError::Failed(format!("start a thread: {error}")))?;
        Ok(Arc::clone(watch.insert(Arc::new(started))))
    }
}

impl Backend for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self) -> Result<Availability, BackendError> {
        let version = self.library()?.version.clone();
        let usable = |(device, outcome): &(Device, Result<(), String>)| outcome.is_ok().then_some(*device);
        let devices: Vec<Device> = self.devices().iter().filter_map(usable).collect();
        match self.devices().last() {
            // A library that cannot add two numbers on the processor is of no use.
            Some((Device::Cpu, Err(reason))) => {
                Err(BackendError::Unavailable { backend: NAME, reason: reason.clone() })
            }
            _ => Ok(Availability { version, devices }),
        }
    }

    fn inspect(&self, files: &ModelFiles, options: &LoadOptions) -> Result<ModelInfo, BackendError> {
        let library = self.library()?;
        guarded(files, || {
            let file = OnnxFile::read(files)?;
            let external = check_external(&file.model, files.model.folder())?;
            let opset = file.opset();
            let weights = weights(files, &external)?;
            let size = file.bytes.len() as u64 + external.iter().map(|(_, size)| size).sum::<u64>();
            let seen = match self.operators(options) {
                Ok(operators) => examine(library, files, file, &weights, &operators),
                Err(reason) => Err(Refused::of_libraries(&file, &reason)),
            };
            let (signature, rows, unsupported) = match seen {
                Ok(Examined { signature, graph, .. }) => (signature, graph.rows, Vec::new()),
                Err(Refused { signature, reasons }) => (signature, RowAnalysis::default(), reasons),
            };
            Ok(ModelInfo { platform: "onnx_onnxv1", opset, size, signature, rows, unsupported })
        })
    }

    fn diagnose(&self) -> Vec<Finding> {
        let libraries = self.searched().iter().map(|place| {
            let (subject, verdict) = (place.path.display().to_string(), format!("{}: {}", place.origin, place.verdict));
            if place.is_used() { Finding::usable(subject, verdict) } else { Finding::unusable(subject, verdict, None) }
        });
        let devices = self.devices().iter().map(|(device, outcome)| match outcome {
            Ok(()) => Finding::usable(device.to_string(), "works"),
            Err(reason) => Finding::unusable(device.kind(), reason, Some(devices::how_to_get(*device))),
        });
        libraries.chain(devices).collect()
    }

    /// The cache folder of `options` stays unused: see ARCHITECTURE.md.
    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        let library = self.library()?;
        if options.device != Device::Cpu {
            self.device(library, options.device)?;
        }
        guarded(files, || {
            let name = files.model.name();
            let file = OnnxFile::read(files)?;
            let weights = weights(files, &check_external(&file.model, files.model.folder())?)?;
            let libraries = self
                .operators(options)
                .map_err(|reason| BackendError::Unsupported(format!("onnxruntime cannot run '{name}': {reason}")))?;
            let examined =
                examine(library, files, file, &weights, &libraries).map_err(|Refused { reasons, .. }| {
                    let reasons: Vec<String> = reasons.iter().map(UnsupportedOperator::to_string).collect();
                    BackendError::Unsupported(format!("onnxruntime cannot run '{name}': {}", reasons.join("; ")))
                })?;
            let Examined { signature, graph, content, changed, hazard } = examined;
            if let Some(hazard) = hazard.filter(|_| !options.hazards) {
                return Err(BackendError::Hazardous(hazard));
            }
            let recipe = Recipe {
                library: library.clone(),
                device: options.device,
                weights,
                source: session::kept(files, &content, changed),
                few_shapes: has_few_shapes(&signature),
                asked: Asked { settings: options.settings.clone(), libraries },
            };
            let session = recipe.session_of(&content, 1).map_err(|error| fault::of_load(&name, &error))?;
            drop(content);
            let model = OrtModel::new(
                recipe,
                signature,
                graph,
                session.inner(),
                self.watch()?,
                (self.run_bytes, options.memory.clone()),
            )?;
            Ok(Box::new(model) as Box<dyn Model>)
        })
    }
}

impl OnnxRuntime {
    /// The files of the custom operators that a model names, ready to be registered.
    fn operators(&self, options: &LoadOptions) -> Result<Vec<PathBuf>, String> {
        custom::libraries(&options.settings.custom_operators, &self.search.custom_operators)
    }

    /// That a device works, proved now or before.
    fn device(&self, library: &Library, device: Device) -> Result<(), BackendError> {
        let known = self.probed.get().and_then(|probed| probed.iter().find(|(tried, _)| *tried == device));
        let outcome = match known {
            Some((_, outcome)) => outcome.clone(),
            None => devices::works(library, device),
        };
        let remedy = devices::how_to_get(device);
        let reason = |reason: String| format!("{device} cannot be used: {reason}; {remedy}");
        outcome.map_err(|text| BackendError::Unavailable { backend: NAME, reason: reason(text) })
    }
}

/// A model that may be loaded.
struct Examined {
    signature: Signature,
    graph: Graph,
    content: Bytes,
    /// Whether `content` is another than the file's.
    changed: bool,
    hazard: Option<Hazard>,
}

/// A model that may not, with what it declares.
struct Refused {
    signature: Signature,
    reasons: Vec<UnsupportedOperator>,
}

impl Refused {
    /// The libraries of custom operators cannot be had.
    fn of_libraries(file: &OnnxFile, reason: &str) -> Self {
        let reasons = vec![corymb_onnx::report("Model", "", reason)];
        Self { signature: declared(&file.model).signature, reasons }
    }
}

/// Everything that is decided about a file before it is loaded.
fn examine(
    library: &Library,
    files: &ModelFiles,
    file: OnnxFile,
    weights: &Weights,
    operators: &[PathBuf],
) -> Result<Examined, Refused> {
    let Declared { mut signature, unsupported: mut reasons, open } = declared(&file.model);
    reasons.extend(support::unsupported(library, &file, weights, operators));
    if reasons.is_empty() && !open.is_empty() {
        let closed = match session::look(library, &file.bytes, weights, operators) {
            Ok(session) => support::close_outputs(signature.clone(), &open, &session, file.graph()),
            Err(error) => Err(corymb_onnx::report("Model", "", &fault::reason(error.message()))),
        };
        match closed {
            Ok(closed) => signature = closed,
            Err(reason) => reasons.push(reason),
        }
    }
    if !reasons.is_empty() {
        return Err(Refused { signature, reasons });
    }
    // Before the graph is changed: what is guarded has nodes of our own.
    let mut graph = Graph {
        rows: analyse_rows(&file.model, &signature),
        tables: tables(&file.model, &signature),
        shapes_bound_cost: shapes_bound_cost(&file.model),
        deadly: None,
        unwritten: true,
    };
    match made_safe(library, files, file, weights, operators) {
        Ok(Safe { content, changed, deadly, unwritten, hazard }) => {
            graph.deadly = deadly;
            graph.unwritten = unwritten;
            Ok(Examined { signature, graph, content, changed, hazard })
        }
        Err(reasons) => Err(Refused { signature, reasons }),
    }
}

/// A model with guards before what would end the process.
struct Safe {
    content: Bytes,
    /// Whether there are any.
    changed: bool,
    deadly: Option<String>,
    unwritten: bool,
    hazard: Option<Hazard>,
}

fn made_safe(
    library: &Library,
    files: &ModelFiles,
    mut file: OnnxFile,
    weights: &Weights,
    operators: &[PathBuf],
) -> Result<Safe, Vec<UnsupportedOperator>> {
    // Of the file as it is: functions that are put in the place of calls are followed here, too.
    let costly = costly_load(&file.model);
    let uncounted = uncounted_memory(&file.model);
    let digest = |file: &OnnxFile| {
        let hash = Sha256::new().chain_update(&file.bytes).chain_update(&library.version).finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let resolved = |content: &[u8]| session::resolved(library, content, weights, operators).and_then(decode).ok();
    let mut changed = false;
    if divide::divides(&file.model) {
        let mut outcome = divide::guard(&mut file.model);
        if !outcome.left.is_empty()
            && let Some(mut resolved) = resolved(&file.bytes)
        {
            outcome = divide::guard(&mut resolved);
            file.model = resolved;
        }
        if !outcome.left.is_empty() {
            return Err(outcome.left);
        }
        if outcome.guarded > 0 {
            tracing::debug!(model = files.model.name(), guarded = outcome.guarded, "integer divisions are guarded");
            changed = true;
        }
    }
    if elements::in_functions(&file.model).is_some() {
        let content = if changed { Bytes::from(encode(&file.model)) } else { file.bytes.clone() };
        file.model = resolved(&content).unwrap_or(file.model);
    }
    let elements::Outcome { guarded, deadly, tried, left } = elements::guard(&mut file.model);
    if guarded > 0 {
        tracing::debug!(model = files.model.name(), guarded, "operands that need elements are guarded");
        changed = true;
    }
    let ends = left.as_ref().map(|node| (node.clone(), Danger::Unguarded));
    let ends = ends.or_else(|| uncounted.map(|node| (node, Danger::Uncounted)));
    let costs = || costly.map(|node| (node, Danger::Loading));
    let tried = || deadly.as_ref().or(tried.as_ref()).map(|node| (node.clone(), Danger::Guarded));
    let hazard = ends.or_else(costs).or_else(tried);
    let hazard = hazard.map(|(node, danger)| Hazard { node, danger, digest: digest(&file) });
    let content = if changed { Bytes::from(encode(&file.model)) } else { file.bytes };
    let unwritten = unwritten::may_be(&file.model);
    Ok(Safe { content, changed, deadly, unwritten, hazard })
}

/// The weights in these files.
fn weights(files: &ModelFiles, external: &[(String, u64)]) -> Result<Weights, BackendError> {
    let names: Vec<String> = external.iter().map(|(name, _)| name.clone()).collect();
    let weights = Weights::of(files.model.folder(), &names);
    weights.map_err(|error| BackendError::InvalidModel(format!("the weights of '{}': {error}", files.model.name())))
}

/// Whether all shapes follow from the number of rows.
fn has_few_shapes(signature: &Signature) -> bool {
    let is_open = |dim: &Dim| dim.fixed().is_none();
    signature.inputs.iter().all(|spec| !spec.shape.iter().skip(1).any(is_open))
}

/// The bindings panic in some places where they could answer. At load that is an answer: no, with a reason.
fn guarded<T>(files: &ModelFiles, work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<String>().map(String::as_str);
        let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        let name = files.model.name();
        Err(BackendError::Unsupported(format!("onnxruntime cannot run '{name}': it panicked: {reason}")))
    })
}
