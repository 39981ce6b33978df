//! Writes a few operators in terms of others, because tract gets the operator itself wrong or cannot take it.
//!
//! * A recurrent layer without an initial state: tract wants its batch fixed, and fails on some. It is given zeros.
//! * `Softmax` among quantised values: tract makes a table of it, as if each element stood alone. It becomes the
//!   exponential over its sum.
//! * `ConstantOfShape` without a value: tract fills in FP64 where FP32 is meant.
//! * `Gemm` in FP16: tract multiplies it by an FP32 constant. It becomes a product and a sum.

use corymb_onnx::is_standard;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use crate::proto::{integer_attribute, standard_opset, text_attribute};

/// The operator set in which `Softmax` came to mean one axis.
pub(crate) const SOFTMAX_OF_ONE_AXIS: i64 = 13;
/// The operator set in which the axes of `ReduceMax` became an operand.
const AXES_AS_OPERAND: i64 = 18;
/// The largest state of a recurrent layer that zeros are made for.
const MAX_HIDDEN: i64 = 1 << 20;
/// What names of added nodes and values end in.
const SUFFIX: &str = ".corymb";

/// Whether values of a graph are quantised and dequantised again.
pub(crate) fn is_quantised(graph: &GraphProto) -> bool {
    let has = |operator: &str| graph.node.iter().any(|node| node.op_type == operator && is_standard(&node.domain));
    has("QuantizeLinear") && has("DequantizeLinear")
}

/// Rewrites the nodes of the model's graph; those of branches and bodies stay as they are.
pub(crate) fn rewrite(model: &mut ModelProto) {
    let opset = standard_opset(model);
    let Some(graph) = &mut model.graph else { return };
    let quantised = is_quantised(graph);
    let mut written = Writer::default();
    for node in std::mem::take(&mut graph.node) {
        let standard = is_standard(&node.domain);
        match node.op_type.as_str() {
            "RNN" | "GRU" | "LSTM" if standard => written.recurrent(node, opset),
            "Softmax" if standard && quantised && opset >= SOFTMAX_OF_ONE_AXIS => written.softmax(&node, opset),
            "ConstantOfShape" if standard => written.nodes.push(filled(node)),
            "Gemm" if standard && is_plain_half_gemm(&node, graph) => written.gemm(&node),
            _ => written.nodes.push(node),
        }
    }
    graph.node = written.nodes;
    graph.initializer.extend(written.constants);
}

#[derive(Default)]
struct Writer {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Writer {
    fn recurrent(&mut self, mut node: NodeProto, opset: i64) {
        const INITIAL: usize = 5;
        let states = if node.op_type == "LSTM" { 2 } else { 1 };
        let given = |node: &NodeProto, index: usize| node.input.get(index).is_some_and(|name| !name.is_empty());
        let hidden = integer_attribute(&node, "hidden_size").filter(|size| (1..=MAX_HIDDEN).contains(size));
        let batch_first = integer_attribute(&node, "layout").unwrap_or(0) != 0;
        let missing: Vec<usize> = (INITIAL..INITIAL + states).filter(|index| !given(&node, *index)).collect();
        let (Some(hidden), false, false) = (hidden, batch_first, missing.is_empty()) else {
            self.nodes.push(node);
            return;
        };
        let directions = if text_attribute(&node, "direction") == Some("bidirectional") { 2 } else { 1 };
        let base = format!("{}{SUFFIX}", node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str));
        let name = |part: &str| format!("{base}.{part}");
        // Zeros that tract does not know to be zeros: of constant ones its optimiser makes a state of one row. Nothing is
        // greater than infinity.
        self.singles(&name("infinity"), &[1], f32::INFINITY);
        self.singles(&name("zeros"), &[directions, 1, hidden], 0.0);
        self.reduce("ReduceMax", &node.input[0], &[0, 2], &name("largest"), opset);
        self.push("Greater", &[&name("largest"), &name("infinity")], &name("never"), vec![]);
        self.push("Cast", &[&name("never")], &name("zero"), vec![integer("to", DataType::Float as i64)]);
        self.push("Mul", &[&name("zero"), &name("zeros")], &name("state"), vec![]);
        if node.input.len() < INITIAL + states {
            node.input.resize(INITIAL + states, String::new());
        }
        for index in missing {
            node.input[index] = name("state");
        }
        self.nodes.push(node);
    }

    fn softmax(&mut self, node: &NodeProto, opset: i64) {
        let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
            self.nodes.push(node.clone());
            return;
        };
        let axis = integer_attribute(node, "axis").unwrap_or(-1);
        let name = |part: &str| format!("{output}{SUFFIX}.{part}");
        let largest = name("largest");
        self.reduce("ReduceMax", input, &[axis], &largest, opset);
        self.push("Sub", &[input, &largest], &name("shifted"), vec![]);
        self.push("Exp", &[&name("shifted")], &name("exponential"), vec![]);
        self.integers(&name("axes"), &[axis]);
        self.push("ReduceSum", &[&name("exponential"), &name("axes")], &name("sum"), vec![]);
        self.push("Div", &[&name("exponential"), &name("sum")], output, vec![]);
    }

    fn gemm(&mut self, node: &NodeProto) {
        let output = &node.output[0];
        let mut operands = [node.input[0].clone(), node.input[1].clone()];
        for (operand, attribute) in operands.iter_mut().zip(["transA", "transB"]) {
            if integer_attribute(node, attribute).unwrap_or(0) != 0 {
                let turned = format!("{output}{SUFFIX}.{attribute}");
                self.push("Transpose", &[operand], &turned, vec![integers("perm", &[1, 0])]);
                *operand = turned;
            }
        }
        let operands = operands.each_ref().map(String::as_str);
        match node.input.get(2).filter(|bias| !bias.is_empty()) {
            Some(bias) => {
                let product = format!("{output}{SUFFIX}.product");
                self.push("MatMul", &operands, &product, vec![]);
                self.push("Add", &[&product, bias], output, vec![]);
            }
            None => self.push("MatMul", &operands, output, vec![]),
        }
    }

    /// Keeps the axes that it reduces.
    fn reduce(&mut self, operator: &str, input: &str, axes: &[i64], output: &str, opset: i64) {
        if opset >= AXES_AS_OPERAND {
            let operand = format!("{output}.axes");
            self.integers(&operand, axes);
            self.push(operator, &[input, &operand], output, vec![]);
        } else {
            self.push(operator, &[input], output, vec![integers("axes", axes)]);
        }
    }

    fn push(&mut self, operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            name: format!("{output}{SUFFIX}.{operator}"),
            op_type: operator.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    }

    fn singles(&mut self, name: &str, dims: &[i64], value: f32) {
        let count = dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).product::<usize>();
        self.constants.push(TensorProto {
            name: name.to_owned(),
            data_type: DataType::Float as i32,
            dims: dims.to_vec(),
            raw_data: value.to_le_bytes().repeat(count),
            ..TensorProto::default()
        });
    }

    fn integers(&mut self, name: &str, elements: &[i64]) {
        self.constants.push(TensorProto {
            name: name.to_owned(),
            data_type: DataType::Int64 as i32,
            dims: vec![elements.len() as i64],
            raw_data: elements.iter().flat_map(|element| element.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i: value, ..AttributeProto::default() }
}

fn integers(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.to_owned(), r#type, ints: values.to_vec(), ..AttributeProto::default() }
}

/// With the value that it fills in said, since tract takes another type by default.
fn filled(mut node: NodeProto) -> NodeProto {
    if !node.attribute.iter().any(|attribute| attribute.name == "value") {
        node.attribute.push(zero());
    }
    node
}

fn zero() -> AttributeProto {
    let zero = TensorProto {
        data_type: DataType::Float as i32,
        dims: vec![1],
        raw_data: 0_f32.to_le_bytes().to_vec(),
        ..TensorProto::default()
    };
    let r#type = AttributeType::Tensor as i32;
    AttributeProto { name: "value".to_owned(), r#type, t: Some(zero), ..AttributeProto::default() }
}

/// A `Gemm` on stored FP16 weights that scales nothing.
fn is_plain_half_gemm(node: &NodeProto, graph: &GraphProto) -> bool {
    let is_half = |name: &String| {
        let stored = graph.initializer.iter().find(|tensor| tensor.name == *name);
        stored.is_some_and(|tensor| tensor.data_type == DataType::Float16 as i32)
    };
    let scales = |attribute: &AttributeProto| matches!(attribute.name.as_str(), "alpha" | "beta") && attribute.f != 1.0;
    node.input.len() >= 2
        && node.output.len() == 1
        && node.input.iter().any(is_half)
        && !node.attribute.iter().any(scales)
}
