//! Functions that the file defines: each call is replaced by the function's nodes.

use std::collections::{HashMap, HashSet};

use corymb_onnx::is_standard;
use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::writer::standing_for;
use crate::proto::{label, standard_opset, subgraphs, subgraphs_mut};

/// Replaces the calls of all functions that can be. What is left over is refused as a function.
pub(super) fn inline(model: &mut ModelProto) {
    // A function that shadows a standard operator is refused: engines disagree about what that means.
    if model.functions.is_empty() || model.functions.iter().any(|function| is_standard(function.domain())) {
        return;
    }
    let opset = standard_opset(model);
    let functions = std::mem::take(&mut model.functions);
    if let Some(graph) = &mut model.graph {
        let mut inliner = Inliner { opset, functions: &functions, calls: 0, gave_up: false };
        inliner.graph(graph);
        if !inliner.gave_up {
            return;
        }
    }
    model.functions = functions;
}

struct Inliner<'a> {
    opset: i64,
    functions: &'a [FunctionProto],
    calls: usize,
    gave_up: bool,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut GraphProto) {
        let nodes = std::mem::take(&mut graph.node);
        graph.node = self.nodes(nodes);
    }

    fn nodes(&mut self, nodes: Vec<NodeProto>) -> Vec<NodeProto> {
        let mut written = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            for subgraph in subgraphs_mut(&mut node) {
                self.graph(subgraph);
            }
            let called = self
                .functions
                .iter()
                .find(|function| function.name() == node.op_type && function.domain() == node.domain);
            match called {
                None => written.push(node),
                Some(function) if self.may(function, &node) => {
                    let body = self.body(function, &node);
                    written.extend(self.nodes(body));
                }
                Some(_) => {
                    self.gave_up = true;
                    written.push(node);
                }
            }
        }
        written
    }

    /// Whether the function means the same in the model's operator set. tract's messages have no defaults of a function's
    /// attributes: one that is left to its default is not known. That there is room for all was checked with the file.
    fn may(&mut self, function: &FunctionProto, call: &NodeProto) -> bool {
        let same = |set: &tract_onnx::pb::OperatorSetIdProto| !is_standard(&set.domain) || set.version == self.opset;
        let known = |name: &String| {
            function.attribute.contains(name) || call.attribute.iter().any(|attribute| attribute.name == *name)
        };
        let fits = function.opset_import.iter().all(same)
            && function.node.iter().flat_map(references).all(|name| known(&name));
        if fits {
            self.calls += 1;
        }
        fits
    }

    fn body(&self, function: &FunctionProto, call: &NodeProto) -> Vec<NodeProto> {
        let missing = String::new();
        let inputs = function.input.iter().enumerate().map(|(index, name)| (name, call.input.get(index)));
        let mut names: HashMap<&str, String> =
            inputs.map(|(name, given)| (name.as_str(), given.unwrap_or(&missing).clone())).collect();
        let outputs = function.output.iter().zip(&call.output).filter(|(_, wanted)| !wanted.is_empty());
        let passed: HashSet<&str> = names.keys().copied().collect();
        let mut aliases = Vec::new();
        for (name, wanted) in outputs {
            // An output that is an input, or that is asked for twice, needs a node of its own.
            if passed.contains(name.as_str()) || names.contains_key(name.as_str()) {
                aliases.push((name, wanted));
            } else {
                names.insert(name, wanted.clone());
            }
        }
        let (prefix, node) = (format!("corymb.call{}", self.calls), format!("{}.{}", standing_for(call), self.calls));
        let scope = Scope { names, prefix, node };
        let mut nodes: Vec<NodeProto> = function.node.clone();
        for node in &mut nodes {
            scope.rename_node(node);
            fill(node, call);
        }
        nodes.extend(aliases.into_iter().map(|(name, wanted)| NodeProto {
            name: format!("{}.{wanted}", scope.node),
            op_type: "Identity".to_owned(),
            input: vec![scope.renamed(name)],
            output: vec![wanted.clone()],
            ..NodeProto::default()
        }));
        nodes
    }
}

/// How the names of a function's values are called around the call.
struct Scope<'a> {
    names: HashMap<&'a str, String>,
    prefix: String,
    /// What the names of its nodes begin with.
    node: String,
}

impl Scope<'_> {
    fn renamed(&self, name: &str) -> String {
        match self.names.get(name) {
            Some(known) => known.clone(),
            None if name.is_empty() => String::new(),
            None => format!("{}.{name}", self.prefix),
        }
    }

    fn rename_node(&self, node: &mut NodeProto) {
        node.name = format!("{}.{}", self.node, label(node));
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = self.renamed(name);
        }
        for graph in subgraphs_mut(node) {
            for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
                value.name = self.renamed(&value.name);
            }
            for tensor in &mut graph.initializer {
                tensor.name = self.renamed(&tensor.name);
            }
            graph.node.iter_mut().for_each(|node| self.rename_node(node));
        }
    }
}

/// The attributes of the function that a node of its body names.
fn references(node: &NodeProto) -> Vec<String> {
    let own = node.attribute.iter().map(|attribute| attribute.ref_attr_name.clone()).filter(|name| !name.is_empty());
    own.chain(subgraphs(node).flat_map(|graph| graph.node.iter().flat_map(references))).collect()
}

/// Puts the attributes that the call gives where a node of the function names them. One that is not given is left out.
fn fill(node: &mut NodeProto, call: &NodeProto) {
    let attributes = std::mem::take(&mut node.attribute);
    node.attribute = attributes
        .into_iter()
        .filter_map(|attribute| {
            if attribute.ref_attr_name.is_empty() {
                return Some(attribute);
            }
            let value = call.attribute.iter().find(|given| given.name == attribute.ref_attr_name)?;
            Some(AttributeProto { name: attribute.name, ..value.clone() })
        })
        .collect();
    for graph in subgraphs_mut(node) {
        graph.node.iter_mut().for_each(|node| fill(node, call));
    }
}
