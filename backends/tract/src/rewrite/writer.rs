//! Writes the nodes and constants that stand for a node of the file.

use half::f16;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use crate::proto::label;

/// What names of added nodes and values hold.
pub(super) const MARK: &str = ".corymb";
/// The operator set in which the axes of `ReduceSum`, `Squeeze` and `Unsqueeze` became an operand.
pub(super) const SUM_AXES_AS_OPERAND: i64 = 13;
/// The operator set in which those of the other reductions did.
const AXES_AS_OPERAND: i64 = 18;

/// What the names of nodes that stand for `node` begin with, before a dot.
pub(super) fn standing_for(node: &NodeProto) -> String {
    format!("{}{MARK}:{}:{}", label(node), node.domain, node.op_type)
}

/// The node of the file that a node stands for, from the latter's name: its name, or that of its first value, its domain
/// and its operator. None where the node is the file's own.
pub(crate) fn origin(name: &str) -> Option<(&str, &str, &str)> {
    let (node, rest) = name.split_once(MARK)?;
    let (domain, rest) = rest.strip_prefix(':')?.split_once(':')?;
    let (operator, _) = rest.split_once('.')?;
    Some((node, domain, operator))
}

/// Whether a value was added.
pub(crate) fn is_added(name: &str) -> bool {
    name.contains(MARK)
}

/// The nodes of a graph as they are written anew, and the constants that these need.
pub(super) struct Writer {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
    pub(super) opset: i64,
    /// What names of the values that stand for the present node begin with.
    base: String,
    /// The same of the names of nodes, as [`origin`] reads them.
    node: String,
    count: usize,
}

impl Writer {
    pub(super) fn new(opset: i64) -> Self {
        Self { nodes: Vec::new(), constants: Vec::new(), opset, base: String::new(), node: String::new(), count: 0 }
    }

    /// The values added from now on belong to `node`. Names of values are unique in a graph, so theirs are.
    pub(super) fn begin(&mut self, node: &NodeProto) {
        let output = node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
        self.base = format!("{output}{MARK}");
        self.node = standing_for(node);
        self.count = 0;
    }

    /// A name for a value that stands for the present node.
    pub(super) fn fresh(&mut self) -> String {
        self.count += 1;
        format!("{}.{}", self.base, self.count)
    }

    /// Adds a node and returns the name of its only output.
    pub(super) fn op(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh();
        self.named(operator, inputs, &output, attributes);
        output
    }

    /// As [`Self::op`], for an output that has its name.
    pub(super) fn named(&mut self, operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            name: format!("{}.{}.{operator}", self.node, self.nodes.len()),
            op_type: operator.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    }

    pub(super) fn cast(&mut self, input: &str, to: DataType) -> String {
        self.op("Cast", &[input], vec![integer("to", to as i64)])
    }

    /// A reduction over `axes`, or over all where there are none.
    pub(super) fn reduce(&mut self, operator: &str, input: &str, axes: &[i64], keep: bool) -> String {
        let output = self.fresh();
        self.reduce_to(operator, input, axes, keep, &output);
        output
    }

    pub(super) fn reduce_to(&mut self, operator: &str, input: &str, axes: &[i64], keep: bool, output: &str) {
        let mut attributes = vec![integer("keepdims", keep.into())];
        let since = if operator == "ReduceSum" { SUM_AXES_AS_OPERAND } else { AXES_AS_OPERAND };
        if axes.is_empty() {
            self.named(operator, &[input], output, attributes);
        } else if self.opset >= since {
            let axes = self.integers(axes);
            self.named(operator, &[input, &axes], output, attributes);
        } else {
            attributes.push(integers("axes", axes));
            self.named(operator, &[input], output, attributes);
        }
    }

    pub(super) fn unsqueeze(&mut self, input: &str, axes: &[i64]) -> String {
        self.with_axes("Unsqueeze", input, axes)
    }

    pub(super) fn squeeze(&mut self, input: &str, axes: &[i64]) -> String {
        self.with_axes("Squeeze", input, axes)
    }

    fn with_axes(&mut self, operator: &str, input: &str, axes: &[i64]) -> String {
        if self.opset >= SUM_AXES_AS_OPERAND {
            let axes = self.integers(axes);
            self.op(operator, &[input, &axes], vec![])
        } else {
            self.op(operator, &[input], vec![integers("axes", axes)])
        }
    }

    /// The size of `input` along `axis`, without dimensions.
    pub(super) fn size(&mut self, input: &str, axis: i64) -> String {
        let shape = self.op("Shape", &[input], vec![]);
        let index = self.constant(DataType::Int64, &[], &[axis as f64]);
        self.op("Gather", &[&shape, &index], vec![integer("axis", 0)])
    }

    pub(super) fn scalar(&mut self, dtype: DataType, value: f64) -> String {
        self.constant(dtype, &[], &[value])
    }

    pub(super) fn integers(&mut self, elements: &[i64]) -> String {
        let wide: Vec<f64> = elements.iter().map(|&element| element as f64).collect();
        self.constant(DataType::Int64, &[elements.len() as i64], &wide)
    }

    pub(super) fn filled(&mut self, dtype: DataType, dims: &[i64], value: f64) -> String {
        let count = dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).product::<usize>();
        self.constant(dtype, dims, &vec![value; count])
    }

    /// The numbers from 0 below `count`, along the first of `1 + after` dimensions.
    pub(super) fn counted(&mut self, dtype: DataType, count: i64, after: usize) -> String {
        let dims: Vec<i64> = std::iter::once(count).chain(std::iter::repeat_n(1, after)).collect();
        let numbers: Vec<f64> = (0..count).map(|number| number as f64).collect();
        self.constant(dtype, &dims, &numbers)
    }

    fn constant(&mut self, dtype: DataType, dims: &[i64], elements: &[f64]) -> String {
        let name = self.fresh();
        self.constants.push(TensorProto {
            name: name.clone(),
            data_type: dtype as i32,
            dims: dims.to_vec(),
            raw_data: elements.iter().flat_map(|&element| bytes(dtype, element)).collect(),
            ..TensorProto::default()
        });
        name
    }
}

/// The element as the format stores it.
fn bytes(dtype: DataType, element: f64) -> Vec<u8> {
    match dtype {
        DataType::Double => element.to_le_bytes().to_vec(),
        DataType::Float16 => f16::from_f64(element).to_le_bytes().to_vec(),
        DataType::Int64 => (element as i64).to_le_bytes().to_vec(),
        DataType::Uint64 => (element as u64).to_le_bytes().to_vec(),
        DataType::Int32 => (element as i32).to_le_bytes().to_vec(),
        DataType::Uint32 => (element as u32).to_le_bytes().to_vec(),
        DataType::Int16 => (element as i16).to_le_bytes().to_vec(),
        DataType::Uint16 => (element as u16).to_le_bytes().to_vec(),
        DataType::Int8 => (element as i8).to_le_bytes().to_vec(),
        DataType::Uint8 | DataType::Bool => (element as u8).to_le_bytes().to_vec(),
        _ => (element as f32).to_le_bytes().to_vec(),
    }
}

pub(super) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i: value, ..AttributeProto::default() }
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Float as i32, f: value, ..AttributeProto::default() }
}

pub(super) fn integers(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.to_owned(), r#type, ints: values.to_vec(), ..AttributeProto::default() }
}
