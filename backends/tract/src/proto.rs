//! Reads an ONNX file into protobuf types and checks what tract takes on trust.

use std::collections::HashSet;
use std::time::SystemTime;

use corymb_core::{BackendError, FileSource, ModelFiles};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use tract_onnx::prelude::Framework as _;

use crate::stored;

/// The largest file that is read: protobuf's own limit on one message.
const MAX_FILE: u64 = 1 << 31;

/// Which content a path had, cheaply: enough to notice that a file was replaced under a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

/// A file that holds a well-formed graph.
pub(crate) struct OnnxFile {
    pub(crate) proto: ModelProto,
    pub(crate) size: u64,
    pub(crate) stamp: Option<Stamp>,
}

impl OnnxFile {
    /// Reads, decodes and checks `files.model`.
    pub(crate) fn read(files: &ModelFiles) -> Result<Self, BackendError> {
        let name = files.model.name();
        let unreadable = |error: std::io::Error| BackendError::InvalidModel(format!("read '{name}': {error}"));
        let onnx = tract_onnx::onnx();
        let (size, stamp, proto) = match &files.model {
            FileSource::Path(path) => {
                let metadata = std::fs::metadata(path).map_err(unreadable)?;
                let len = metadata.len();
                if len > MAX_FILE {
                    return Err(BackendError::InvalidModel(format!(
                        "'{name}' has {len} bytes; at most {MAX_FILE} are read"
                    )));
                }
                let stamp = Stamp { len, modified: metadata.modified().ok() };
                // Mapped, not read: the bytes are copied once, into the protobuf types.
                (len, Some(stamp), onnx.proto_model_for_path(path))
            }
            FileSource::Embedded { bytes, .. } => {
                (bytes.len() as u64, None, onnx.proto_model_for_read(&mut bytes.as_ref()))
            }
        };
        let proto = proto.map_err(|error| {
            // The root cause alone: the context around it names folders.
            BackendError::InvalidModel(format!("'{name}' is not an ONNX model: {}", error.root_cause()))
        })?;
        let stored_outside = check(&proto)
            .and_then(|()| proto.graph.as_ref().map_or(Ok(0), |graph| stored::check(graph, files.model.folder())))
            .map_err(|reason| BackendError::InvalidModel(format!("'{name}' {reason}")))?;
        Ok(Self { proto, size: size + stored_outside, stamp })
    }

    /// The graph; there is one, since the file was checked.
    pub(crate) fn graph(&self) -> &GraphProto {
        static NONE: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(GraphProto::default);
        self.proto.graph.as_ref().unwrap_or(&NONE)
    }

    /// The version of the standard operator set.
    pub(crate) fn opset(&self) -> Option<i64> {
        self.proto.opset_import.iter().find(|set| is_standard(&set.domain)).map(|set| set.version)
    }
}

/// Whether a domain is that of the standard operators.
pub(crate) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The version of the standard operator set; 0 where none is named.
pub(crate) fn standard_opset(model: &ModelProto) -> i64 {
    model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version)
}

/// The value of an attribute that is an integer.
pub(crate) fn integer_attribute(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.i)
}

/// The value of an attribute that is a text.
pub(crate) fn text_attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    node.attribute.iter().find(|attribute| attribute.name == name).and_then(|found| std::str::from_utf8(&found.s).ok())
}

/// The graphs inside a node's attributes: branches and loop bodies.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|AttributeProto { g, graphs, .. }| g.iter().chain(graphs))
}

/// As [`subgraphs`], to be changed in place.
pub(crate) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|AttributeProto { g, graphs, .. }| g.iter_mut().chain(graphs))
}

/// What tract would meet with a panic, or not at all: names that nothing makes, names made twice.
fn check(proto: &ModelProto) -> Result<(), String> {
    let Some(graph) = &proto.graph else { return Err("is not an ONNX model: it holds no graph".to_owned()) };
    if proto.opset_import.is_empty() {
        return Err("names no operator set, so its operators have no meaning".to_owned());
    }
    if graph.output.is_empty() {
        return Err("has no outputs".to_owned());
    }
    unique("input", &graph.input)?;
    unique("output", &graph.output)?;
    let mut made: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    made.extend(graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())));
    for node in &graph.node {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !made.insert(output) {
                return Err(format!("makes '{output}' twice"));
            }
        }
    }
    let missing_input =
        graph.node.iter().flat_map(|node| &node.input).find(|name| !name.is_empty() && !made.contains(name.as_str()));
    if let Some(missing) = missing_input {
        return Err(format!("uses '{missing}', which nothing makes"));
    }
    match graph.output.iter().find(|output| !made.contains(output.name.as_str())) {
        Some(output) => Err(format!("declares the output '{}', which nothing makes", output.name)),
        None => Ok(()),
    }
}

fn unique(role: &str, values: &[ValueInfoProto]) -> Result<(), String> {
    let mut seen = HashSet::new();
    match values.iter().find(|value| value.name.is_empty() || !seen.insert(value.name.as_str())) {
        Some(value) if value.name.is_empty() => Err(format!("has an {role} without a name")),
        Some(value) => Err(format!("declares the {role} '{}' twice", value.name)),
        None => Ok(()),
    }
}
