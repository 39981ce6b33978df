//! How many dimensions values have, as far as the file and the operators say: a kernel that would not fail has made no others.

use std::collections::HashMap;

use corymb_onnx::is_standard;
use corymb_onnx::proto::type_proto::Value as TypeValue;
use corymb_onnx::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

/// Operators whose result has as many dimensions as their first operand.
#[rustfmt::skip]
const KEEPING: [&str; 71] = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil",
    "Celu", "Clip", "Concat", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Dropout", "Elu", "Erf", "Exp", "Floor",
    "GatherElements", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax",
    "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax",
    "LpNormalization", "LpPool", "MaxPool", "Mish", "Neg", "Not", "Pad", "QuantizeLinear", "Reciprocal", "Relu", "Resize", "Round",
    "ScatterElements", "ScatterND", "Selu", "Sigmoid", "Sign", "Sin", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth",
    "Split", "Sqrt", "Tanh", "ThresholdedRelu", "Transpose", "Trilu",
];

/// Operators that broadcast all their operands.
#[rustfmt::skip]
const BROADCASTING: [&str; 19] = [
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or",
    "PRelu", "Pow", "Sub", "Sum", "Where",
];

/// Of values that are known at a place in the graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranks {
    of: HashMap<String, usize>,
    /// Elements of constants of one dimension.
    lengths: HashMap<String, usize>,
}

impl Ranks {
    /// With what a graph says before its nodes are read. A request is held to what the whole graph says of its inputs.
    pub(crate) fn enter(&mut self, graph: &GraphProto, is_whole: bool) {
        for tensor in &graph.initializer {
            self.stored(&tensor.name, &tensor.dims);
        }
        for input in &graph.input {
            match declared(input) {
                Some(rank) if is_whole => self.of.insert(input.name.clone(), rank),
                _ => self.of.remove(&input.name),
            };
            // A request may replace it.
            self.lengths.remove(&input.name);
        }
    }

    /// None where it is not known.
    pub(crate) fn of(&self, name: &str) -> Option<usize> {
        self.of.get(name).copied()
    }

    /// How many dimensions the first operand of a node must have for what its others, which are constant, are.
    pub(crate) fn of_constants(&self, node: &NodeProto) -> Option<usize> {
        if node.op_type != "Resize" || node.attribute.iter().any(|attribute| attribute.name == "axes") {
            return None;
        }
        // Before operator set 11 there was no region.
        let first = if node.input.len() == 2 { 1 } else { 2 };
        node.input.iter().skip(first).find_map(|name| self.lengths.get(name).copied().filter(|length| *length > 0))
    }

    /// Adds what follows for the outputs of a node.
    pub(crate) fn note(&mut self, node: &NodeProto) {
        if !is_standard(&node.domain) {
            return;
        }
        if node.op_type == "Constant" {
            if let (Some(output), Some(value)) = (node.output.first(), node.attribute.first()) {
                self.constant(output, value);
            }
            return;
        }
        let Some(rank) = self.made(node) else { return };
        let count = if node.op_type == "Split" { node.output.len() } else { 1 };
        self.of.extend(node.output.iter().take(count).map(|output| (output.clone(), rank)));
    }

    fn made(&self, node: &NodeProto) -> Option<usize> {
        let operand = |place: usize| self.of(node.input.get(place)?);
        let all = || node.input.iter().map(|name| self.of(name)).try_fold(0, |most, rank| Some(most.max(rank?)));
        match node.op_type.as_str() {
            // Both must have as many.
            "Conv" | "ConvTranspose" | "MatMulInteger" => operand(1).or_else(|| operand(0)).filter(|rank| *rank > 1),
            "Concat" => node.input.iter().find_map(|name| self.of(name)),
            "MatMul" => all().filter(|_| operand(0) > Some(1) && operand(1) > Some(1)),
            "Gemm" | "Flatten" | "NonZero" => Some(2),
            "Shape" => Some(1),
            "Size" => Some(0),
            "Gather" => Some((operand(0)? + operand(1)?).saturating_sub(1)),
            "Reshape" => self.lengths.get(node.input.get(1)?).copied(),
            "Unsqueeze" => Some(operand(0)? + self.axes(node)?),
            "Squeeze" => operand(0)?.checked_sub(self.axes(node)?),
            operator if KEEPING.contains(&operator) => operand(0),
            operator if BROADCASTING.contains(&operator) => all(),
            operator if operator.starts_with("Reduce") => {
                let keeps = node.attribute.iter().find(|attribute| attribute.name == "keepdims");
                operand(0).filter(|_| keeps.is_none_or(|keeps| keeps.i != Some(0)))
            }
            _ => None,
        }
    }

    /// How many axes a node names.
    fn axes(&self, node: &NodeProto) -> Option<usize> {
        let listed = node.attribute.iter().find(|attribute| attribute.name == "axes").map(|axes| axes.ints.len());
        listed.or_else(|| self.lengths.get(node.input.get(1)?).copied())
    }

    fn constant(&mut self, output: &str, value: &AttributeProto) {
        let tensor = value.t.as_ref();
        match (value.name.as_str(), tensor) {
            ("value", Some(tensor)) => self.stored(output, &tensor.dims),
            ("value_ints", _) => self.stored(output, &[value.ints.len() as i64]),
            ("value_floats", _) => self.stored(output, &[value.floats.len() as i64]),
            ("value_int" | "value_float", _) => self.stored(output, &[]),
            _ => {}
        }
    }

    fn stored(&mut self, name: &str, dims: &[i64]) {
        self.of.insert(name.to_owned(), dims.len());
        if let [length] = dims {
            self.lengths.insert(name.to_owned(), usize::try_from(*length).unwrap_or_default());
        }
    }
}

fn declared(value: &ValueInfoProto) -> Option<usize> {
    let Some(TypeValue::TensorType(tensor)) = &value.r#type.as_ref()?.value else { return None };
    Some(tensor.shape.as_ref()?.dim.len())
}

#[cfg(test)]
mod tests {
    use corymb_onnx::proto::TensorProto;

    use super::*;

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        let input = inputs.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: operator.to_owned(), input, output: vec![output.to_owned()], ..NodeProto::default() }
    }

    #[test]
    fn what_a_picture_becomes_keeps_its_dimensions() {
        let stored = |name: &str, dims: &[i64]| TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            ..TensorProto::default()
        };
        let initializer =
            vec![stored("w", &[8, 3, 3, 3]), stored("b", &[8, 1, 1]), stored("scales", &[4]), stored("to", &[2])];
        let mut ranks = Ranks::default();
        ranks.enter(&GraphProto { initializer, ..GraphProto::default() }, true);
        for (operator, inputs, output, rank) in [
            ("Conv", &["x", "w"][..], "c", Some(4)),
            ("Relu", &["c"], "r", Some(4)),
            ("Add", &["r", "b"], "a", Some(4)),
            ("Add", &["r", "x"], "open", None),
            ("Resize", &["a", "", "scales"], "large", Some(4)),
            ("Reshape", &["a", "to"], "flat", Some(2)),
            ("Unsqueeze", &["flat", "to"], "wide", Some(4)),
            ("Squeeze", &["wide", "to"], "thin", Some(2)),
            ("Squeeze", &["wide"], "any", None),
            ("MatMul", &["thin", "flat"], "product", Some(2)),
        ] {
            let made = node(operator, inputs, output);
            if operator == "Resize" {
                assert_eq!(ranks.of_constants(&made), Some(4));
            }
            ranks.note(&made);
            assert_eq!(ranks.of(output), rank, "{output}");
        }
    }
}
