//! Sessions: made from one model again and again, each with its own number of threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use corymb_core::{BackendError, Device, EngineSettings, FileSource, ModelFiles, Optimization};
use ort::ep::ExecutionProviderDispatch;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::fault;
use crate::library::Library;
use crate::providers::providers;
use crate::weights::Weights;

/// All that a session is made of, but its number of threads.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) library: Library,
    pub(crate) device: Device,
    /// In files of their own.
    pub(crate) weights: Weights,
    pub(crate) source: Source,
    /// Whether the sizes of all tensors follow from the number of rows, so that a plan of memory per number is worth
    /// keeping. Such plans are kept for good, one for each combination of shapes.
    pub(crate) few_shapes: bool,
    /// What the model asks for, and the files of its custom operators.
    pub(crate) asked: Asked,
}

/// What a model asks of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) settings: EngineSettings,
    /// In the order in which they are registered.
    pub(crate) libraries: Vec<PathBuf>,
}

fn level(optimization: Option<Optimization>) -> GraphOptimizationLevel {
    match optimization {
        Some(Optimization::Off) => GraphOptimizationLevel::Disable,
        Some(Optimization::Basic) => GraphOptimizationLevel::Level1,
        Some(Optimization::Extended) => GraphOptimizationLevel::Level2,
        Some(Optimization::Layout) => GraphOptimizationLevel::Level3,
        Some(Optimization::All) | None => GraphOptimizationLevel::All,
    }
}

/// The content of a model, for sessions that are made later.
#[derive(Debug)]
pub(crate) enum Source {
    /// In memory: a model that came so, or that was changed.
    Memory(Bytes),
    /// On disk, with the content's length and hash at the time of loading.
    File { files: ModelFiles, stamp: u64 },
}

impl Source {
    fn content(&self) -> Result<Bytes, BackendError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { files, stamp } => {
                let name = files.model.name();
                let bytes = files.model.read().map_err(|error| {
                    BackendError::Failed(format!("read '{name}' again for another instance: {error}"))
                })?;
                if stamp_of(&bytes) == *stamp {
                    Ok(bytes)
                } else {
                    Err(BackendError::Failed(format!("'{name}' has changed since it was loaded; load it again")))
                }
            }
        }
    }
}

/// A hash that tells whether content has changed by accident; it is never kept.
pub(crate) fn stamp_of(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Where a model's content is kept after loading: on disk when it is there unchanged, since it may be large.
pub(crate) fn kept(files: &ModelFiles, content: &Bytes, changed: bool) -> Source {
    match &files.model {
        FileSource::Path(path) if !changed => {
            // A relative path would mean another file after a change of the working folder.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Source::File { files: ModelFiles { model: FileSource::Path(path) }, stamp: stamp_of(content) }
        }
        _ => Source::Memory(content.clone()),
    }
}

impl Recipe {
    /// One more session, whose runs use at most `threads` threads, the caller's among them.
    pub(crate) fn session(&self, threads: usize) -> Result<Session, BackendError> {
        let content = self.source.content()?;
        self.session_of(&content, threads)
            .map_err(|error| BackendError::Failed(format!("make an instance: {}", fault::reason(error.message()))))
    }

    /// As [`Recipe::session`], of content that is at hand.
    pub(crate) fn session_of(&self, content: &[u8], threads: usize) -> ort::Result<Session> {
        let providers = providers(self.device, &self.asked.settings.devices)?;
        self.build(content, threads, &providers, level(self.asked.settings.optimization))
    }

    fn build(
        &self,
        content: &[u8],
        threads: usize,
        providers: &[ExecutionProviderDispatch],
        level: GraphOptimizationLevel,
    ) -> ort::Result<Session> {
        // Accelerators manage what they need of the processor's memory along with their own.
        let own_memory = if self.device == Device::Cpu { "1" } else { "0" };
        let mut builder = Session::builder(&self.library.environment)?
            .with_execution_providers(providers)?
            .with_intra_threads(threads.max(1))?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            // Threads of a pool that spin take cores from other models.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(self.few_shapes)?
            // Where quantised weights are fused into a product, the library rounds the other side to 8 bits too unless
            // it is told to compute in FP32, which is what the model says.
            .with_config_entry("session.qdq_matmulnbits_accuracy_level", "1")?
            .with_config_entry("session.use_env_allocators", own_memory)?
            .with_optimization_level(level)?;
        // After those above, which a model may so replace.
        for (key, value) in &self.asked.settings.session {
            builder = builder.with_config_entry(key, value)?;
        }
        committed(self.weights.give(builder)?, &self.asked.libraries, content)
    }
}

/// The model as the library understands it before it optimises: functions in line, the type of every value told.
pub(crate) fn resolved(
    library: &Library,
    content: &[u8],
    weights: &Weights,
    operators: &[PathBuf],
) -> Result<Bytes, String> {
    let scratch = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let path = scratch.path().join("model.onnx");
    write_resolved(library, content, weights, operators, &path).map_err(|error| fault::reason(error.message()))?;
    std::fs::read(&path).map(Bytes::from).map_err(|error| format!("what onnxruntime wrote: {error}"))
}

fn write_resolved(
    library: &Library,
    content: &[u8],
    weights: &Weights,
    operators: &[PathBuf],
    path: &Path,
) -> ort::Result<()> {
    let builder = Session::builder(&library.environment)?
        .with_optimization_level(GraphOptimizationLevel::Disable)?
        .with_optimized_model_path(path)?;
    committed(weights.give(builder)?, operators, content).map(drop)
}

/// The session, with libraries of custom operators. One at a time where there are such: ONNX Runtime looks whether their
/// domains are in a table of the process before it adds them, and fails where another session did so in between.
fn committed(mut builder: SessionBuilder, libraries: &[PathBuf], content: &[u8]) -> ort::Result<Session> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = (!libraries.is_empty()).then(|| MAKING.lock().unwrap_or_else(PoisonError::into_inner));
    for library in libraries {
        builder = builder.with_operator_library(library)?;
    }
    builder.commit_from_memory(content)
}

/// A session that is only looked at: nothing is optimised, and of what the model asks for only the operators count.
pub(crate) fn look(
    library: &Library,
    content: &[u8],
    weights: &Weights,
    operators: &[PathBuf],
) -> ort::Result<Session> {
    let source = Source::Memory(Bytes::new());
    let asked = Asked { libraries: operators.to_vec(), ..Asked::default() };
    let weights = weights.clone();
    let recipe = Recipe { library: library.clone(), device: Device::Cpu, weights, source, few_shapes: false, asked };
    let providers = providers(Device::Cpu, &recipe.asked.settings.devices)?;
    recipe.build(content, 1, &providers, GraphOptimizationLevel::Disable)
}
