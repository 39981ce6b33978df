//! The forms of all nodes of a graph, of its branches and bodies too: from what tract's analysis knows of the values.

use std::collections::{HashMap, HashSet};

use corymb_core::UnsupportedOperator;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::{Tensor as TensorType, Value as TypeValue};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto};
use tract_onnx::tract_core::internal::{OutletId, TDim};
use tract_onnx::tract_hir::infer::{
    DimFact, Factoid as _, InferenceFact, InferenceModel, InferenceModelExt as _, ShapeFactoid,
};

use crate::explain;
use crate::file::OnnxFile;
use crate::form::{EMPTY, FIT, Facts, Form};
use crate::ops;
use crate::plan::{Parsed, declared_type};
use crate::proto::{has_axes, integer_attribute, standard_opset, subgraphs};
use crate::rewrite::Facts as Declared;
use crate::values::FromValues;
use crate::verified::Table;

/// Calls `see` with each node of the model that is computed, and its form. `parsed` is the same graph as tract read it.
pub(crate) fn walk(model: &ModelProto, parsed: &Parsed, see: &mut dyn FnMut(&NodeProto, Form)) {
    let Some(graph) = &model.graph else { return };
    let mut analysed = parsed.model.clone();
    // What was inferred before an inconsistency was met still stands in the graph.
    let _ = analysed.analyse(true);
    let declared = Declared::default().within(graph);
    let mut facts = Facts::of(&analysed, &parsed.values, &[], &declared);
    if facts.are_open() {
        let examples: Vec<InferenceModel> =
            EXAMPLES.into_iter().filter_map(|(rows, size)| example(&parsed.model, rows, size)).collect();
        facts = Facts::of(&analysed, &parsed.values, &examples, &declared);
    }
    let walk = Walk { sets: &model.opset_import, ir_version: model.ir_version, opset: standard_opset(model) };
    walk.graph(graph, &Known { facts, declared, values: FromValues::of(graph, None) }, see);
}

/// Sizes that stand for open dimensions, of the batch and of others: networks on pictures halve the latter up to five times,
/// some models take one row alone, and some a window of sound.
const EXAMPLES: [(i64, i64); 4] = [(32, 32), (64, 64), (1, 64), (1, 512)];

/// The graph, analysed with `rows` for the first open dimension that comes first in its shape, wherever that stands, and
/// `size` for each other open dimension of its inputs.
fn example(model: &InferenceModel, rows: i64, size: i64) -> Option<InferenceModel> {
    let mut model = model.clone();
    let outlets = model.input_outlets().ok()?.to_vec();
    let first = |outlet: &OutletId| model.outlet_fact(*outlet).ok()?.shape.dim(0)?.concretize();
    let batch = outlets.iter().filter_map(first).find(|dim| dim.to_i64().is_err());
    for (index, outlet) in outlets.into_iter().enumerate() {
        let fact = model.outlet_fact(outlet).ok()?.clone();
        let Some(rank) = fact.shape.rank().concretize() else { continue };
        let dims = (0..usize::try_from(rank).ok()?).map(|axis| {
            let dim = fact.shape.dim(axis).and_then(|dim| dim.concretize());
            let open = if dim.is_some() && dim == batch { rows } else { size };
            DimFact::from(TDim::Val(dim.and_then(|dim| dim.to_i64().ok()).unwrap_or(open)))
        });
        let shape = ShapeFactoid::closed(dims.collect());
        model.set_input_fact(index, fact.with_shape(shape)).ok()?;
    }
    let _ = model.analyse(true);
    Some(model)
}

/// What the forms of a model's nodes say of it.
pub(crate) struct Examined {
    /// The nodes whose forms are not trusted.
    pub(crate) doubtful: Vec<UnsupportedOperator>,
    /// Whether it asks if sizes are equal, or drops dimensions of size 1. tract says no where a size is open, whatever it turns
    /// out to be: such a model gets a plan for each set of shapes.
    pub(crate) compares_sizes: bool,
    /// Whether sizes that are open decide if a node can be computed, which tract does not look at.
    pub(crate) fit_is_open: bool,
}

/// Looks all nodes up in `table`. What stands for a node of the file is said of that node.
pub(crate) fn examine(file: &OnnxFile, parsed: &Parsed, table: &Table) -> Examined {
    let mut asked: HashMap<Form, Option<String>> = HashMap::new();
    let mut reports = Vec::new();
    let (mut compares_sizes, mut fit_is_open) = (false, false);
    walk(&file.proto, parsed, &mut |node, form| {
        compares_sizes |= form.operator == "Equal" && form.fields.iter().any(|field| field.values == ["dim"]);
        compares_sizes |= node.op_type == "Squeeze" && !has_axes(node);
        fit_is_open |= form.fit_is_open;
        let doubt = asked.entry(form).or_insert_with_key(|form| table.doubt(form));
        if let Some(reason) = doubt {
            let mut report = explain::on(node, reason.clone());
            if report.operator != node.op_type {
                report.reason = format!("is computed by others, of which {reason}");
            }
            reports.push(report);
        }
    });
    Examined { doubtful: reports, compares_sizes, fit_is_open }
}

/// The nodes that meet tensors without elements, or such as do not fit them, with the sizes that `parsed` fixes, and are not known to
/// take them.
pub(crate) fn examine_sizes(file: &OnnxFile, parsed: &Parsed, table: &Table) -> Vec<UnsupportedOperator> {
    let mut reports = Vec::new();
    walk(&file.proto, parsed, &mut |node, form| {
        if form.fields.iter().any(|field| field.name == EMPTY || field.name == FIT) {
            reports.extend(table.doubt(&form).map(|reason| explain::on(node, reason)));
        } else if form.fit_is_open && matches!(form.operator.as_str(), "RNN" | "GRU" | "LSTM") {
            // tract would read on beyond the weights.
            reports
                .push(explain::on(node, "takes features whose number the shapes of a request do not tell".to_owned()));
        }
    });
    reports
}

/// What is known of the values of a graph.
struct Known<'a> {
    /// By tract.
    facts: Facts<'a>,
    /// By what the file declares, and the operators' own rules.
    declared: Declared,
    /// Which come from the values of a request.
    values: FromValues<'a>,
}

struct Walk<'a> {
    sets: &'a [OperatorSetIdProto],
    ir_version: i64,
    opset: i64,
}

impl Walk<'_> {
    fn graph(&self, graph: &GraphProto, known: &Known<'_>, see: &mut dyn FnMut(&NodeProto, Form)) {
        for node in &graph.node {
            // A constant is not computed.
            if node.op_type == "Constant" && corymb_onnx::is_standard(&node.domain) {
                continue;
            }
            let opset = self.opset_of(&node.domain);
            see(node, Form::of(node, opset, &known.facts, &known.values));
            // What is never taken is not computed, and its shapes need not fit.
            let idle = idle_branch(node, &known.facts);
            for body in subgraphs(node).filter(|body| !idle.is_some_and(|idle| std::ptr::eq(*body, idle))) {
                let given = body_inputs(node, body, &known.facts);
                let parsed = self.parse(body, &known.facts, given);
                let declared = known.declared.within(body);
                let found = parsed.as_ref().map(|parsed| Facts::of(&parsed.model, &parsed.values, &[], &declared));
                let (facts, values) = (found.unwrap_or_default(), FromValues::of(body, Some(&known.values)));
                self.graph(body, &Known { facts, declared, values }, see);
            }
        }
    }

    fn opset_of(&self, domain: &str) -> i64 {
        if corymb_onnx::is_standard(domain) {
            return self.opset;
        }
        self.sets.iter().find(|set| set.domain == domain).map_or(0, |set| set.version)
    }

    /// A branch or a body as a graph of its own, whose inputs are what it takes of the graph around it. None where
    /// tract cannot read it: its nodes are then of unknown dtypes, which nothing verifies.
    fn parse(&self, body: &GraphProto, outer: &Facts<'_>, given: Vec<InferenceFact>) -> Option<Parsed> {
        let mut inputs: Vec<(String, InferenceFact)> =
            body.input.iter().map(|input| input.name.clone()).zip(given).collect();
        let made = made(body);
        let mut taken: Vec<&str> = used(body).into_iter().filter(|name| !made.contains(name)).collect();
        taken.sort_unstable();
        for name in taken {
            if let Some(fact) = outer.get(name) {
                inputs.push((name.to_owned(), fact.clone()));
            }
        }
        let graph = GraphProto {
            node: body.node.clone(),
            initializer: body.initializer.clone(),
            input: inputs.iter().map(|(name, _)| any(name)).collect(),
            output: body.output.clone(),
            ..GraphProto::default()
        };
        let opset_import = self.sets.to_vec();
        let model =
            ModelProto { ir_version: self.ir_version, opset_import, graph: Some(graph), ..ModelProto::default() };
        let onnx = ops::reader().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let parsed = onnx.with_ignore_output_types(true).parse(&model, None).ok()?;
        let mut parsed = Parsed { model: parsed.model, values: parsed.outlets_by_name };
        for (index, (_, fact)) in inputs.into_iter().enumerate() {
            parsed.model.set_input_fact(index, fact).ok()?;
        }
        let _ = parsed.model.analyse(true);
        Some(parsed)
    }
}

/// The branch of an `If` that is not taken, where that is known before the run.
fn idle_branch<'a>(node: &'a NodeProto, facts: &Facts<'_>) -> Option<&'a GraphProto> {
    if node.op_type != "If" || !corymb_onnx::is_standard(&node.domain) {
        return None;
    }
    let condition = facts.get(node.input.first()?)?.value.concretize()?;
    let is_taken = *condition.to_plain_array_view::<bool>().ok()?.iter().next()?;
    let idle = if is_taken { "else_branch" } else { "then_branch" };
    node.attribute.iter().find(|attribute| attribute.name == idle)?.g.as_ref()
}

/// What a body is given: the state of a scan as it begins, and slices of what is scanned. A branch is given nothing.
fn body_inputs(node: &NodeProto, body: &GraphProto, outer: &Facts<'_>) -> Vec<InferenceFact> {
    let scanned = integer_attribute(node, "num_scan_inputs").and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let states = node.input.len().saturating_sub(scanned);
    let fact = |place: usize| {
        // The count of a loop may be left out: then the body says what it is given.
        let Some(outer) = node.input.get(place).and_then(|name| outer.get(name)) else {
            return declared_type(&body.input[place]).map_or_else(InferenceFact::new, InferenceFact::dt);
        };
        let known = outer.datum_type.concretize().map_or_else(InferenceFact::new, InferenceFact::dt);
        let mut shape = outer.shape.clone();
        if place < states {
            return known.with_shape(shape);
        }
        // The axis that is scanned is the first, unless the node says otherwise: then the shape stays open.
        let says = node.attribute.iter().any(|attribute| attribute.name == "scan_input_axes");
        if says || shape.rank().concretize().is_none_or(|rank| rank == 0) {
            return known;
        }
        shape = ShapeFactoid::closed(shape.dims().skip(1).cloned().collect());
        known.with_shape(shape)
    };
    (0..body.input.len()).map(fact).collect()
}

/// Names that a graph makes itself.
fn made(graph: &GraphProto) -> HashSet<&str> {
    let nodes = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    nodes.chain(inputs).chain(graph.initializer.iter().map(|tensor| tensor.name.as_str())).collect()
}

/// Names that a graph and those within it use.
fn used(graph: &GraphProto) -> HashSet<&str> {
    let mut names: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        names.extend(subgraphs(node).flat_map(used));
    }
    names
}

/// An input of a type that is set afterwards.
fn any(name: &str) -> ValueInfoProto {
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: None };
    let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tract_onnx::pb::TensorProto;
    use tract_onnx::pb::TensorShapeProto;
    use tract_onnx::pb::tensor_shape_proto::Dimension;
    use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;

    use super::*;
    use crate::plan;
    use crate::proto::plain_node;

    /// A graph that takes one row alone: with any other number of rows its parts cannot be joined.
    #[test]
    fn the_rank_of_a_value_is_found_with_the_sizes_that_the_graph_takes() {
        let dim = |name: &str| Dimension { value: Some(DimValue::DimParam(name.to_owned())), ..Dimension::default() };
        let shape = TensorShapeProto { dim: vec![dim("rows"), dim("steps")] };
        let tensor = TensorType { elem_type: DataType::Float as i32, shape: Some(shape) };
        let kind = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
        let input = ValueInfoProto { name: "x".to_owned(), r#type: Some(kind), ..ValueInfoProto::default() };
        let row = TensorProto {
            name: "row".to_owned(),
            data_type: DataType::Float as i32,
            dims: vec![1, 3],
            float_data: vec![0.0; 3],
            ..TensorProto::default()
        };
        let mut join = plain_node("Concat", &["x", "row"], "joined");
        join.attribute = vec![tract_onnx::pb::AttributeProto {
            name: "axis".to_owned(),
            r#type: tract_onnx::pb::attribute_proto::AttributeType::Int as i32,
            i: 1,
            ..Default::default()
        }];
        let graph = GraphProto {
            input: vec![input],
            output: vec![any("y")],
            initializer: vec![row],
            node: vec![join, plain_node("Squeeze", &["joined"], "line"), plain_node("Transpose", &["line"], "y")],
            ..GraphProto::default()
        };
        let opset_import = vec![OperatorSetIdProto { version: 13, ..OperatorSetIdProto::default() }];
        let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() };
        let parsed = plan::parse(&model, Vec::new(), None::<&Path>, corymb_core::RUN_BYTES).expect("a graph");
        let mut ranks = Vec::new();
        walk(&model, &parsed, &mut |node, form| {
            if node.op_type == "Transpose" {
                ranks.extend(form.fields.into_iter().filter(|field| field.name == "rank"));
            }
        });
        assert_eq!(ranks.first().map(|field| field.values.as_slice()), Some(&["1".to_owned()][..]));
    }
}
