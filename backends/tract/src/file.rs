//! Reads an ONNX file into protobuf types, checks what tract takes on trust, and rewrites what tract gets wrong.

use corymb_core::{BackendError, FileSource, ModelFiles};
use corymb_onnx::{Calls, FileStamp, Named, Names, is_standard};
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use tract_onnx::prelude::Framework as _;

use crate::proto::subgraphs;
use crate::rewrite::rewrite;
use crate::stored::{self, Outside};

/// The largest file that is read: protobuf's own limit on one message.
const MAX_FILE: u64 = 1 << 31;

/// A file that holds a well-formed graph, in operators that tract runs.
pub(crate) struct OnnxFile {
    pub(crate) proto: ModelProto,
    pub(crate) size: u64,
    /// Which content it had, cheaply: enough to notice that it was replaced under a loaded model.
    pub(crate) stamp: Option<FileStamp>,
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
                let stamp = FileStamp::of(&metadata);
                // Mapped, not read: the bytes are copied once, into the protobuf types.
                (len, Some(stamp), onnx.proto_model_for_path(path))
            }
            FileSource::Embedded { bytes, .. } => {
                (bytes.len() as u64, None, onnx.proto_model_for_read(&mut bytes.as_ref()))
            }
        };
        let mut proto = proto.map_err(|error| {
            if name.ends_with(".ort") {
                return BackendError::InvalidModel(format!(
                    "'{name}' is in ONNX Runtime's own format: serve the .onnx file that it was made from"
                ));
            }
            // The root cause alone: the context around it names folders.
            BackendError::InvalidModel(format!("'{name}' is not an ONNX model: {}", error.root_cause()))
        })?;
        let folder = files.model.folder();
        let wrong = |reason: String| BackendError::InvalidModel(format!("'{name}' {reason}"));
        check(&proto).map_err(wrong)?;
        let outside = proto.graph.as_ref().map_or(Ok(Outside::default()), |graph| stored::check(graph, folder));
        let outside = outside.map_err(wrong)?;
        if let (true, Some(folder), Some(graph)) = (outside.leads_out, folder, &mut proto.graph) {
            stored::take_in(graph, folder).map_err(wrong)?;
        }
        rewrite(&mut proto);
        Ok(Self { proto, size: size + outside.bytes, stamp })
    }

    /// The graph; there is one, since the file was checked.
    pub(crate) fn graph(&self) -> &GraphProto {
        static NONE: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(GraphProto::default);
        self.proto.graph.as_ref().unwrap_or(&NONE)
    }

    /// Leaves all sizes of inputs open but 1, which is broadcast; equal ones stay equal. What outputs declare is forgotten.
    pub(crate) fn open_dimensions(&mut self) {
        let Some(graph) = &mut self.proto.graph else { return };
        for dim in graph.input.iter_mut().flat_map(dimensions) {
            if let Some(DimValue::DimValue(size)) = dim.value
                && size != 1
            {
                dim.value = Some(DimValue::DimParam(format!("size{size}")));
            }
        }
        graph.output.iter_mut().flat_map(dimensions).for_each(|dim| dim.value = None);
    }

    /// The version of the standard operator set.
    pub(crate) fn opset(&self) -> Option<i64> {
        self.proto.opset_import.iter().find(|set| is_standard(&set.domain)).map(|set| set.version)
    }
}

fn dimensions(value: &mut ValueInfoProto) -> impl Iterator<Item = &mut Dimension> {
    let tensor = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()).map(|TypeValue::TensorType(tensor)| tensor);
    tensor.and_then(|tensor| tensor.shape.as_mut()).into_iter().flat_map(|shape| &mut shape.dim)
}

/// What tract would meet with a panic, or not at all.
fn check(proto: &ModelProto) -> Result<(), String> {
    let Some(graph) = &proto.graph else { return Err("is not an ONNX model: it holds no graph".to_owned()) };
    if proto.opset_import.is_empty() {
        return Err("names no operator set, so its operators have no meaning".to_owned());
    }
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    Names {
        inputs: graph.input.iter().map(|input| input.name.as_str()).collect(),
        outputs: graph.output.iter().map(|output| output.name.as_str()).collect(),
        constants: graph.initializer.iter().chain(sparse).map(|tensor| tensor.name.as_str()).collect(),
        used: graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect(),
        made: graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect(),
        most_dims: most_dims(graph),
    }
    .check()?;
    let functions = proto.functions.iter();
    let functions = functions.map(|function| ((function.domain(), function.name()), named(&function.node)));
    Calls { functions: functions.collect(), graph: named(&graph.node) }.check()
}

/// The most dimensions of a tensor that a graph or an inner one stores, or of an input that it declares.
fn most_dims(graph: &GraphProto) -> usize {
    let declared = |input: &ValueInfoProto| match input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(TypeValue::TensorType(tensor)) => tensor.shape.as_ref().map_or(0, |shape| shape.dim.len()),
        None => 0,
    };
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = attributes.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    let stored = graph.initializer.iter().chain(tensors).map(|tensor| tensor.dims.len());
    let inner = graph.node.iter().flat_map(subgraphs).map(most_dims);
    stored.chain(graph.input.iter().map(declared)).chain(inner).max().unwrap_or(0)
}

fn named(nodes: &[NodeProto]) -> Vec<Named<'_>> {
    let inner = |node| subgraphs(node).flat_map(|graph| &graph.node);
    corymb_onnx::named(nodes, |node| (node.domain.as_str(), node.op_type.as_str()), inner)
}
