//! What a graph costs before its first request: engines compute what no request changes while they load it.
//!
//! A graph of a few hundred bytes may ask for hours of that. So what follows from the file alone is followed, with sizes as far
//! as they are known (`value.rs`, `rules.rs`, `node.rs`), and its cost is added up. What is not known counts as much.

mod node;
mod numbers;
mod rules;
mod stored;
mod value;

use std::collections::HashMap;

use self::node::Steps;
use self::stored::Attributes;
use self::value::{Fed, Fixed, Value};
use crate::file::{is_standard, label, subgraphs};
use crate::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

/// Steps of computing that every graph may take: a few seconds of one core.
const STEPS: u64 = 1 << 33;
/// Steps for each stored element: what is computed of weights.
const STEPS_OF_ELEMENT: u64 = 1 << 6;
/// Elements that the values of every graph may have together, and those for each stored element.
const ELEMENTS: u64 = 1 << 24;
const ELEMENTS_OF_ELEMENT: u64 = 8;
/// Dimensions of a value: engines keep those of each.
const MAX_RANK: u64 = 64;
/// Those of what the graph does not tell.
const USUAL_RANK: u64 = 8;

/// The node, as `'name' (Operator)`, that may keep an engine busy for long while it loads the model; none where the size of the
/// file bounds the cost.
#[must_use]
pub fn costly_load(model: &ModelProto) -> Option<String> {
    let graph = model.graph.as_ref()?;
    let functions = model.functions.iter();
    let functions = functions.map(|function| ((plain(&function.domain), function.name.as_str()), function)).collect();
    let mut walk = Walk { functions, stored: 0, steps: 0, elements: 0, dearest: None, largest: None, depth: 0 };
    walk.graph(graph, None).err().or_else(|| walk.verdict())
}

/// A domain, of which the standard one has two names.
fn plain(domain: &str) -> &str {
    if is_standard(domain) { "" } else { domain }
}

/// The values that nodes may name.
struct Scope<'a> {
    values: HashMap<&'a str, Value>,
    /// Those of the graph around it.
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).or_else(|| self.outer?.get(name))
    }
}

struct Walk<'a> {
    functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    /// Elements in the file, or beside it.
    stored: u64,
    steps: u64,
    elements: u64,
    /// The node of the most steps.
    dearest: Option<(u64, String)>,
    /// The value of the most elements, by its node.
    largest: Option<(u64, String)>,
    depth: usize,
}

/// Deeper than functions and bodies are written.
const MAX_DEPTH: usize = 64;

impl<'a> Walk<'a> {
    fn verdict(self) -> Option<String> {
        let most = |any: u64, of_element: u64| any.saturating_add(self.stored.saturating_mul(of_element));
        if self.elements > most(ELEMENTS, ELEMENTS_OF_ELEMENT) {
            return self.largest.map(|(_, node)| node);
        }
        let (_, dearest) = self.dearest?;
        (self.steps > most(STEPS, STEPS_OF_ELEMENT)).then_some(dearest)
    }

    /// Its outputs. What its inputs are comes from requests, which have the sizes that the graph declares, or from the turns of a
    /// loop, of which engines know more than bodies declare.
    fn graph(&mut self, graph: &'a GraphProto, outer: Option<&Scope<'_>>) -> Result<Vec<Value>, String> {
        let mut scope = Scope { values: HashMap::new(), outer };
        let fed = |input| Fed { dims: declared(input).filter(|_| outer.is_none()), ..Fed::of(rank(input)) };
        let inputs = graph.input.iter().map(|input| (input.name.as_str(), Value::Fed(fed(input))));
        scope.values.extend(inputs);
        // One that is an input, too, is a constant to some engines.
        for tensor in &graph.initializer {
            let value = stored::stored(tensor);
            self.stored = self.stored.saturating_add(stored::held(tensor));
            scope.values.insert(&tensor.name, Value::Fixed(value));
        }
        for sparse in &graph.sparse_initializer {
            let Some(values) = &sparse.values else { continue };
            let dims = sparse.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(u64::MAX)).collect();
            scope.values.insert(&values.name, Value::Fixed(Fixed::of(dims)));
        }
        self.nodes(&graph.node, &mut scope)?;
        Ok(graph
            .output
            .iter()
            .map(|output| scope.get(&output.name).cloned().unwrap_or(Value::Fed(Fed::of(USUAL_RANK))))
            .collect())
    }

    fn nodes<'s>(&mut self, nodes: &'a [NodeProto], scope: &mut Scope<'s>) -> Result<(), String>
    where
        'a: 's,
    {
        for node in nodes {
            let made = self.node(node, scope)?;
            for (name, value) in
                node.output.iter().zip(made.into_iter().chain(std::iter::repeat(Value::Fed(Fed::of(USUAL_RANK)))))
            {
                scope.values.insert(name, value);
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &'a NodeProto, scope: &Scope<'_>) -> Result<Vec<Value>, String> {
        if self.depth == MAX_DEPTH {
            return Err(label(node));
        }
        let operand = |name: &String| scope.get(name).cloned().unwrap_or(Value::Fed(Fed::of(USUAL_RANK)));
        let operands: Vec<Option<Value>> =
            node.input.iter().map(|name| (!name.is_empty()).then(|| operand(name))).collect();
        if let Some(function) = self.functions.get(&(plain(&node.domain), node.op_type.as_str())).copied() {
            return self.call(function, operands);
        }
        if subgraphs(node).next().is_some() {
            self.depth += 1;
            let made = subgraphs(node).map(|body| self.graph(body, Some(scope))).collect::<Result<Vec<_>, _>>()?;
            self.depth -= 1;
            // No engine runs a body before a request; a branch whose condition is stored takes the place of its node.
            let branch = node.op_type == "If" && matches!(operands.first(), Some(Some(Value::Fixed(_))));
            let is_fixed = |place: usize| made.iter().any(|made| matches!(made.get(place), Some(Value::Fixed(_))));
            let fixed = |place: usize| {
                if branch && is_fixed(place) { Value::Fixed(Fixed::unknown()) } else { Value::Fed(Fed::of(USUAL_RANK)) }
            };
            return Ok((0..node.output.len()).map(fixed).collect());
        }
        match rules::apply(plain(&node.domain), node.op_type.as_str(), &Attributes(node), &operands) {
            None => {
                let rank = rules::rank(node.op_type.as_str(), &Attributes(node), &operands);
                if rank > MAX_RANK { Err(label(node)) } else { Ok(vec![Value::Fed(Fed::of(rank)); node.output.len()]) }
            }
            Some((made, steps)) => {
                self.spend(node, steps)?;
                // Results of different sizes are not told apart, so the first counts for all.
                let elements = made.first().and_then(|made| made.elements).unwrap_or(0);
                self.elements = self.elements.saturating_add(elements);
                if self.largest.as_ref().is_none_or(|(most, _)| elements > *most) {
                    self.largest = Some((elements, label(node)));
                }
                let is_high = |made: &Fixed| made.dims.as_ref().is_some_and(|dims| dims.len() as u64 > MAX_RANK);
                if made.iter().any(is_high) {
                    return Err(label(node));
                }
                Ok(made.into_iter().map(Value::Fixed).collect())
            }
        }
    }

    fn call(&mut self, function: &'a FunctionProto, operands: Vec<Option<Value>>) -> Result<Vec<Value>, String> {
        let values = function.input.iter().zip(operands).filter_map(|(name, value)| Some((name.as_str(), value?)));
        let mut scope = Scope { values: values.collect(), outer: None };
        self.depth += 1;
        self.nodes(&function.node, &mut scope)?;
        self.depth -= 1;
        Ok(function
            .output
            .iter()
            .map(|name| scope.get(name).cloned().unwrap_or(Value::Fed(Fed::of(USUAL_RANK))))
            .collect())
    }

    fn spend(&mut self, node: &NodeProto, steps: Steps) -> Result<(), String> {
        let Some(steps) = steps else { return Err(label(node)) };
        self.steps = self.steps.saturating_add(steps);
        if self.dearest.as_ref().is_none_or(|(most, _)| steps > *most) {
            self.dearest = Some((steps, label(node)));
        }
        Ok(())
    }
}

/// How many dimensions an input declares.
fn rank(input: &ValueInfoProto) -> u64 {
    declared(input).map_or(USUAL_RANK, |dims| dims.len() as u64)
}

/// The sizes that an input declares.
fn declared(input: &ValueInfoProto) -> Option<Vec<Option<u64>>> {
    use crate::proto::tensor_shape_proto::dimension::Value as Size;
    let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()? else { return None };
    let size = |size: &Option<Size>| match size {
        Some(Size::DimValue(size)) => u64::try_from(*size).ok(),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(|dim| size(&dim.value)).collect())
}

#[cfg(test)]
mod tests;
