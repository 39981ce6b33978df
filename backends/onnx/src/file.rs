//! One ONNX file: its bytes, its messages, and what must hold before anything is concluded from them.

use std::fs::Metadata;
use std::time::SystemTime;

use bytes::Bytes;
use corymb_core::{BackendError, FileSource, ModelFiles};
use prost::Message as _;

use crate::calls::{self, Calls, Named};
use crate::names::Names;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

/// The largest file that is read: protobuf's own limit on one message.
const MAX_FILE: u64 = (1 << 31) - 1;

/// A file that holds a well-formed graph.
#[derive(Clone, Debug)]
pub struct OnnxFile {
    /// The content; weights in `model` are slices of it.
    pub bytes: Bytes,
    /// The content, decoded.
    pub model: ModelProto,
}

impl OnnxFile {
    /// Reads, decodes and checks `files.model`.
    ///
    /// # Errors
    /// [`BackendError::InvalidModel`], with the file's name and what is wrong.
    pub fn read(files: &ModelFiles) -> Result<Self, BackendError> {
        let name = files.model.name();
        let invalid = |reason: String| BackendError::InvalidModel(reason);
        if let FileSource::Path(path) = &files.model {
            let metadata = std::fs::metadata(path).map_err(|error| invalid(format!("read '{name}': {error}")))?;
            if !metadata.is_file() {
                return Err(invalid(format!("'{name}' is not a file")));
            }
            if metadata.len() > MAX_FILE {
                return Err(invalid(format!("'{name}' has {} bytes; at most {MAX_FILE} are read", metadata.len())));
            }
        }
        let bytes = files.model.read().map_err(|error| invalid(format!("read '{name}': {error}")))?;
        if name.ends_with(".ort") {
            return Err(invalid(format!(
                "'{name}' is in ONNX Runtime's own format: serve the .onnx file that it was made from"
            )));
        }
        let model = ModelProto::decode(bytes.clone())
            .map_err(|error| invalid(format!("'{name}' is not an ONNX model, or only a part of one: {error}")))?;
        check(&model).map_err(|reason| invalid(format!("'{name}' {reason}")))?;
        Ok(Self { bytes, model })
    }

    /// The graph; there is one, since the file was checked.
    #[must_use]
    pub fn graph(&self) -> &GraphProto {
        static NONE: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(GraphProto::default);
        self.model.graph.as_ref().unwrap_or(&NONE)
    }

    /// The version of the standard operator set.
    #[must_use]
    pub fn opset(&self) -> Option<i64> {
        self.model.opset_import.iter().find(|set| is_standard(&set.domain)).map(|set| set.version)
    }
}

/// Whether a domain is that of the standard operators.
#[must_use]
pub fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The graphs inside a node's attributes: branches and loop bodies.
pub fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|AttributeProto { g, graphs, .. }| g.iter().chain(graphs))
}

/// As [`subgraphs`], to be changed in place.
pub fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|AttributeProto { g, graphs, .. }| g.iter_mut().chain(graphs))
}

/// That there is a graph whose operators mean something, and [`Names::check`] and [`Calls::check`].
fn check(model: &ModelProto) -> Result<(), String> {
    let Some(graph) = &model.graph else { return Err("is not an ONNX model: it holds no graph".to_owned()) };
    if model.opset_import.is_empty() {
        return Err("names no operator set, so its operators have no meaning".to_owned());
    }
    Names {
        inputs: graph.input.iter().map(|input| input.name.as_str()).collect(),
        outputs: graph.output.iter().map(|output| output.name.as_str()).collect(),
        constants: constants(graph).collect(),
        used: graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect(),
        made: graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect(),
        most_dims: most_dims(graph),
    }
    .check()?;
    let functions = model.functions.iter();
    let functions =
        functions.map(|function| ((function.domain.as_str(), function.name.as_str()), named(&function.node)));
    Calls { functions: functions.collect(), graph: named(&graph.node) }.check()
}

/// What a node is called in messages: by its name, else that of its first value, and its operator.
pub(crate) fn label(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
    format!("'{name}' ({})", node.op_type)
}

/// What tells that a file is the same: its size, and when it was changed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl FileStamp {
    /// Of a file as it is now.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        Self { len: file.len(), modified: file.modified().ok() }
    }
}

fn named(nodes: &[NodeProto]) -> Vec<Named<'_>> {
    let inner = |node| subgraphs(node).flat_map(|graph| &graph.node);
    calls::named(nodes, |node| (node.domain.as_str(), node.op_type.as_str()), inner)
}

/// The most dimensions of a tensor that a graph or an inner one stores, or of an input that it declares.
fn most_dims(graph: &GraphProto) -> usize {
    let declared = |input: &ValueInfoProto| match input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref().map_or(0, |shape| shape.dim.len()),
        _ => 0,
    };
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = attributes.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    let stored = graph.initializer.iter().chain(tensors).map(|tensor| tensor.dims.len());
    let inner = graph.node.iter().flat_map(subgraphs).map(most_dims);
    stored.chain(graph.input.iter().map(declared)).chain(inner).max().unwrap_or(0)
}

/// Names of a graph's initializers.
pub(crate) fn constants(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    graph.initializer.iter().chain(sparse).map(|tensor| tensor.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn fixtures() -> impl Iterator<Item = PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
        let entries = std::fs::read_dir(folder).expect("fixtures").flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "onnx"))
    }

    /// What is written again is what was read: no field of the format is lost.
    #[test]
    fn files_survive_being_written_again() {
        let mut read = 0;
        for path in fixtures() {
            let Ok(file) = OnnxFile::read(&ModelFiles { model: FileSource::Path(path.clone()) }) else { continue };
            let written = file.model.encode_to_vec();
            assert_eq!(ModelProto::decode(written.as_slice()).expect("decodes"), file.model, "{}", path.display());
            // Shorter would mean that something was dropped; the order of the fields is the writer's own.
            assert!(written.len() >= file.bytes.len() - 16, "{}: {}", path.display(), written.len());
            read += 1;
        }
        assert!(read > 20, "{read}");
    }

    #[test]
    fn what_is_no_model_is_named() {
        let read = |bytes: &[u8]| {
            let source = FileSource::Embedded { name: "m.onnx".to_owned(), bytes: Bytes::copy_from_slice(bytes) };
            OnnxFile::read(&ModelFiles { model: source }).map(drop).expect_err("refused").to_string()
        };
        assert_eq!(read(b""), "'m.onnx' is not an ONNX model: it holds no graph");
        assert!(read(b"this is not a model").starts_with("'m.onnx' is not an ONNX model, or only a part of one: "));
    }
}
