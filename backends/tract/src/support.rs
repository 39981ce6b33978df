//! What tract cannot run, or would run wrongly without a word: named by operator, domain and node.
//!
//! tract looks operators up by name alone. `mistakes.rs` has the rules for single operators and for element types.

use std::collections::HashSet;

use corymb_core::UnsupportedOperator;
use corymb_onnx::{is_standard, report};
use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use crate::mistakes::{self, Surroundings, unread};
use crate::proto::{label, standard_opset, subgraphs};
use crate::values::FromValues;

/// The newest operator set whose operators are known to keep the meaning that tract gives them.
const NEWEST_OPSET: i64 = 28;
/// The newest version of the file format whose new features are looked for below.
const NEWEST_IR: i64 = 14;

/// Nodes of a graph that is planned: the time grows with the square of their number, 5 s for 30,000 and 60 s for 100,000.
const MAX_NODES: usize = 50_000;

/// Operators of `ai.onnx.ml`; a name of that domain means nothing in the standard one, and the other way round.
const ML_OPERATORS: [&str; 5] =
    ["CategoryMapper", "LinearClassifier", "LinearRegressor", "Normalizer", "TreeEnsembleClassifier"];

/// Lists what `model` holds that tract cannot be trusted with; empty when there is nothing known against it.
pub(crate) fn unsupported_parts(model: &ModelProto, operators: &OnnxOpRegister) -> Vec<UnsupportedOperator> {
    let mut reports = Vec::new();
    for set in model.opset_import.iter().filter(|set| is_standard(&set.domain)) {
        if set.version > NEWEST_OPSET {
            let reason = format!("version {} is newer than {NEWEST_OPSET}, the newest known", set.version);
            reports.push(report("Operator set", "", &reason));
        }
    }
    if model.ir_version > NEWEST_IR {
        let reason = format!("version {} is newer than {NEWEST_IR}, the newest known", model.ir_version);
        reports.push(report("File format", "", &reason));
    }
    let functions: HashSet<(&str, &str)> =
        model.functions.iter().map(|function| (function.domain(), function.name())).collect();
    if let Some(graph) = &model.graph {
        let nodes = nodes(graph);
        if nodes > MAX_NODES {
            let reason = format!("has {nodes} nodes; beyond {MAX_NODES} tract plans for minutes");
            reports.push(report("Graph", "", &reason));
            return reports;
        }
        let walk = Walk { operators, functions, opset: standard_opset(model) };
        walk.graph(graph, None, &mut reports);
    }
    reports
}

/// Those of inner graphs included.
fn nodes(graph: &GraphProto) -> usize {
    graph.node.len() + graph.node.iter().flat_map(subgraphs).map(nodes).sum::<usize>()
}

struct Walk<'a> {
    operators: &'a OnnxOpRegister,
    functions: HashSet<(&'a str, &'a str)>,
    opset: i64,
}

impl<'a> Walk<'a> {
    /// Protobuf's decoder bounds how deep graphs nest.
    fn graph(&self, graph: &'a GraphProto, outer: Option<&FromValues<'a>>, reports: &mut Vec<UnsupportedOperator>) {
        if !graph.sparse_initializer.is_empty() {
            reports.push(report("Sparse initializer", "", "tract reads dense tensors only"));
        }
        for tensor in &graph.initializer {
            if let Some(reason) = unread(tensor.data_type) {
                reports.push(report("Initializer", &tensor.name, reason));
            }
        }
        let around = Surroundings::of(graph, self.opset);
        let values = FromValues::of(graph, outer);
        for node in &graph.node {
            let reason = self.node(node, &around).or_else(|| values.report(node).map(str::to_owned));
            if let Some(reason) = reason {
                reports.push(UnsupportedOperator {
                    operator: node.op_type.clone(),
                    domain: node.domain.clone(),
                    node: label(node).to_owned(),
                    reason,
                });
            }
            for subgraph in subgraphs(node) {
                self.graph(subgraph, Some(&values), reports);
            }
        }
    }

    fn node(&self, node: &NodeProto, around: &Surroundings<'_>) -> Option<String> {
        let (domain, operator) = (node.domain.as_str(), node.op_type.as_str());
        if self.functions.contains(&(domain, operator)) {
            return Some("is a function that the file defines, and tract reads none".to_owned());
        }
        let is_ml = ML_OPERATORS.contains(&operator);
        if domain == "ai.onnx.ml" {
            if operator == "ZipMap" {
                return Some(
                    "makes maps, which no tensor holds: convert the model without it (skl2onnx: zipmap=False)"
                        .to_owned(),
                );
            }
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
        let constants = node.attribute.iter().filter_map(|attribute| attribute.t.as_ref());
        let unread = constants.filter_map(|tensor| unread(tensor.data_type)).next();
        unread.map(|what| format!("holds what tract does not read: {what}")).or_else(|| mistakes::known(node, around))
    }
}
