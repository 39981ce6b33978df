//! Follows the rows from the inputs of a graph through all of its nodes, those in branches, bodies and functions included.

mod control;

use std::borrow::Cow;
use std::collections::HashMap;

use corymb_core::Culprit;

use super::node::{Node, Operands, stored};
use super::polynomial::{Polynomial, Symbols};
use super::rules;
use super::value::{Outcome, Refusal, Rows, Value, mixes, unknown};
use crate::file::is_standard;
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Functions that call functions are followed so deep.
const MAX_DEPTH: usize = 8;
/// Nodes that are looked at, those of bodies and functions each time: more than any model has.
const MAX_STEPS: usize = 200_000;

/// Why a value is lost.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    pub(super) culprit: Culprit,
    /// Whether rows are known to meet there.
    pub(super) mixes: bool,
}

/// The values that a graph's nodes may name.
struct Scope<'s> {
    values: HashMap<Cow<'s, str>, Value>,
    /// Those of the graph around it.
    outer: Option<&'s Scope<'s>>,
}

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.outer?.get(name))
    }
}

/// The attributes of the function call that nodes stand in.
type Given<'g> = HashMap<&'g str, &'g AttributeProto>;
/// What a call names: domain, name and overload.
type Callee<'a> = (&'a str, &'a str, &'a str);

/// One analysis of one model.
pub(super) struct Walk<'a> {
    pub(super) symbols: Symbols,
    pub(super) reasons: Vec<Reason>,
    opsets: HashMap<&'a str, i64>,
    functions: HashMap<Callee<'a>, &'a FunctionProto>,
    depth: usize,
    steps: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(model: &'a ModelProto, symbols: Symbols) -> Self {
        let functions = model
            .functions
            .iter()
            .map(|function| ((plain(&function.domain), function.name.as_str(), function.overload.as_str()), function));
        Self {
            symbols,
            reasons: Vec::new(),
            opsets: opsets(&model.opset_import),
            functions: functions.collect(),
            depth: 0,
            steps: 0,
        }
    }

    /// The outputs of the model's graph, whose inputs have these values.
    pub(super) fn model(&mut self, graph: &'a GraphProto, inputs: Vec<(&'a str, Value)>) -> Vec<Value> {
        let inputs = inputs.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        self.graph(graph, inputs, None, &Given::new())
    }

    fn graph(
        &mut self,
        graph: &GraphProto,
        inputs: Vec<(Cow<'_, str>, Value)>,
        outer: Option<&Scope<'_>>,
        given: &Given<'_>,
    ) -> Vec<Value> {
        let mut scope = Scope { values: HashMap::new(), outer };
        for tensor in &graph.initializer {
            scope.values.insert(Cow::Borrowed(&tensor.name), stored(tensor, &mut self.symbols));
        }
        for sparse in &graph.sparse_initializer {
            let Some(values) = &sparse.values else { continue };
            let shape = sparse.dims.iter().copied().map(Polynomial::constant).collect();
            scope.values.insert(Cow::Borrowed(&values.name), Value { shape: Some(shape), ..Value::opaque() });
        }
        // A value that is given goes before a stored default of its name.
        scope.values.extend(inputs);
        self.nodes(&graph.node, &mut scope, given);
        let lost = |walk: &mut Self| Value::lost(walk.reason("", "", unknown::<()>("an output is made by no node")));
        graph.output.iter().map(|output| scope.get(&output.name).cloned().unwrap_or_else(|| lost(self))).collect()
    }

    fn nodes<'s>(&mut self, nodes: &'s [NodeProto], scope: &mut Scope<'s>, given: &Given<'_>) {
        for proto in nodes {
            let values = self.node(proto, scope, given);
            for (name, value) in proto.output.iter().zip(values) {
                if !name.is_empty() {
                    scope.values.insert(Cow::Borrowed(name), value);
                }
            }
        }
    }

    fn node(&mut self, proto: &NodeProto, scope: &Scope<'_>, given: &Given<'_>) -> Vec<Value> {
        self.steps += 1;
        let label = if proto.name.is_empty() { proto.output.first().map_or("", String::as_str) } else { &proto.name };
        let operands: Option<Vec<Option<Value>>> = proto
            .input
            .iter()
            .map(|name| if name.is_empty() { Some(None) } else { Some(Some(scope.get(name)?.clone())) })
            .collect();
        let refusal: Outcome<()> = match &operands {
            _ if self.steps > MAX_STEPS => unknown("the graph is too large to be followed"),
            None => unknown("an operand is made by no node before it"),
            _ if names_twice(proto) => unknown("names an attribute twice"),
            Some(operands) => {
                let lost = operands.iter().flatten().find_map(|value| match value.rows {
                    Rows::Lost(reason) => Some(reason),
                    _ => None,
                });
                if let Some(reason) = lost {
                    return vec![Value::lost(reason); proto.output.len()];
                }
                let node = Node { proto: resolved(proto, given), opset: self.opset(&proto.domain) };
                match self.values(&node, Operands(operands), scope, given) {
                    // A model may name fewer results than an operator has; one more is none that the rule knows.
                    Ok(values) if values.len() >= node.results() => return values,
                    Ok(_) => unknown("has a result that is not known"),
                    Err(refusal) => Err(refusal),
                }
            }
        };
        let fixed = operands.is_some_and(|operands| operands.iter().flatten().all(Value::is_same));
        if fixed && rules::repeats(plain(&proto.domain), &proto.op_type) && !has_bodies(proto) {
            return vec![Value::opaque(); proto.output.len()];
        }
        let reason = self.reason(&proto.op_type, label, refusal);
        vec![Value::lost(reason); proto.output.len()]
    }

    fn reason(&mut self, operator: &str, node: &str, refusal: Outcome<()>) -> usize {
        let (reason, mixes) = match refusal {
            Err(Refusal::Mixes(reason)) => (reason, true),
            Err(Refusal::Unknown(reason)) => (reason, false),
            Ok(()) => (String::new(), false),
        };
        let culprit = Culprit { operator: operator.to_owned(), node: node.to_owned(), reason };
        self.reasons.push(Reason { culprit, mixes });
        self.reasons.len() - 1
    }

    fn opset(&self, domain: &str) -> i64 {
        let named = if is_standard(domain) {
            self.opsets.get("").or_else(|| self.opsets.get("ai.onnx"))
        } else {
            self.opsets.get(domain)
        };
        named.copied().unwrap_or_default()
    }

    fn values(
        &mut self,
        node: &Node<'_>,
        operands: Operands<'_>,
        scope: &Scope<'_>,
        given: &Given<'_>,
    ) -> Outcome<Vec<Value>> {
        let (domain, operator) = (plain(&node.proto.domain), node.operator());
        if let Some(function) = self.functions.get(&(domain, operator, node.proto.overload.as_str())).copied() {
            return self.call(function, node, operands);
        }
        if is_standard(domain) {
            match operator {
                "If" => return self.branches(node, operands, scope, given),
                "Loop" => return self.repeated(node, operands, scope, given),
                "Scan" => return self.scanned(node, operands, scope, given),
                _ => {}
            }
        }
        if rules::draws(operator) {
            return mixes("draws random numbers");
        }
        let found = match rules::rule(domain, operator) {
            Some(rule) if operands.all().any(Value::is_numbered) => {
                rules::of_numbered(rule, node, operands, &mut self.symbols)
            }
            Some(rule) => rule(node, operands, &mut self.symbols),
            None => unknown("there is no rule for what this operator does to rows"),
        };
        #[cfg(test)]
        let found = super::tests::broken::spoilt(domain, operator, operands, found);
        found
    }

    /// The body of a function that the file defines, with the operands and the attributes of its call.
    fn call(&mut self, function: &'a FunctionProto, node: &Node<'_>, operands: Operands<'_>) -> Outcome<Vec<Value>> {
        if self.depth == MAX_DEPTH {
            return unknown("functions call each other too deep");
        }
        let values = function.input.iter().zip(operands.0);
        let values = values.filter_map(|(name, value)| Some((Cow::Borrowed(name.as_str()), value.clone()?)));
        let mut scope = Scope { values: values.collect(), outer: None };
        let defaults = function.attribute_proto.iter().chain(&node.proto.attribute);
        let given: Given<'_> = defaults.map(|attribute| (attribute.name.as_str(), attribute)).collect();
        let before = std::mem::replace(&mut self.opsets, opsets(&function.opset_import));
        self.depth += 1;
        self.nodes(&function.node, &mut scope, &given);
        self.depth -= 1;
        self.opsets = before;
        let found = function.output.iter().map(|name| scope.get(name).cloned());
        found.collect::<Option<_>>().map_or_else(|| unknown("a result of its function is made by no node"), Ok)
    }
}

/// A domain, of which the standard one has two names.
fn plain(domain: &str) -> &str {
    if is_standard(domain) { "" } else { domain }
}

/// What the two mean together depends on who reads the file.
fn names_twice(proto: &NodeProto) -> bool {
    let names = || proto.attribute.iter().map(|attribute| attribute.name.as_str());
    names().enumerate().any(|(index, name)| names().take(index).any(|earlier| earlier == name))
}

fn has_bodies(proto: &NodeProto) -> bool {
    proto.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

fn opsets(imports: &[crate::proto::OperatorSetIdProto]) -> HashMap<&str, i64> {
    imports.iter().map(|set| (set.domain.as_str(), set.version)).collect()
}

/// A node of a function's body, whose attributes may be those of the call.
fn resolved<'n>(proto: &'n NodeProto, given: &Given<'_>) -> Cow<'n, NodeProto> {
    if proto.attribute.iter().all(|attribute| attribute.ref_attr_name.is_empty()) {
        return Cow::Borrowed(proto);
    }
    let mut node = proto.clone();
    node.attribute = proto
        .attribute
        .iter()
        .filter_map(|attribute| match attribute.ref_attr_name.as_str() {
            "" => Some(attribute.clone()),
            name => given.get(name).map(|found| AttributeProto { name: attribute.name.clone(), ..(*found).clone() }),
        })
        .collect();
    Cow::Owned(node)
}
