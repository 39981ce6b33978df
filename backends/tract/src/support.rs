//! What tract cannot run, or would run wrongly without a word: named by operator, domain and node.
//!
//! tract looks operators up by name alone. The rest of the table was found by comparing its answers with ONNX
//! Runtime's on small models, tract 0.23.9.

use std::collections::{HashMap, HashSet};

use corymb_core::UnsupportedOperator;
use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use crate::proto::{is_standard, subgraphs, text_attribute};
use crate::signature::unsupported;

/// The newest operator set whose operators are known to keep the meaning that tract gives them.
const NEWEST_OPSET: i64 = 28;
/// The newest version of the file format whose new features are looked for below.
const NEWEST_IR: i64 = 14;
/// The largest constant that the file may ask for by its shape alone: it would be allocated while loading.
const MAX_FILLED_BYTES: u64 = 1 << 30;
/// The widest element of such a constant.
const WIDEST_ELEMENT: u64 = 8;

/// Operators of `ai.onnx.ml`; a name of that domain means nothing in the standard one, and the other way round.
const ML_OPERATORS: [&str; 5] =
    ["CategoryMapper", "LinearClassifier", "LinearRegressor", "Normalizer", "TreeEnsembleClassifier"];

/// Lists what `model` holds that tract cannot be trusted with; empty when there is nothing known against it.
pub(crate) fn unsupported_parts(model: &ModelProto, operators: &OnnxOpRegister) -> Vec<UnsupportedOperator> {
    let mut reports = Vec::new();
    for set in model.opset_import.iter().filter(|set| is_standard(&set.domain)) {
        if set.version > NEWEST_OPSET {
            let reason = format!("version {} is newer than {NEWEST_OPSET}, the newest known", set.version);
            reports.push(unsupported("Operator set", "", &reason));
        }
    }
    if model.ir_version > NEWEST_IR {
        let reason = format!("version {} is newer than {NEWEST_IR}, the newest known", model.ir_version);
        reports.push(unsupported("File format", "", &reason));
    }
    let functions: HashSet<(&str, &str)> =
        model.functions.iter().map(|function| (function.domain(), function.name())).collect();
    if let Some(graph) = &model.graph {
        let walk = Walk { operators, functions };
        walk.graph(graph, &mut reports);
    }
    reports
}

struct Walk<'a> {
    operators: &'a OnnxOpRegister,
    functions: HashSet<(&'a str, &'a str)>,
}

impl Walk<'_> {
    /// Protobuf's decoder bounds how deep graphs nest.
    fn graph(&self, graph: &GraphProto, reports: &mut Vec<UnsupportedOperator>) {
        if !graph.sparse_initializer.is_empty() {
            reports.push(unsupported("Sparse initializer", "", "tract reads dense tensors only"));
        }
        for tensor in &graph.initializer {
            if let Some(reason) = unreadable(tensor) {
                reports.push(unsupported("Initializer", &tensor.name, reason));
            }
        }
        let wires = Wires::of(graph);
        for node in &graph.node {
            if let Some(reason) = self.node(node, &wires) {
                reports.push(UnsupportedOperator {
                    operator: node.op_type.clone(),
                    domain: node.domain.clone(),
                    node: node.name.clone(),
                    reason,
                });
            }
            for subgraph in subgraphs(node) {
                self.graph(subgraph, reports);
            }
        }
    }

    fn node(&self, node: &NodeProto, wires: &Wires<'_>) -> Option<String> {
        let (domain, operator) = (node.domain.as_str(), node.op_type.as_str());
        if self.functions.contains(&(domain, operator)) {
            return Some("is a function that the file defines, and tract reads none".to_owned());
        }
        let is_ml = ML_OPERATORS.contains(&operator);
        if domain == "ai.onnx.ml" {
            if !is_ml {
                return Some("tract has no such operator".to_owned());
            }
        } else if !is_standard(domain) {
            return Some(
                "is of a domain that tract ignores: it would run the standard operator of that name".to_owned(),
            );
        } else if is_ml || !self.operators.0.contains_key(operator) {
            return Some("tract has no such operator".to_owned());
        }
        wrong_without_a_word(node, wires).map(str::to_owned).or_else(|| filled(node, wires))
    }
}

/// Constants and neighbours, by the names of values.
struct Wires<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    makers: HashMap<&'a str, &'a NodeProto>,
    quantized: HashSet<&'a str>,
}

impl<'a> Wires<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let mut constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut makers = HashMap::new();
        let mut quantized = HashSet::new();
        for node in &graph.node {
            for output in &node.output {
                makers.insert(output.as_str(), node);
            }
            match node.op_type.as_str() {
                "QuantizeLinear" => quantized.extend(node.input.first().map(String::as_str)),
                "Constant" => {
                    let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
                    constants.extend(node.output.first().map(String::as_str).zip(value));
                }
                _ => {}
            }
        }
        Self { constants, makers, quantized }
    }
}

fn wrong_without_a_word(node: &NodeProto, wires: &Wires<'_>) -> Option<&'static str> {
    match node.op_type.as_str() {
        "RNN" | "GRU" | "LSTM" if text_attribute(node, "direction") == Some("reverse") => {
            Some("direction 'reverse' gives wrong values in tract")
        }
        "GRU" if node.input.get(4).is_some_and(|lengths| !lengths.is_empty()) => Some("tract has no sequence_lens"),
        "TreeEnsembleClassifier" => {
            let classes = node.attribute.iter().filter(|attribute| attribute.name.starts_with("classlabels_"));
            let most = classes.map(|labels| labels.ints.len().max(labels.strings.len())).max().unwrap_or(0);
            (most <= 2).then_some("with two classes the label is always the first one in tract")
        }
        "Softmax" => {
            let made_by = |name: &String| wires.makers.get(name.as_str()).map(|node| node.op_type.as_str());
            let dequantized = node.input.first().and_then(made_by) == Some("DequantizeLinear");
            let requantized = node.output.first().is_some_and(|output| wires.quantized.contains(output.as_str()));
            (dequantized && requantized)
                .then_some("between DequantizeLinear and QuantizeLinear all outputs are 127 in tract")
        }
        _ => None,
    }
}

/// A constant that a few bytes of shape blow up.
fn filled(node: &NodeProto, wires: &Wires<'_>) -> Option<String> {
    if !matches!(node.op_type.as_str(), "ConstantOfShape" | "Expand") {
        return None;
    }
    let shape = wires.constants.get(node.input.last()?.as_str())?;
    let dims: Vec<i64> = if shape.raw_data.is_empty() {
        shape.int64_data.clone()
    } else {
        let (dims, _) = shape.raw_data.as_chunks::<8>();
        dims.iter().map(|dim| i64::from_le_bytes(*dim)).collect()
    };
    let bytes = dims
        .iter()
        .try_fold(WIDEST_ELEMENT, |bytes, &dim| bytes.checked_mul(dim.max(1).unsigned_abs()))
        .filter(|&bytes| bytes <= MAX_FILLED_BYTES);
    bytes.is_none().then(|| format!("asks for a tensor of shape {dims:?}; at most {MAX_FILLED_BYTES} bytes are filled"))
}

fn unreadable(tensor: &TensorProto) -> Option<&'static str> {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::String) => Some("holds text, and tract has no operators on text"),
        Ok(DataType::Bfloat16) => Some("is bfloat16, which tract does not read"),
        Ok(DataType::Int4 | DataType::Uint4) => Some("has elements of 4 bits, which tract does not read"),
        Ok(
            DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz
            | DataType::Float4e2m1,
        ) => Some("has floating-point elements of 8 bits or less, which tract does not read"),
        Ok(DataType::Complex64 | DataType::Complex128) => Some("holds complex numbers, which tract does not read"),
        Ok(DataType::Undefined) | Err(_) => Some("has an unknown element type"),
        Ok(_) => None,
    }
}
