//! What a file says of its values, followed through its nodes: element types, sizes, and small constants.

use std::collections::{HashMap, HashSet};

use corymb_onnx::is_standard;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto};

use crate::proto::{integer_attribute, integers, subgraphs};

/// The most elements of a constant that are kept.
const FEW: usize = 64;

/// Of one value.
#[derive(Clone, Debug, Default)]
pub(super) struct Fact {
    /// None where the file does not say.
    pub(super) dtype: Option<DataType>,
    /// None where even the rank is open; within, none for an open size.
    pub(super) dims: Option<Vec<Option<i64>>>,
    /// The elements of a small integer constant.
    pub(super) integers: Option<Vec<i64>>,
    /// Those of a small FP32 constant.
    pub(super) singles: Option<Vec<f32>>,
    /// Whether it is an integer constant without a negative element.
    pub(super) not_negative: bool,
    /// Whether it is made of constants and sizes alone.
    pub(super) is_fixed: bool,
    /// Whether all elements of a constant are 0; none of what is no constant, or lies elsewhere.
    pub(super) is_zero: Option<bool>,
}

/// Of all values that are known at a place in the graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts(HashMap<String, Fact>);

impl Facts {
    /// With all that a graph says, within what is known around it.
    pub(crate) fn within(&self, graph: &GraphProto) -> Self {
        let mut facts = self.clone();
        facts.enter(graph);
        graph.node.iter().for_each(|node| facts.learn(node));
        facts
    }

    /// With what a graph says before its nodes are read.
    pub(super) fn enter(&mut self, graph: &GraphProto) {
        for value in graph.value_info.iter().chain(&graph.output).chain(&graph.input) {
            if let Some(fact) = declared(value) {
                self.0.insert(value.name.clone(), fact);
            }
        }
        // What is an input, too, a request may replace.
        let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        for tensor in graph.initializer.iter().filter(|tensor| !inputs.contains(tensor.name.as_str())) {
            self.0.insert(tensor.name.clone(), stored(tensor));
        }
    }

    pub(super) fn of(&self, name: &str) -> Fact {
        self.0.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn dtype(&self, name: &str) -> Option<DataType> {
        self.0.get(name)?.dtype
    }

    /// Whether any value is of that type.
    pub(super) fn hold(&self, dtype: DataType) -> bool {
        self.0.values().any(|fact| fact.dtype == Some(dtype))
    }

    pub(super) fn rank(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.dims.as_ref().map(|dims| dims.len() as i64)
    }

    /// The size along `axis`, counted from the front.
    pub(super) fn size(&self, name: &str, axis: usize) -> Option<i64> {
        self.0.get(name)?.dims.as_ref()?.get(axis).copied().flatten()
    }

    /// Adds what follows for the outputs of `node`.
    pub(super) fn learn(&mut self, node: &NodeProto) {
        if !is_standard(&node.domain) {
            return;
        }
        if node.op_type == "Constant" {
            let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
            if let (Some(output), Some(tensor)) = (node.output.first(), tensor) {
                self.0.insert(output.clone(), stored(tensor));
            }
            return;
        }
        // What a branch answers with is known where its nodes have been read.
        let is_fixed = self.makes_fixed(node);
        let is_open = |name: &String| self.dtype(name).is_none();
        let branches: Vec<(&GraphProto, Self)> = match node.op_type.as_str() {
            "If" if node.output.iter().any(is_open) => subgraphs(node).map(|body| (body, self.within(body))).collect(),
            _ => Vec::new(),
        };
        for (index, output) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let known = self.0.get_mut(output);
            if let Some(fact) = known.filter(|fact| fact.dtype.is_some() && fact.dims.is_some()) {
                fact.is_fixed = is_fixed;
                continue;
            }
            let known = self.0.get(output);
            let of_branch = |(body, facts): &(&GraphProto, Self)| facts.dtype(&body.output.get(index)?.name);
            let dtype = known.and_then(|fact| fact.dtype);
            let dtype =
                dtype.or_else(|| self.output_dtype(node, index)).or_else(|| branches.iter().find_map(of_branch));
            let dims = known.and_then(|fact| fact.dims.clone()).or_else(|| self.same_dims(node, index));
            self.0.insert(output.clone(), Fact { dtype, dims, is_fixed, ..Fact::default() });
        }
    }

    /// Whether what a node makes is made of constants and sizes alone.
    fn makes_fixed(&self, node: &NodeProto) -> bool {
        let is_fixed = |name: &String| self.0.get(name).is_some_and(|fact| fact.is_fixed);
        let mut operands = node.input.iter().filter(|name| !name.is_empty()).peekable();
        matches!(node.op_type.as_str(), "Shape" | "Size") || (operands.peek().is_some() && operands.all(is_fixed))
    }

    fn output_dtype(&self, node: &NodeProto, index: usize) -> Option<DataType> {
        let input = |index: usize| node.input.get(index).and_then(|name| self.dtype(name));
        match (node.op_type.as_str(), index) {
            ("Cast", _) => DataType::try_from(i32::try_from(integer_attribute(node, "to")?).ok()?).ok(),
            ("CastLike" | "Where", _) => input(1),
            ("QuantizeLinear", _) => input(2),
            ("DequantizeLinear", _) => input(1),
            ("Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression", _) | ("TopK" | "MaxPool", 1) => {
                Some(DataType::Int64)
            }
            (
                "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" | "Not"
                | "IsNaN" | "IsInf",
                _,
            )
            | ("Dropout", 1) => Some(DataType::Bool),
            ("ConstantOfShape", _) => {
                let filling = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
                filling.map_or(Some(DataType::Float), |tensor| DataType::try_from(tensor.data_type).ok())
            }
            ("Split" | "LSTM" | "GRU" | "RNN", _) => input(0),
            (
                "If"
                | "Loop"
                | "Scan"
                | "OneHot"
                | "EyeLike"
                | "DynamicQuantizeLinear"
                | "ConvInteger"
                | "MatMulInteger"
                | "QLinearMatMul"
                | "QLinearConv"
                | "BitCast"
                | "Multinomial",
                _,
            ) => None,
            (operator, _) if operator.starts_with("Random") || operator.contains("Window") => None,
            (_, 0) => input(0),
            _ => None,
        }
    }

    /// The sizes where an operator keeps those of its first operand.
    fn same_dims(&self, node: &NodeProto, index: usize) -> Option<Vec<Option<i64>>> {
        const KEEPING: [&str; 17] = [
            "Cast",
            "CastLike",
            "Relu",
            "Neg",
            "Abs",
            "Sqrt",
            "Exp",
            "Tanh",
            "Sigmoid",
            "Identity",
            "Softmax",
            "LayerNormalization",
            "RMSNormalization",
            "RotaryEmbedding",
            "Erf",
            "Gelu",
            "Clip",
        ];
        if index > 0 || !KEEPING.contains(&node.op_type.as_str()) {
            return None;
        }
        self.0.get(node.input.first()?)?.dims.clone()
    }
}

fn declared(value: &ValueInfoProto) -> Option<Fact> {
    let Some(TypeValue::TensorType(tensor)) = &value.r#type.as_ref()?.value else { return None };
    let dims = tensor.shape.as_ref().map(|shape| {
        let sizes = shape.dim.iter().map(|dim| match dim.value {
            Some(DimValue::DimValue(size)) if size >= 0 => Some(size),
            _ => None,
        });
        sizes.collect()
    });
    let dtype = DataType::try_from(tensor.elem_type).ok().filter(|dtype| *dtype != DataType::Undefined);
    Some(Fact { dtype, dims, ..Fact::default() })
}

fn stored(tensor: &TensorProto) -> Fact {
    let dtype = DataType::try_from(tensor.data_type).ok();
    let elements = integers(tensor);
    Fact {
        dtype,
        dims: Some(tensor.dims.iter().map(|&dim| Some(dim)).collect()),
        not_negative: elements.as_ref().is_some_and(|elements| elements.iter().all(|&element| element >= 0)),
        integers: elements.filter(|elements| elements.len() <= FEW),
        singles: singles(tensor),
        is_fixed: true,
        is_zero: is_zero(tensor),
    }
}

fn singles(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 || tensor.raw_data.len() > 4 * FEW || tensor.float_data.len() > FEW {
        return None;
    }
    let raw = tensor.raw_data.as_chunks::<4>().0.iter().map(|element| f32::from_le_bytes(*element));
    Some(raw.chain(tensor.float_data.iter().copied()).collect())
}

/// Whether a tensor of fractions has elements, and all are 0, with or without a sign.
fn is_zero(tensor: &TensorProto) -> Option<bool> {
    let TensorProto { raw_data, float_data, double_data, int32_data, .. } = tensor;
    if tensor.data_location.is_some_and(|location| location != 0) {
        return None;
    }
    let size = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Float => 4,
        DataType::Double => 8,
        _ => return Some(false),
    };
    let is_empty = raw_data.is_empty() && float_data.is_empty() && double_data.is_empty() && int32_data.is_empty();
    // The sign is the highest bit of the last byte.
    let is_nothing = |element: &[u8]| {
        element.split_last().is_some_and(|(last, rest)| last & 0x7f == 0 && rest.iter().all(|byte| *byte == 0))
    };
    let stored = raw_data.chunks(size).all(is_nothing) && int32_data.iter().all(|half| half & 0x7fff == 0);
    let listed = float_data.iter().all(|element| *element == 0.0) && double_data.iter().all(|element| *element == 0.0);
    Some(!is_empty && stored && listed)
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::AttributeProto;

    use super::*;
    use crate::proto::plain_node;
    use crate::rewrite::writer::integer;

    #[test]
    fn what_a_branch_answers_with_is_of_the_dtype_that_its_nodes_make() {
        let branch = |name: &str, to: DataType| {
            let mut cast = plain_node("Cast", &["x"], "chosen");
            cast.attribute = vec![integer("to", to as i64)];
            let output = ValueInfoProto { name: "chosen".to_owned(), ..ValueInfoProto::default() };
            let body = GraphProto { node: vec![cast], output: vec![output], ..GraphProto::default() };
            AttributeProto { name: name.to_owned(), g: Some(body), ..AttributeProto::default() }
        };
        let mut choice = plain_node("If", &["flag"], "y");
        choice.attribute = vec![branch("then_branch", DataType::Int32), branch("else_branch", DataType::Int32)];
        let graph = GraphProto { node: vec![choice, plain_node("Neg", &["y"], "z")], ..GraphProto::default() };
        let facts = Facts::default().within(&graph);
        assert_eq!([facts.dtype("y"), facts.dtype("z")], [Some(DataType::Int32); 2]);
    }
}
