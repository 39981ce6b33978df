//! What the two sides tell each other of models, options and failures: the records that stand for core's types on the wire.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corymb_core::{
    BackendError, BatchAxes, Culprit, DType, Dim, EngineSettings, Independence, Optimization, Profile, RowAnalysis,
    Shortage, Signature, TensorSpec,
};
use serde::{Deserialize, Serialize};

/// What a model asks of its engine.
#[derive(Serialize, Deserialize)]
pub(crate) struct Settings {
    backend: String,
    optimization: Option<String>,
    session: BTreeMap<String, String>,
    devices: BTreeMap<String, BTreeMap<String, String>>,
    custom_operators: Vec<String>,
}

const OPTIMIZATIONS: [(Optimization, &str); 5] = [
    (Optimization::Off, "off"),
    (Optimization::Basic, "basic"),
    (Optimization::Extended, "extended"),
    (Optimization::Layout, "layout"),
    (Optimization::All, "all"),
];

impl From<&EngineSettings> for Settings {
    fn from(settings: &EngineSettings) -> Self {
        let word = |level: Optimization| OPTIMIZATIONS.iter().find(|(known, _)| *known == level);
        Self {
            backend: settings.backend.to_owned(),
            optimization: settings.optimization.and_then(word).map(|(_, word)| (*word).to_owned()),
            session: settings.session.clone(),
            devices: settings.devices.iter().map(|(kind, options)| ((*kind).to_owned(), options.clone())).collect(),
            custom_operators: settings.custom_operators.clone(),
        }
    }
}

impl From<Settings> for EngineSettings {
    fn from(settings: Settings) -> Self {
        // A child loads one model and ends: these names are not freed.
        let word = |text: String| -> &'static str { text.leak() };
        let level = |word: String| OPTIMIZATIONS.iter().find(|(_, known)| *known == word);
        Self {
            backend: word(settings.backend),
            optimization: settings.optimization.and_then(level).map(|(level, _)| *level),
            session: settings.session,
            devices: settings.devices.into_iter().map(|(kind, options)| (word(kind), options)).collect(),
            custom_operators: settings.custom_operators,
        }
    }
}

/// Which model, by whom, on what.
#[derive(Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) backend: String,
    pub(crate) source: Source,
    pub(crate) device: String,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) unverified: bool,
    pub(crate) settings: Settings,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Source {
    Path(PathBuf),
    /// At the start of the memory that both sides have open.
    Embedded {
        name: String,
        len: usize,
    },
}

/// A loaded model.
#[derive(Serialize, Deserialize)]
pub(crate) struct Described {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    device: String,
    unverified: Option<String>,
    rows: Rows,
    batches_pay: bool,
    batch_sizes: Vec<usize>,
    tables: Vec<(String, usize)>,
}

#[derive(Serialize, Deserialize)]
struct Spec {
    name: String,
    dtype: String,
    shape: Vec<Size>,
    optional: bool,
    media_type: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Size {
    Fixed(usize),
    Symbol(String),
    Unknown,
}

type Axes = Vec<(String, Option<usize>)>;

#[derive(Serialize, Deserialize)]
struct Rows {
    independence: Known,
    axes: Option<(Axes, Axes)>,
}

#[derive(Serialize, Deserialize)]
enum Known {
    Proved,
    Mixes(Node),
    Unknown(Node),
}

#[derive(Serialize, Deserialize)]
struct Node {
    operator: String,
    node: String,
    reason: String,
}

impl Described {
    pub(crate) fn new(signature: &Signature, device: String, unverified: Option<&str>, profile: Profile) -> Self {
        let node = |Culprit { operator, node, reason }| Node { operator, node, reason };
        let RowAnalysis { independence, axes } = profile.rows;
        let independence = match independence {
            Independence::Proved => Known::Proved,
            Independence::Mixes(culprit) => Known::Mixes(node(culprit)),
            Independence::Unknown(culprit) => Known::Unknown(node(culprit)),
        };
        Self {
            inputs: signature.inputs.iter().map(Spec::from).collect(),
            outputs: signature.outputs.iter().map(Spec::from).collect(),
            device,
            unverified: unverified.map(str::to_owned),
            rows: Rows { independence, axes: axes.map(|axes| (axes.inputs, axes.outputs)) },
            batches_pay: profile.batches_pay,
            batch_sizes: profile.batch_sizes,
            tables: profile.tables,
        }
    }

    /// The signature, the device's name, the unverified nodes and the profile of a model whose instances are processes. None
    /// where a word is not known.
    pub(crate) fn into_parts(self) -> Option<(Signature, String, Option<String>, Profile)> {
        let specs = |specs: Vec<Spec>| specs.into_iter().map(Spec::into_spec).collect::<Option<Vec<_>>>();
        let culprit = |Node { operator, node, reason }| Culprit { operator, node, reason };
        let independence = match self.rows.independence {
            Known::Proved => Independence::Proved,
            Known::Mixes(node) => Independence::Mixes(culprit(node)),
            Known::Unknown(node) => Independence::Unknown(culprit(node)),
        };
        let profile = Profile {
            rows: RowAnalysis {
                independence,
                axes: self.rows.axes.map(|(inputs, outputs)| BatchAxes { inputs, outputs }),
            },
            batches_pay: self.batches_pay,
            batch_sizes: self.batch_sizes,
            // One more process with more threads is not worth what it takes.
            max_threads: 1,
            tables: self.tables,
            // Nobody who may not wait calls a process.
            shapes_bound_cost: false,
        };
        let signature = Signature { inputs: specs(self.inputs)?, outputs: specs(self.outputs)? };
        Some((signature, self.device, self.unverified, profile))
    }
}

impl From<&TensorSpec> for Spec {
    fn from(spec: &TensorSpec) -> Self {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Size::Fixed(*size),
            Dim::Symbol(name) => Size::Symbol(name.as_ref().to_owned()),
            Dim::Unknown => Size::Unknown,
        };
        Self {
            name: spec.name.clone(),
            dtype: spec.dtype.name().to_owned(),
            shape: spec.shape.iter().map(size).collect(),
            optional: spec.optional,
            media_type: spec.media_type.clone(),
        }
    }
}

impl Spec {
    fn into_spec(self) -> Option<TensorSpec> {
        let dim = |size: Size| match size {
            Size::Fixed(size) => Dim::Fixed(size),
            Size::Symbol(name) => Dim::Symbol(name.into()),
            Size::Unknown => Dim::Unknown,
        };
        let shape = self.shape.into_iter().map(dim).collect();
        let spec = TensorSpec::new(self.name, DType::from_name(&self.dtype)?, shape);
        Some(TensorSpec { optional: self.optional, media_type: self.media_type, ..spec })
    }
}

/// Why memory is not to be had.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// Whether there is never so much.
    never: bool,
    bytes: u64,
    limit: u64,
}

impl From<Shortage> for Missing {
    fn from(shortage: Shortage) -> Self {
        match shortage {
            Shortage::Never { bytes, limit } => Self { never: true, bytes, limit },
            Shortage::Now { bytes, limit } => Self { never: false, bytes, limit },
        }
    }
}

impl From<Missing> for Shortage {
    fn from(Missing { never, bytes, limit }: Missing) -> Self {
        if never { Self::Never { bytes, limit } } else { Self::Now { bytes, limit } }
    }
}

/// Why a backend could not do what it was asked.
#[derive(Serialize, Deserialize)]
pub(crate) enum Failure {
    Unavailable(String),
    InvalidModel(String),
    Unsupported(String),
    InvalidInput(String),
    InvalidValues(String),
    Memory(Missing),
    Cancelled,
    TimedOut,
    Failed(String),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Unavailable { reason, .. } => Self::Unavailable(reason),
            BackendError::InvalidModel(text) => Self::InvalidModel(text),
            BackendError::Unsupported(text) => Self::Unsupported(text),
            BackendError::InvalidInput(text) => Self::InvalidInput(text),
            BackendError::InvalidValues(text) => Self::InvalidValues(text),
            BackendError::Memory(shortage) => Self::Memory(shortage.into()),
            BackendError::Cancelled => Self::Cancelled,
            BackendError::TimedOut => Self::TimedOut,
            // The first four are not a child's: it has no children of its own, and takes every hazard.
            error @ (BackendError::Hazardous(_)
            | BackendError::Crashed { .. }
            | BackendError::Restarting(_)
            | BackendError::Changed
            | BackendError::Failed(_)) => Self::Failed(error.to_string()),
        }
    }
}

impl Failure {
    /// The error of that backend.
    pub(crate) fn into_error(self, backend: &'static str) -> BackendError {
        match self {
            Self::Unavailable(reason) => BackendError::Unavailable { backend, reason },
            Self::InvalidModel(text) => BackendError::InvalidModel(text),
            Self::Unsupported(text) => BackendError::Unsupported(text),
            Self::InvalidInput(text) => BackendError::InvalidInput(text),
            Self::InvalidValues(text) => BackendError::InvalidValues(text),
            Self::Memory(missing) => BackendError::Memory(missing.into()),
            Self::Cancelled => BackendError::Cancelled,
            Self::TimedOut => BackendError::TimedOut,
            Self::Failed(text) => BackendError::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_described_without_loss() {
        let input = TensorSpec {
            optional: true,
            media_type: Some("image/*".to_owned()),
            ..TensorSpec::new("x", DType::Fp16, vec![Dim::Fixed(3), Dim::Symbol("N".into()), Dim::Unknown])
        };
        let signature =
            Signature { inputs: vec![input], outputs: vec![TensorSpec::new("y", DType::Bytes, Vec::new())] };
        let culprit =
            Culprit { operator: "Softmax".to_owned(), node: "s".to_owned(), reason: "over the rows".to_owned() };
        let axes = BatchAxes { inputs: vec![("x".to_owned(), Some(1))], outputs: vec![("y".to_owned(), None)] };
        let profile = Profile {
            rows: RowAnalysis { independence: Independence::Mixes(culprit), axes: Some(axes) },
            batches_pay: true,
            batch_sizes: vec![1, 8],
            max_threads: 4,
            tables: vec![("x".to_owned(), 100)],
            shapes_bound_cost: true,
        };
        let described = Described::new(&signature, "cuda:1".to_owned(), Some("a node"), profile.clone());
        let sent = serde_json::to_string(&described).expect("JSON");
        let received: Described = serde_json::from_str(&sent).expect("the same");
        let expected = Profile { max_threads: 1, shapes_bound_cost: false, ..profile };
        assert_eq!(received.into_parts(), Some((signature, "cuda:1".to_owned(), Some("a node".to_owned()), expected)));
    }

    #[test]
    fn settings_are_handed_on_whole() {
        let text = |text: &str| text.to_owned();
        let settings = EngineSettings {
            backend: "onnxruntime",
            optimization: Some(Optimization::Layout),
            session: BTreeMap::from([(text("a"), text("1"))]),
            devices: BTreeMap::from([("cuda", BTreeMap::from([(text("b"), text("2"))]))]),
            custom_operators: vec![text("ops.so")],
        };
        assert_eq!(EngineSettings::from(Settings::from(&settings)), settings);
    }
}
