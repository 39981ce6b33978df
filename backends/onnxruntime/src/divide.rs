//! Guards integer division: what would end the process becomes a defined answer or an error of that request.
//!
//! ONNX Runtime divides integers by the processor's instruction. The smallest int32 or int64 divided by -1 does not fit,
//! so the processor raises an exception, which ends the process (seen from 1.24 to 1.32). Remainders by -1 do the same up
//! to 1.31. A request can do that to every graph that divides integers which come from its
//! inputs, so such nodes are replaced by several that give the same answers: the divisor -1 becomes 1, and the sign of
//! the quotient is turned. The smallest integer stays itself, as in every arithmetic that wraps.

use std::collections::HashSet;

use corymb_core::UnsupportedOperator;
use corymb_onnx::proto::attribute_proto::AttributeType;
use corymb_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, elem};
use corymb_onnx::{is_standard, subgraphs, subgraphs_mut};

use crate::types::{self, Functions, Types};

/// Since this operator set, arithmetic broadcasts, so that a scalar fits everything.
const BROADCASTS_SINCE: i64 = 7;
/// How deep functions may call functions.
const MAX_CALLS: usize = 16;

/// What came of looking for divisions.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many nodes were replaced.
    pub(crate) guarded: usize,
    /// Divisions that cannot be guarded here: of unknown types, or inside functions. The engine may know more.
    pub(crate) left: Vec<UnsupportedOperator>,
}

/// Whether there is anything to look for.
pub(crate) fn divides(model: &ModelProto) -> bool {
    let in_functions = model.functions.iter().any(|function| nodes_divide(&function.node));
    in_functions || model.graph.as_ref().is_some_and(|graph| nodes_divide(&graph.node))
}

fn nodes_divide(nodes: &[NodeProto]) -> bool {
    nodes.iter().any(|node| is_division(node) || subgraphs(node).any(|graph| nodes_divide(&graph.node)))
}

fn is_division(node: &NodeProto) -> bool {
    is_standard(&node.domain) && (node.op_type == "Div" || node.op_type == "Mod")
}

/// Replaces every division of integers whose divisor may be harmful.
pub(crate) fn guard(model: &mut ModelProto) -> Outcome {
    let mut outcome = Outcome::default();
    let opset = model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version);
    let Some(mut graph) = model.graph.take() else { return outcome };
    let functions: Functions<'_> =
        model.functions.iter().map(|function| ((function.domain.as_str(), function.name.as_str()), function)).collect();
    let mut types = Types::new();
    types::of_graph(&graph, &functions, &mut types);
    let defaults: HashSet<String> = if model.ir_version < 4 {
        HashSet::new()
    } else {
        graph.input.iter().map(|input| input.name.clone()).collect()
    };
    let mut guard = Guard {
        functions: &functions,
        prefix: free_prefix(&graph),
        opset,
        defaults,
        constants_of: HashSet::new(),
        outcome: &mut outcome,
    };
    guard.graph(&mut graph, &types, &Harmless::default());
    let constants = guard.constants();
    graph.initializer.extend(constants);
    model.graph = Some(graph);
    outcome
}

/// A prefix that no name of the graph has.
fn free_prefix(graph: &GraphProto) -> String {
    fn is_taken(graph: &GraphProto, prefix: &str) -> bool {
        let made = graph.node.iter().flat_map(|node| &node.output);
        let given = graph.input.iter().map(|input| &input.name);
        let stored = graph.initializer.iter().map(|tensor| &tensor.name);
        made.chain(given).chain(stored).any(|name| name.starts_with(prefix))
            || graph.node.iter().flat_map(subgraphs).any(|inner| is_taken(inner, prefix))
    }
    (0..).map(|number| format!("corymb.guard.{number}/")).find(|prefix| !is_taken(graph, prefix)).unwrap_or_default()
}

/// Divisors that do no harm.
#[derive(Clone, Default)]
struct Harmless {
    /// Constants without -1. Division by 0 is an error of the request, and no more.
    constants: HashSet<String>,
    /// Values that are never negative, since they are sizes.
    sizes: HashSet<String>,
}

struct Guard<'a> {
    functions: &'a Functions<'a>,
    prefix: String,
    opset: i64,
    /// Inputs of the graph: an initializer of that name may be replaced by a caller.
    defaults: HashSet<String>,
    /// Types for which the constants 1 and -1 are needed.
    constants_of: HashSet<i32>,
    outcome: &'a mut Outcome,
}

impl Guard<'_> {
    fn graph(&mut self, graph: &mut GraphProto, types: &Types, outer: &Harmless) {
        let mut harmless = outer.clone();
        for tensor in graph.initializer.iter().filter(|tensor| !self.defaults.contains(&tensor.name)) {
            harmless.add_constant(&tensor.name, tensor);
        }
        let nodes = std::mem::take(&mut graph.node);
        for mut node in nodes {
            for inner in subgraphs_mut(&mut node).filter(|inner| nodes_divide(&inner.node)) {
                // Two branches may use one name for values of different types.
                let mut own = types.clone();
                forget_made(inner, &mut own);
                types::of_graph(inner, self.functions, &mut own);
                self.graph(inner, &own, &harmless);
            }
            harmless.add_made(&node);
            if let Some(function) = self.functions.get(&(node.domain.as_str(), node.op_type.as_str())) {
                let inside = types::inside(&node, function, types);
                self.function(&node, &function.node, inside, 0);
            }
            if is_division(&node) && !harmless.covers(&node) {
                graph.node.extend(self.replaced(node, types));
            } else {
                graph.node.push(node);
            }
        }
    }

    /// The nodes that stand for a division; itself when its operands are no integers, or when it cannot be guarded.
    fn replaced(&mut self, node: NodeProto, types: &Types) -> Vec<NodeProto> {
        let operand = node.input.iter().take(2).find_map(|name| types.get(name)).copied();
        let direct = matches!(operand, Some(elem::INT32 | elem::INT64));
        let reason = match operand {
            None => "divides values of a type that the file does not tell; integers could end the process",
            Some(_) if direct && self.opset < BROADCASTS_SINCE => {
                "divides integers in an operator set older than 7, which could end the process; convert the model"
            }
            Some(_) if !direct => return vec![node],
            Some(_) => "",
        };
        if !reason.is_empty() || node.input.len() != 2 || node.output.len() != 1 {
            self.outcome.left.push(report(&node, reason));
            return vec![node];
        }
        self.outcome.guarded += 1;
        self.guarded(node, operand.unwrap_or_default())
    }

    fn guarded(&mut self, mut node: NodeProto, dtype: i32) -> Vec<NodeProto> {
        self.constants_of.insert(dtype);
        let (one, minus_one) = (self.constant_name(dtype, 1), self.constant_name(dtype, -1));
        let at = format!("{}{}/", self.prefix, self.outcome.guarded);
        let name = |part: &str| format!("{at}{part}");
        let divisor = node.input[1].clone();
        let mut nodes = vec![
            new("Equal", &[&divisor, &minus_one], &name("is_minus_one")),
            cast(&name("is_minus_one"), &name("mask"), dtype),
            new("Add", &[&name("mask"), &name("mask")], &name("twice")),
            // 1 in place of -1, all else as it was.
            new("Add", &[&divisor, &name("twice")], &name("safe")),
        ];
        if node.op_type == "Mod" {
            // A remainder by 1 is 0, as by -1.
            node.input[1] = name("safe");
            nodes.push(node);
            return nodes;
        }
        let quotient = std::mem::replace(&mut node.output[0], name("quotient"));
        node.input[1] = name("safe");
        nodes.push(node);
        nodes.push(new("Sub", &[&one, &name("twice")], &name("sign")));
        nodes.push(new("Mul", &[&name("quotient"), &name("sign")], &quotient));
        nodes
    }

    /// Bodies of functions serve all calls, of whatever types, so they are not changed.
    fn function(&mut self, call: &NodeProto, body: &[NodeProto], mut types: Types, depth: usize) {
        if depth == MAX_CALLS {
            return;
        }
        types::of_nodes(body, self.functions, &mut types, 0);
        for node in body {
            let may_harm = match node.input.iter().take(2).find_map(|name| types.get(name)) {
                Some(&known) => matches!(known, elem::INT32 | elem::INT64),
                None => true,
            };
            if is_division(node) && may_harm {
                let name = if call.name.is_empty() { &call.op_type } else { &call.name };
                let reason = format!("divides integers inside the function '{name}', which could end the process");
                self.outcome.left.push(report(node, &reason));
            }
            if subgraphs(node).any(|graph| nodes_divide(&graph.node)) {
                self.outcome.left.push(report(node, "divides inside a branch or loop of a function"));
            }
            if let Some(inner) = self.functions.get(&(node.domain.as_str(), node.op_type.as_str())) {
                let inside = types::inside(node, inner, &types);
                self.function(node, &inner.node, inside, depth + 1);
            }
        }
    }

    fn constant_name(&self, dtype: i32, value: i64) -> String {
        let value = if value < 0 { "minus_one" } else { "one" };
        format!("{}{value}_{}", self.prefix, elem::name(dtype))
    }

    /// The initializers that the new nodes use, visible in all graphs inside.
    fn constants(&self) -> Vec<TensorProto> {
        let mut dtypes: Vec<i32> = self.constants_of.iter().copied().collect();
        dtypes.sort_unstable();
        let values = dtypes.into_iter().flat_map(|dtype| [(dtype, 1_i64), (dtype, -1)]);
        let tensor = |(dtype, value): (i32, i64)| TensorProto {
            name: self.constant_name(dtype, value),
            data_type: dtype,
            int32_data: if dtype == elem::INT32 { i32::try_from(value).into_iter().collect() } else { Vec::new() },
            int64_data: if dtype == elem::INT64 { vec![value] } else { Vec::new() },
            ..TensorProto::default()
        };
        values.map(tensor).collect()
    }
}

fn forget_made(graph: &GraphProto, types: &mut Types) {
    for name in graph.node.iter().flat_map(|node| &node.output) {
        types.remove(name);
    }
    for name in graph.input.iter().map(|input| &input.name).chain(graph.initializer.iter().map(|tensor| &tensor.name)) {
        types.remove(name);
    }
    graph.node.iter().flat_map(subgraphs).for_each(|inner| forget_made(inner, types));
}

fn report(node: &NodeProto, reason: &str) -> UnsupportedOperator {
    UnsupportedOperator {
        operator: node.op_type.clone(),
        domain: node.domain.clone(),
        node: node.name.clone(),
        reason: reason.to_owned(),
    }
}

fn new(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn cast(input: &str, output: &str, dtype: i32) -> NodeProto {
    let r#type = AttributeType::Int as i32;
    let to = AttributeProto { name: "to".to_owned(), r#type, i: Some(i64::from(dtype)), ..AttributeProto::default() };
    NodeProto { attribute: vec![to], ..new("Cast", &[input], output) }
}

impl Harmless {
    fn add_constant(&mut self, name: &str, tensor: &TensorProto) {
        let Some(elements) = integers(tensor) else { return };
        if elements.iter().all(|&element| element != -1) {
            self.constants.insert(name.to_owned());
        }
        if elements.iter().all(|&element| element >= 0) {
            self.sizes.insert(name.to_owned());
        }
    }

    fn add_made(&mut self, node: &NodeProto) {
        let Some(output) = node.output.first().filter(|_| is_standard(&node.domain)) else { return };
        let is_size = |index: usize| node.input.get(index).is_some_and(|name| self.sizes.contains(name));
        let sizes = match node.op_type.as_str() {
            "Shape" | "Size" => true,
            // What picks or rearranges sizes.
            "Gather" | "Slice" | "Squeeze" | "Unsqueeze" | "Identity" | "Reshape" => is_size(0),
            "Concat" => !node.input.is_empty() && node.input.iter().all(|name| self.sizes.contains(name)),
            "Constant" => {
                if let Some(tensor) = node.attribute.iter().find_map(|attribute| attribute.t.as_ref()) {
                    self.add_constant(output, tensor);
                }
                if let Some(value) =
                    node.attribute.iter().find(|found| found.name == "value_int").and_then(|found| found.i)
                {
                    self.constants.extend((value != -1).then(|| output.clone()));
                    self.sizes.extend((value >= 0).then(|| output.clone()));
                }
                return;
            }
            _ => false,
        };
        if sizes {
            self.sizes.insert(output.clone());
        }
    }

    fn covers(&self, division: &NodeProto) -> bool {
        let harmless = |divisor: &String| self.constants.contains(divisor) || self.sizes.contains(divisor);
        division.input.get(1).is_some_and(harmless)
    }
}

/// The elements of a stored tensor of integers of 32 or 64 bits.
fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if !tensor.external_data.is_empty() {
        return None;
    }
    let raw = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty());
    Some(match (tensor.data_type, raw) {
        (elem::INT64, Some(raw)) => raw.as_chunks().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect(),
        (elem::INT64, None) => tensor.int64_data.clone(),
        (elem::INT32, Some(raw)) => {
            raw.as_chunks().0.iter().map(|chunk| i64::from(i32::from_le_bytes(*chunk))).collect()
        }
        (elem::INT32, None) => tensor.int32_data.iter().map(|&element| i64::from(element)).collect(),
        _ => return None,
    })
}
