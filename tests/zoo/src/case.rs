//! Reads the cases that lie in `tests/fixtures/zoo/cases`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use corymb_core::{Buffer, DType, FileSource, ModelFiles, Tensor, Tensors};
use half::{bf16, f16};
use serde::Deserialize;
use serde_json::Value;

/// What an engine does with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Loads it, and gives the expected answers.
    Answers,
    /// Refuses to load it, in a message that holds these texts.
    Refuses(Vec<String>),
}

/// Whether an answer's row depends on its own row alone: where it does, that must be proved from the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Rows may be split and joined.
    Independent,
    /// They may not, whatever the signature looks like.
    Mixed,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// Goes in.
    pub inputs: Tensors,
    /// Comes out: none where there is no answer or it may be anything.
    pub outputs: Option<Tensors>,
    fails: Vec<String>,
    survives: Vec<String>,
}

impl Request {
    /// Whether this request has no answer on the engine.
    #[must_use]
    pub fn must_fail(&self, engine: &str) -> bool {
        self.fails.iter().any(|name| name == engine)
    }

    /// Whether it may have one, but need not.
    #[must_use]
    pub fn may_fail(&self, engine: &str) -> bool {
        self.survives.iter().any(|name| name == engine)
    }
}

/// A model, requests to it, and what is expected of each engine.
#[derive(Clone, Debug)]
pub struct Case {
    /// Of its files.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// Where it lies.
    pub files: ModelFiles,
    /// In the order in which they are sent to one instance.
    pub requests: Vec<Request>,
    /// How far apart floating-point elements may be, relative to those larger than one.
    pub tolerance: f64,
    /// See [`Rows`].
    pub rows: Option<Rows>,
    engines: BTreeMap<String, Expectation>,
    wrong: BTreeMap<String, Vec<String>>,
}

impl Case {
    /// Whether there is an engine that runs the model.
    #[must_use]
    pub fn anybody_answers(&self) -> bool {
        self.engines.values().any(|expectation| *expectation == Expectation::Answers)
    }

    /// What is expected of the engine of this name.
    ///
    /// # Panics
    /// When the zoo knows no such engine.
    #[must_use]
    pub fn expectation(&self, engine: &str) -> &Expectation {
        self.engines.get(engine).unwrap_or_else(|| panic!("the zoo says nothing of the engine '{engine}'"))
    }

    /// Whether the engine is known to get this output wrong, and nobody minds.
    #[must_use]
    pub fn is_known_wrong(&self, engine: &str, output: &str) -> bool {
        self.wrong.get(engine).is_some_and(|names| names.iter().any(|name| name == output))
    }
}

/// All cases, by name.
///
/// # Panics
/// When the fixtures are not what `make.py` writes.
#[must_use]
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/zoo/cases");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    assert!(paths.len() > 150, "only {} cases in {}", paths.len(), folder.display());
    paths.iter().map(|path| read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCase {
    about: String,
    engines: BTreeMap<String, WrittenExpectation>,
    tolerance: Option<f64>,
    rows: Option<Rows>,
    #[serde(default)]
    wrong: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    requests: Vec<WrittenRequest>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenExpectation {
    Word(String),
    Texts(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequest {
    inputs: Vec<WrittenTensor>,
    outputs: Option<Vec<WrittenTensor>>,
    #[serde(default)]
    fails: Vec<String>,
    #[serde(default)]
    survives: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTensor {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Vec<Value>,
}

fn read(path: &Path) -> Result<Case, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let written: WrittenCase = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let engines = written.engines.into_iter().map(|(engine, expectation)| match expectation {
        WrittenExpectation::Word(word) if word == "answers" => Ok((engine, Expectation::Answers)),
        WrittenExpectation::Word(word) => Err(format!("'{word}' is no expectation")),
        WrittenExpectation::Texts(texts) => Ok((engine, Expectation::Refuses(texts))),
    });
    let requests = written.requests.into_iter().map(|request| {
        Ok(Request {
            inputs: tensors(request.inputs)?,
            outputs: request.outputs.map(tensors).transpose()?,
            fails: request.fails,
            survives: request.survives,
        })
    });
    Ok(Case {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        about: written.about,
        files: ModelFiles { model: FileSource::Path(path.with_extension("onnx")) },
        requests: requests.collect::<Result<_, String>>()?,
        tolerance: written.tolerance.unwrap_or(1e-5),
        rows: written.rows,
        engines: engines.collect::<Result<_, String>>()?,
        wrong: written.wrong,
    })
}

fn tensors(written: Vec<WrittenTensor>) -> Result<Tensors, String> {
    written.into_iter().map(|tensor| Ok((tensor.name.clone(), self::tensor(&tensor)?))).collect()
}

fn tensor(written: &WrittenTensor) -> Result<Tensor, String> {
    let WrittenTensor { name, datatype, shape, data } = written;
    let dtype = DType::ALL.into_iter().find(|dtype| dtype.to_string() == *datatype);
    let dtype = dtype.ok_or_else(|| format!("'{name}' has the unknown datatype {datatype}"))?;
    let bad = |value: &Value| format!("'{name}' of {datatype} holds {value}");
    macro_rules! numbers {
        ($($dtype:ident => |$value:ident| $element:expr),* $(,)?) => {
            match dtype {
                $(DType::$dtype => {
                    let elements = data.iter().map(|$value| $element.ok_or_else(|| bad($value)));
                    let elements = elements.collect::<Result<Vec<_>, String>>()?;
                    Tensor::from_slice(shape.clone(), &elements)
                })*
                DType::Bool => {
                    let bytes = data.iter().map(|value| value.as_bool().map(u8::from).ok_or_else(|| bad(value)));
                    let bytes = bytes.collect::<Result<Vec<_>, String>>()?;
                    Tensor::from_buffer(DType::Bool, shape.clone(), Buffer::copy_of(&bytes))
                }
                DType::Bytes => {
                    let text = |value: &Value| Some(Bytes::copy_from_slice(value.as_str()?.as_bytes()));
                    let elements = data.iter().map(|value| text(value).ok_or_else(|| bad(value)));
                    Tensor::from_elements(shape.clone(), elements.collect::<Result<Vec<_>, String>>()?)
                }
            }
        };
    }
    let tensor = numbers! {
        Uint8 => |value| value.as_u64().and_then(|wide| u8::try_from(wide).ok()),
        Uint16 => |value| value.as_u64().and_then(|wide| u16::try_from(wide).ok()),
        Uint32 => |value| value.as_u64().and_then(|wide| u32::try_from(wide).ok()),
        Uint64 => |value| value.as_u64(),
        Int8 => |value| value.as_i64().and_then(|wide| i8::try_from(wide).ok()),
        Int16 => |value| value.as_i64().and_then(|wide| i16::try_from(wide).ok()),
        Int32 => |value| value.as_i64().and_then(|wide| i32::try_from(wide).ok()),
        Int64 => |value| value.as_i64(),
        Fp16 => |value| float(value).map(f16::from_f64),
        Bf16 => |value| float(value).map(bf16::from_f64),
        Fp32 => |value| float(value).map(|wide| wide as f32),
        Fp64 => |value| float(value),
    };
    tensor.map_err(|error| format!("'{name}': {error}"))
}

fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}
