//! Small ONNX models made by code: the few fields of `onnx.proto` that they need, under its published numbers.

use std::path::Path;

use anyhow::Context as _;
use prost::Message;

/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;
/// What every engine at hand reads.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, required, tag = "7")]
    graph: GraphProto,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, required, tag = "2")]
    r#type: TypeProto,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, required, tag = "1")]
    tensor_type: TensorType,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, required, tag = "2")]
    shape: TensorShape,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// `y = x + 1` of FP32[N, `width`], written as `model.onnx` into a folder.
pub(crate) fn write_add_one(folder: &Path, width: usize) -> anyhow::Result<()> {
    let one = tensor("one", &[1], &[1.0])?;
    let nodes = vec![node("Add", &["x", "one"], "y")];
    write(folder, graph("add_one", nodes, vec![one], width)?)
}

/// `layers` dense layers without bias on FP32[N, `width`], written as `model.onnx` into a folder. Small deterministic
/// weights, so that values neither vanish nor overflow.
pub(crate) fn write_dense(folder: &Path, width: usize, layers: usize) -> anyhow::Result<()> {
    let name = |layer: usize| match layer {
        0 => "x".to_owned(),
        layer if layer == layers => "y".to_owned(),
        layer => format!("h{layer}"),
    };
    let mut nodes = Vec::with_capacity(layers);
    let mut weights = Vec::with_capacity(layers);
    for layer in 0..layers {
        // A multiplicative generator: its low bits repeat early, its high bits do not.
        let mut state = 0x9e37_79b9_u32.wrapping_add(u32::try_from(layer)?);
        let scale = (3.0 / width as f32).sqrt();
        let values: Vec<f32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .take(width * width)
        .collect();
        let weight = format!("w{layer}");
        weights.push(tensor(&weight, &[width, width], &values)?);
        nodes.push(node("MatMul", &[&name(layer), &weight], &name(layer + 1)));
    }
    write(folder, graph("dense", nodes, weights, width)?)
}

/// `nodes` times Tanh, one after the other, of FP32[N, `width`], written as `model.onnx` into a folder: a row costs the
/// same alone and in a batch.
pub(crate) fn write_tanh(folder: &Path, width: usize, nodes: usize) -> anyhow::Result<()> {
    let name = |node: usize| match node {
        0 => "x".to_owned(),
        node if node == nodes => "y".to_owned(),
        node => format!("h{node}"),
    };
    let nodes = (0..nodes).map(|index| node("Tanh", &[&name(index)], &name(index + 1))).collect();
    write(folder, graph("tanh", nodes, Vec::new(), width)?)
}

fn write(folder: &Path, graph: GraphProto) -> anyhow::Result<()> {
    let opset_import = vec![OperatorSetId { domain: String::new(), version: OPSET }];
    let model = ModelProto { ir_version: IR_VERSION, graph, opset_import };
    let path = folder.join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).with_context(|| path.display().to_string())
}

/// One input `x` and one output `y`, FP32[N, `width`].
fn graph(name: &str, node: Vec<NodeProto>, initializer: Vec<TensorProto>, width: usize) -> anyhow::Result<GraphProto> {
    let rows = |name: &str| -> anyhow::Result<ValueInfo> {
        let batch = Dimension { dim_value: None, dim_param: Some("N".to_owned()) };
        let width = Dimension { dim_value: Some(i64::try_from(width)?), dim_param: None };
        let tensor_type = TensorType { elem_type: FLOAT, shape: TensorShape { dim: vec![batch, width] } };
        Ok(ValueInfo { name: name.to_owned(), r#type: TypeProto { tensor_type } })
    };
    let (input, output) = (vec![rows("x")?], vec![rows("y")?]);
    Ok(GraphProto { node, name: name.to_owned(), initializer, input, output })
}

fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    let input = input.iter().map(|&name| name.to_owned()).collect();
    NodeProto { input, output: vec![output.to_owned()], op_type: op_type.to_owned() }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> anyhow::Result<TensorProto> {
    let dims = dims.iter().map(|&size| i64::try_from(size)).collect::<Result<_, _>>()?;
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(TensorProto { dims, data_type: FLOAT, name: name.to_owned(), raw_data })
}
