//! Follows the rows from the inputs of a graph through all of its nodes, those in branches, bodies and functions included.

use std::borrow::Cow;
use std::collections::HashMap;

use corymb_core::Culprit;

use super::node::{Node, Operands, stored};
use super::polynomial::{Kind, Polynomial, Symbols};
use super::rules;
use super::value::{Outcome, Place, Refusal, Rows, Shape, Value, axis_of, mixes, unknown};
use crate::file::{constants, is_standard};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// Functions that call functions are followed so deep.
const MAX_DEPTH: usize = 8;
/// Nodes that are looked at, those of bodies and functions each time: more than any model has.
const MAX_STEPS: usize = 200_000;
/// How often a loop's body is followed until what it carries does not change any more.
const MAX_ROUNDS: usize = 4;

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

/// One analysis of one model.
pub(super) struct Walk<'a> {
    pub(super) symbols: Symbols,
    pub(super) reasons: Vec<Reason>,
    opsets: HashMap<&'a str, i64>,
    functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    depth: usize,
    steps: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(model: &'a ModelProto, symbols: Symbols) -> Self {
        let functions =
            model.functions.iter().map(|function| ((function.domain.as_str(), function.name.as_str()), function));
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
        self.graph(graph, inputs.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect(), None)
    }

    fn graph(
        &mut self,
        graph: &GraphProto,
        inputs: Vec<(Cow<'_, str>, Value)>,
        outer: Option<&Scope<'_>>,
    ) -> Vec<Value> {
        let mut scope = Scope { values: HashMap::new(), outer };
        for tensor in &graph.initializer {
            scope.values.insert(Cow::Borrowed(&tensor.name), stored(tensor, &mut self.symbols));
        }
        for sparse in constants(graph).skip(graph.initializer.len()) {
            scope.values.insert(Cow::Borrowed(sparse), Value::opaque());
        }
        // A value that is given goes before a stored default of its name.
        scope.values.extend(inputs);
        self.nodes(&graph.node, &mut scope, &HashMap::new());
        let lost = |walk: &mut Self| Value::lost(walk.reason("", "", unknown::<()>("an output is made by no node")));
        graph.output.iter().map(|output| scope.get(&output.name).cloned().unwrap_or_else(|| lost(self))).collect()
    }

    fn nodes<'s>(&mut self, nodes: &'s [NodeProto], scope: &mut Scope<'s>, given: &HashMap<&str, &AttributeProto>) {
        for proto in nodes {
            let values = self.node(proto, scope, given);
            for (name, value) in proto.output.iter().zip(values) {
                if !name.is_empty() {
                    scope.values.insert(Cow::Borrowed(name), value);
                }
            }
        }
    }

    fn node(&mut self, proto: &NodeProto, scope: &Scope<'_>, given: &HashMap<&str, &AttributeProto>) -> Vec<Value> {
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
            Some(operands) => {
                let lost = operands.iter().flatten().find_map(|value| match value.rows {
                    Rows::Lost(reason) => Some(reason),
                    _ => None,
                });
                if let Some(reason) = lost {
                    return vec![Value::lost(reason); proto.output.len()];
                }
                let node = Node { proto: resolved(proto, given), opset: self.opset(&proto.domain) };
                match self.values(&node, Operands(operands), scope) {
                    // A model may name fewer results than an operator has; one more is none that the rule knows.
                    Ok(values) if values.len() >= node.results() => return values,
                    Ok(_) => unknown("has a result that is not known"),
                    Err(refusal) => Err(refusal),
                }
            }
        };
        let fixed = operands.is_some_and(|operands| operands.iter().flatten().all(Value::is_same));
        if fixed && rules::repeats(&proto.domain, &proto.op_type) && !has_bodies(proto) {
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

    fn values(&mut self, node: &Node<'_>, operands: Operands<'_>, scope: &Scope<'_>) -> Outcome<Vec<Value>> {
        let (domain, operator) = (node.proto.domain.as_str(), node.operator());
        if let Some(function) = self.functions.get(&(domain, operator)).copied() {
            return self.call(function, node, operands);
        }
        if is_standard(domain) {
            match operator {
                "If" => return self.branches(node, operands, scope),
                "Loop" => return self.repeated(node, operands, scope),
                "Scan" => return self.scanned(node, operands, scope),
                _ => {}
            }
        }
        if !rules::repeats(domain, operator) && is_standard(domain) {
            return mixes("draws random numbers");
        }
        match rules::rule(domain, operator) {
            Some(rule) => rule(node, operands, &mut self.symbols),
            None => unknown("there is no rule for what this operator does to rows"),
        }
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
        let given: HashMap<&str, &AttributeProto> =
            defaults.map(|attribute| (attribute.name.as_str(), attribute)).collect();
        let before = std::mem::replace(&mut self.opsets, opsets(&function.opset_import));
        self.depth += 1;
        self.nodes(&function.node, &mut scope, &given);
        self.depth -= 1;
        self.opsets = before;
        let found = function.output.iter().map(|name| scope.get(name).cloned());
        found.collect::<Option<_>>().map_or_else(|| unknown("a result of its function is made by no node"), Ok)
    }

    fn branches(&mut self, node: &Node<'_>, operands: Operands<'_>, scope: &Scope<'_>) -> Outcome<Vec<Value>> {
        let condition = operands.required(0)?;
        let (Some(yes), Some(no)) = (node.graph("then_branch"), node.graph("else_branch")) else {
            return unknown("a branch is missing");
        };
        if let Some([chosen]) = condition.constants().as_deref() {
            let taken = if *chosen != 0 { yes } else { no };
            return Ok(self.graph(taken, Vec::new(), Some(scope)));
        }
        if !condition.is_same() {
            return mixes("one branch is taken for all rows, by a condition that comes from them");
        }
        let (yes, no) = (self.graph(yes, Vec::new(), Some(scope)), self.graph(no, Vec::new(), Some(scope)));
        let at = self.steps;
        yes.into_iter().zip(no).enumerate().map(|(index, (yes, no))| self.either(yes, no, (at, index))).collect()
    }

    /// What is known of a value that is one or the other: sizes that differ are a symbol of this place.
    fn either(&mut self, one: Value, two: Value, at: (usize, usize)) -> Outcome<Value> {
        if one == two {
            return Ok(one);
        }
        if matches!(one.rows, Rows::Lost(_)) {
            return Ok(one);
        }
        if matches!(two.rows, Rows::Lost(_)) {
            return Ok(two);
        }
        let place = match (one.place(), two.place()) {
            (None, None) if one.is_same() && two.is_same() => None,
            (Some(one), Some(two)) if one == two => Some(one.clone()),
            _ => return unknown("its rows are now here and now there"),
        };
        let (Some(one), Some(two)) = (one.shape, two.shape) else { return Ok(Value::opaque()) };
        if one.len() != two.len() {
            return if place.is_none() { Ok(Value::opaque()) } else { unknown("its shape is now this and now that") };
        }
        let size = |(axis, (one, two)): (usize, (Polynomial, Polynomial))| match one == two {
            true => Ok(one),
            false if place.as_ref().is_some_and(|place| place.axis == axis) => {
                unknown("its rows are now wider and now narrower")
            }
            false => Ok(self.symbols.named(format!("either {at:?} {axis}"), Kind::Size)),
        };
        let shape: Shape = one.into_iter().zip(two).enumerate().map(size).collect::<Outcome<_>>()?;
        Value::of(shape, place)
    }

    fn repeated(&mut self, node: &Node<'_>, operands: Operands<'_>, scope: &Scope<'_>) -> Outcome<Vec<Value>> {
        let Some(body) = node.graph("body") else { return unknown("its body is missing") };
        for index in [0, 1] {
            if operands.get(index).is_some_and(|value| !value.is_same()) {
                return mixes("how often it repeats comes from the rows");
            }
        }
        let mut carried: Vec<Value> =
            operands.0.get(2..).unwrap_or_default().iter().flatten().map(without_numbers).collect();
        let at = self.steps;
        let names = body.input.iter().map(|input| input.name.as_str());
        for _ in 0..MAX_ROUNDS {
            // The turn and the condition: both are the same for all rows, as was just seen.
            let single = || Value { shape: Some(Vec::new()), ..Value::opaque() };
            let values = [single(), single()].into_iter().chain(carried.iter().cloned());
            let inputs = names.clone().map(Cow::Borrowed).zip(values).collect();
            let mut results = self.graph(body, inputs, Some(scope));
            if results.len() <= carried.len() {
                return unknown("its body has other results than it carries");
            }
            let collected = results.split_off(carried.len() + 1);
            let goes_on = results.remove(0);
            if !goes_on.is_same() {
                return match goes_on.rows {
                    Rows::Lost(reason) => Err(self.refusal(reason)),
                    _ => mixes("how often it repeats comes from the rows"),
                };
            }
            let joined = carried.iter().cloned().zip(results).enumerate();
            let joined =
                joined.map(|(index, (before, after))| self.either(before, without_numbers(&after), (at, index)));
            let joined: Vec<Value> = joined.collect::<Outcome<_>>()?;
            if joined == carried {
                let collected = collected.into_iter().map(|value| self.collected(&value, 0));
                return joined.into_iter().map(Ok).chain(collected).collect();
            }
            carried = joined;
        }
        unknown("what it carries changes its shape in each turn")
    }

    fn refusal(&self, reason: usize) -> Refusal {
        match self.reasons.get(reason) {
            Some(Reason { culprit, mixes: true }) => Refusal::Mixes(culprit.to_string()),
            Some(Reason { culprit, .. }) => Refusal::Unknown(culprit.to_string()),
            None => Refusal::Unknown(String::new()),
        }
    }

    /// The results of all turns one after the other, along a new axis.
    fn collected(&mut self, value: &Value, axis: usize) -> Outcome<Value> {
        if value.rows == Rows::Count {
            return mixes("collects the number of rows");
        }
        if let Rows::Lost(reason) = value.rows {
            return Ok(Value::lost(reason));
        }
        let Some(shape) = &value.shape else { return Ok(Value::opaque()) };
        if axis > shape.len() {
            return unknown("its axis is outside of its result");
        }
        let mut shape = shape.clone();
        shape.insert(axis, self.symbols.fresh(Kind::Size));
        let place = value.place().map(|place: &Place| place.moved(place.axis + usize::from(place.axis >= axis)));
        Value::of(shape, place)
    }

    fn scanned(&mut self, node: &Node<'_>, operands: Operands<'_>, scope: &Scope<'_>) -> Outcome<Vec<Value>> {
        /// Before this operator set a scan had a batch of its own.
        const WITHOUT_BATCH: i64 = 9;
        let (Some(body), Some(count)) =
            (node.graph("body"), node.integer("num_scan_inputs").and_then(|count| usize::try_from(count).ok()))
        else {
            return unknown("its body is missing");
        };
        if node.opset < WITHOUT_BATCH {
            return unknown("is a scan of an old operator set");
        }
        let all: Vec<&Value> = operands.all().collect();
        let Some((states, scanned)) = all.len().checked_sub(count).map(|states| all.split_at(states)) else {
            return unknown("it has fewer operands than it scans");
        };
        let axes = node.integers("scan_input_axes").unwrap_or_default();
        let slices =
            scanned.iter().enumerate().map(|(index, value)| slice(value, axes.get(index).copied().unwrap_or(0)));
        let slices: Vec<Value> = slices.collect::<Outcome<_>>()?;
        let mut carried: Vec<Value> = states.iter().map(|value| without_numbers(value)).collect();
        let at = self.steps;
        let names = body.input.iter().map(|input| Cow::Borrowed(input.name.as_str()));
        for _ in 0..MAX_ROUNDS {
            let inputs = names.clone().zip(carried.iter().chain(&slices).cloned()).collect();
            let mut results = self.graph(body, inputs, Some(scope));
            if results.len() < carried.len() {
                return unknown("its body has other results than it carries");
            }
            let behind = results.split_off(carried.len());
            let joined = carried.iter().cloned().zip(results).enumerate();
            let joined =
                joined.map(|(index, (before, after))| self.either(before, without_numbers(&after), (at, index)));
            let joined: Vec<Value> = joined.collect::<Outcome<_>>()?;
            if joined == carried {
                let axes = node.integers("scan_output_axes").unwrap_or_default();
                let collected = behind.into_iter().enumerate().map(|(index, value)| {
                    let rank = value.shape.as_ref().map_or(0, Vec::len) + 1;
                    let axis = axis_of(axes.get(index).copied().unwrap_or(0), rank)?;
                    self.collected(&value, axis)
                });
                return joined.into_iter().map(Ok).chain(collected).collect();
            }
            carried = joined;
        }
        unknown("what it carries changes its shape in each turn")
    }
}

/// One element of an axis.
fn slice(value: &Value, axis: i64) -> Outcome<Value> {
    if value.rows == Rows::Count {
        return mixes("goes through the number of rows");
    }
    let mut shape = value.shape()?.to_vec();
    let axis = axis_of(axis, shape.len())?;
    if value.place().is_some_and(|place| place.axis == axis) {
        return mixes("goes through the rows one after the other");
    }
    shape.remove(axis);
    Value::of(shape, value.place().map(|place| place.moved(place.axis - usize::from(place.axis > axis))))
}

/// Numbers that change in each turn of a loop are not followed.
fn without_numbers(value: &Value) -> Value {
    match value.rows {
        Rows::Same => Value { numbers: None, ..value.clone() },
        _ => value.clone(),
    }
}

fn has_bodies(proto: &NodeProto) -> bool {
    proto.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

fn opsets(imports: &[crate::proto::OperatorSetIdProto]) -> HashMap<&str, i64> {
    imports.iter().map(|set| (set.domain.as_str(), set.version)).collect()
}

/// A node of a function's body, whose attributes may be those of the call.
fn resolved<'n>(proto: &'n NodeProto, given: &HashMap<&str, &AttributeProto>) -> Cow<'n, NodeProto> {
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
