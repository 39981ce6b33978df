//! The seam to inference engines. Backends are synchronous: the engine owns the threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;

use crate::device::Device;
use crate::error::BackendError;
use crate::files;
use crate::memory::MemoryPool;
use crate::request::{CancelFlag, Tensors};
use crate::rows::RowAnalysis;
use crate::settings::EngineSettings;
use crate::signature::Signature;

/// An inference engine.
pub trait Backend: Send + Sync {
    /// The word that manifests, flags and metrics use.
    fn name(&self) -> &'static str;

    /// Compiled in is not the same as usable here.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`]: why not, in words a user can act on.
    fn check(&self) -> Result<Availability, BackendError>;

    /// Signature, opset, size, operators it lacks: without loading. The choice of a backend and its messages rest on it.
    /// Of `options` only the settings count.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`] when the file is not a model. What this backend cannot run is not an error here:
    /// it stands in [`ModelInfo::unsupported`].
    fn inspect(&self, files: &ModelFiles, options: &LoadOptions) -> Result<ModelInfo, BackendError>;

    /// Makes the model ready to be instantiated on the device that `options` names, on no other.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`], [`BackendError::Unsupported`], [`BackendError::Unavailable`] (the device),
    /// [`BackendError::Hazardous`].
    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError>;

    /// What [`Backend::check`] looked at on its way, for a user who wants to know why it came out so: each library that
    /// was looked for (subject: its path), each device or kind of device that the backend could drive (subject: `cuda:0`,
    /// `tensorrt`).
    fn diagnose(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, in a few words.
    pub subject: String,
    /// What was found when it is usable, e.g. a version; else why not.
    pub outcome: Result<String, Problem>,
}

/// Why something is not usable, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is missing or wrong.
    pub reason: String,
    /// What a user can do; none where the reason says it, or where nothing can be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is usable.
    pub fn usable(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), outcome: Ok(text.into()) }
    }

    /// Something that is not.
    pub fn unusable(subject: impl Into<String>, reason: impl Into<String>, remedy: Option<&str>) -> Self {
        let problem = Problem { reason: reason.into(), remedy: remedy.map(str::to_owned) };
        Self { subject: subject.into(), outcome: Err(problem) }
    }
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// What goes in and comes out.
    fn signature(&self) -> &Signature;

    /// What REALLY runs it.
    fn device(&self) -> &Device;

    /// How it wants to be fed.
    fn profile(&self) -> Profile;

    /// The nodes that the backend is not known to compute rightly, in words, of a model that was loaded because
    /// [`LoadOptions::unverified`] allows it; none where all are known.
    fn unverified(&self) -> Option<&str> {
        None
    }

    /// Whether each instance is a process of its own.
    fn is_apart(&self) -> bool {
        false
    }

    /// How many such processes ended since this was last called, other than in a run, which says so itself.
    fn take_lost(&self) -> u64 {
        0
    }

    /// One more executable copy, whose runs use at most `threads` threads, the caller's among them; weights are shared.
    ///
    /// # Errors
    /// [`BackendError::Failed`] when the engine cannot make one.
    fn instance(&self, threads: usize) -> Result<Box<dyn Instance>, BackendError>;
}

/// One executable copy of a model, used by one thread at a time.
pub trait Instance: Send {
    /// Runs the requests of a batch: one entry each, answered in their order. The backend gathers rows straight into
    /// its own buffer. Inputs have passed the signature's check.
    ///
    /// # Errors
    /// [`BackendError::InvalidInput`] when the engine refuses these values, [`BackendError::Cancelled`],
    /// [`BackendError::Failed`], [`BackendError::Crashed`], [`BackendError::Restarting`] and [`BackendError::Changed`] of a process of its own. After an
    /// error the instance is still usable; after a panic it is not.
    fn run(&mut self, batch: &[Tensors], options: &RunOptions) -> Result<Vec<Tensors>, BackendError>;
}

/// A backend that can be used on this machine.
#[derive(Clone, Debug)]
pub struct Availability {
    /// The engine's own version.
    pub version: String,
    /// What it can run on here, best first.
    pub devices: Vec<Device>,
}

/// A file of a model: on disk, or inside the binary.
#[derive(Clone, Debug)]
pub enum FileSource {
    /// On disk.
    Path(PathBuf),
    /// In memory, with the name it would have on disk.
    Embedded {
        /// For messages and caches.
        name: String,
        /// The content.
        bytes: Bytes,
    },
}

impl FileSource {
    /// The last part of the name, which may be shown to callers.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Embedded { name, .. } => name.clone(),
        }
    }

    /// The content: shared when embedded, read whole when on disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> std::io::Result<Bytes> {
        self.read_up_to(u64::MAX)
    }

    /// As [`FileSource::read`], of so many bytes at most.
    ///
    /// # Errors
    /// When the file cannot be read, is larger, or is none: what waits to be written to would be waited for.
    pub fn read_up_to(&self, most: u64) -> std::io::Result<Bytes> {
        let path = match self {
            Self::Path(path) => path,
            Self::Embedded { bytes, .. } => return Ok(bytes.clone()),
        };
        files::read(path, most).map(Bytes::from)
    }

    /// The folder that files beside it lie in; none when embedded.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => path.parent(),
            Self::Embedded { .. } => None,
        }
    }
}

/// What a backend needs of a model folder.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The ONNX file. External data is found beside it by its own `location`.
    pub model: FileSource,
}

/// How to load a model. What may grow later goes here.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What the model is called where it is served, for what is said of it later; empty where it has no such name.
    pub model: String,
    /// Run on this, or fail saying why not.
    pub device: Device,
    /// A folder for what is expensive to compute from the file again, e.g. an optimised graph. None: keep nothing.
    pub cache: Option<PathBuf>,
    /// Whether nodes may run that a backend is not known to compute rightly.
    pub unverified: bool,
    /// Whether nodes may be there that are known to have ended processes, or that may keep one busy while it loads. Otherwise a
    /// model that has one is not loaded:
    /// [`BackendError::Hazardous`].
    pub hazards: bool,
    /// In a process of its own, which alone ends with what ends it.
    pub apart: bool,
    /// What the model asks of its engine. A backend that is not meant takes no notice.
    pub settings: EngineSettings,
    /// What its runs on the processor take their memory from.
    pub memory: MemoryPool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            model: String::new(),
            device: Device::Cpu,
            cache: None,
            unverified: false,
            hazards: true,
            apart: false,
            settings: EngineSettings::default(),
            memory: MemoryPool::default(),
        }
    }
}

/// What the tensors of one run may take together, in bytes, unless the server says otherwise.
pub const RUN_BYTES: u64 = 4 << 30;

/// What is said of a run that takes more than it may: `bytes` at once, `largest` of them for `node`.
#[must_use]
pub fn too_much_memory(bytes: u64, largest: u64, node: &str, limit: u64) -> String {
    format!(
        "a run would take {bytes} bytes at once, {largest} of them for {node}; at most {limit} are allowed by \
         --max-run-memory"
    )
}

/// How to run a batch. What may grow later goes here.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Names of the outputs that anybody wants; empty for all.
    pub outputs: Vec<String>,
    /// Stops a run that nobody waits for, where the engine can.
    pub cancel: CancelFlag,
    /// When the run must have ended: what goes on then is stopped, where the engine can. None: whenever it ends.
    pub ends: Option<Instant>,
}

/// What a file says of itself.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The Open Inference Protocol's platform name, e.g. `onnx_onnxv1`.
    pub platform: &'static str,
    /// Version of the default operator set.
    pub opset: Option<i64>,
    /// Bytes on disk.
    pub size: u64,
    /// As far as it can be told without loading.
    pub signature: Signature,
    /// What its graph does with rows; nothing is known of a model that this backend cannot run.
    pub rows: RowAnalysis,
    /// What this backend lacks; empty when it can run the model.
    pub unsupported: Vec<UnsupportedOperator>,
}

/// A node that a backend cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedOperator {
    /// The operator's name.
    pub operator: String,
    /// Its domain; empty for the standard one.
    pub domain: String,
    /// The node's name; empty where it has none.
    pub node: String,
    /// Why, in words a user can act on.
    pub reason: String,
}

impl fmt::Display for UnsupportedOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.domain.is_empty() {
            write!(f, "{}.", self.domain)?;
        }
        f.write_str(&self.operator)?;
        if !self.node.is_empty() {
            write!(f, " (node '{}')", self.node)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// How a loaded model wants to be fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether requests may be joined and their rows run apart, and along which axes.
    pub rows: RowAnalysis,
    /// Whether several rows in one run are faster than one after the other. Otherwise rows run in parallel on instances.
    pub batches_pay: bool,
    /// Rows per run worth using, ascending; empty when any.
    pub batch_sizes: Vec<usize>,
    /// Threads that one run can make use of at most: 1 for a backend that does not split its work.
    pub max_threads: usize,
    /// Inputs whose elements are places in a table, with the length of the table: what to make samples of.
    pub tables: Vec<(String, usize)>,
    /// Whether a run with inputs of no larger shapes costs no more, whatever their values.
    pub shapes_bound_cost: bool,
}

impl Profile {
    /// Of a model that is run as it is asked, each request by itself.
    #[must_use]
    pub fn whole() -> Self {
        Self {
            rows: RowAnalysis::default(),
            batches_pay: false,
            batch_sizes: Vec::new(),
            max_threads: 1,
            tables: Vec::new(),
            shapes_bound_cost: false,
        }
    }
}
