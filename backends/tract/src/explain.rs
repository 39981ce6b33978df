//! What tract's own errors are about: the operator, its domain and its node, which its messages name by halves.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use corymb_core::UnsupportedOperator;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::tract_core::internal::{TractError, TractResult};

use crate::proto::{label, subgraphs};
use crate::rewrite::origin;

/// What is said here of a graph or a request, among errors of tract's about its own insides.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refusal {}

/// Fails with a [`Refusal`].
pub(crate) fn refuse<T>(words: String) -> TractResult<T> {
    Err(TractError::new(Refusal(words)))
}

/// What was refused here; none where tract itself failed, whose words are logged.
pub(crate) fn own_words(error: &TractError) -> Option<&str> {
    let own = error.chain().find_map(|cause| cause.downcast_ref::<Refusal>());
    if own.is_none() {
        tracing::debug!(error = format!("{error:#}"), "tract failed");
    }
    own.map(|refusal| refusal.0.as_str())
}

/// A report on the node of `graph` that `error` came from; on the graph where no node is to blame.
pub(crate) fn report(graph: &GraphProto, error: &TractError) -> UnsupportedOperator {
    let reason = reason(error);
    let named = error.chain().filter_map(|cause| node_name(&cause.to_string())).find_map(|name| find(graph, &name));
    match named {
        Some(node) => on(node, reason),
        None => corymb_onnx::report("Graph", "", &reason),
    }
}

/// A report on `node`; on that of the file where it stands for another.
pub(crate) fn on(node: &NodeProto, reason: String) -> UnsupportedOperator {
    let own = (label(node), node.domain.as_str(), node.op_type.as_str());
    let (node, domain, operator) = origin(&node.name).unwrap_or(own);
    UnsupportedOperator { operator: operator.to_owned(), domain: domain.to_owned(), node: node.to_owned(), reason }
}

/// The reports in a line: each reason once, and not more than anybody reads.
pub(crate) fn few(reports: &[UnsupportedOperator]) -> String {
    const SHOWN: usize = 4;
    let mut seen = HashSet::new();
    let different: Vec<_> = reports.iter().filter(|report| seen.insert((&report.operator, &report.reason))).collect();
    let mut said: Vec<String> = different.iter().take(SHOWN).map(|report| report.to_string()).collect();
    if different.len() > SHOWN {
        said.push(format!("and {} more reasons", different.len() - SHOWN));
    }
    said.join("; ")
}

/// A run that failed, in words for the caller: at which node. What tract says is about its own insides, and is logged.
pub(crate) fn failed_run(error: &TractError) -> String {
    tracing::warn!(error = format!("{error:#}"), "tract failed");
    refused_values(error.chain().find_map(|cause| node_name(&cause.to_string())).as_deref())
}

/// That the model cannot take the values of a request, at this node.
pub(crate) fn refused_values(node: Option<&str>) -> String {
    let node = node.map(|node| format!(" at the node '{node}'")).unwrap_or_default();
    format!("the model refuses these values: tract cannot compute them{node}")
}

/// That values leave nothing for a node that needs something.
pub(crate) fn no_elements(node: &str) -> String {
    let node = origin(node).map_or(node, |(node, ..)| node);
    format!("the model refuses these values: they leave no elements for the node '{node}', which cannot take that")
}

/// That a run ended since what is no number arose at `maker`, which the node `loser` would take for a number.
pub(crate) fn made_nan(maker: &str, loser: &str) -> String {
    let maker = origin(maker).map_or(maker, |(node, ..)| node);
    format!("of these values the node '{maker}' makes NaN, which on tract becomes a number at the node {loser}")
}

/// Whether tract has no way to run an operator, whatever its operands are.
pub(crate) fn is_beyond_tract(error: &TractError) -> bool {
    let root = error.root_cause().to_string();
    root.contains("can not be typed") || root.contains("can not be made a TypedOp")
}

fn reason(error: &TractError) -> String {
    let root = error.root_cause().to_string();
    if is_beyond_tract(error) {
        return "tract reads the operator, but cannot run it".to_owned();
    }
    if root.contains("input is variable") {
        return "its shape comes from a value of the request, and tract needs it to follow from the shapes".to_owned();
    }
    own_words(error).unwrap_or("tract cannot take it as it stands in this graph").to_owned()
}

/// The name in `… node #3 "NAME" Operator …` or in `Building node NAME (Operator)`.
fn node_name(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("Building node ") {
        return Some(rest.rsplit_once(" (")?.0.to_owned());
    }
    let after = text.split_once("ode #").or_else(|| text.split_once("Evaluating #"))?.1;
    let quoted = after.split_once('"')?.1;
    Some(quoted.split_once('"')?.0.to_owned())
}

/// tract makes several nodes of one, whose names it appends to.
fn find<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a NodeProto> {
    let is_it = |node: &&NodeProto| {
        let label = label(node);
        !label.is_empty() && name.strip_prefix(label).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let here = graph.node.iter().filter(is_it).max_by_key(|node| label(node).len());
    here.or_else(|| graph.node.iter().flat_map(subgraphs).find_map(|graph| find(graph, name)))
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::internal::format_err;

    use super::*;

    fn graph() -> GraphProto {
        let node = |name: &str, operator: &str, domain: &str, output: &str| NodeProto {
            name: name.to_owned(),
            op_type: operator.to_owned(),
            domain: domain.to_owned(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        GraphProto {
            node: vec![
                node("layer", "LSTM", "", "y"),
                node("layer.1", "Scaler", "ai.onnx.ml", "z"),
                node("", "Neg", "", "negated"),
            ],
            ..GraphProto::default()
        }
    }

    #[test]
    fn the_node_is_found_in_every_form_of_message() {
        for (text, operator, node) in [
            (r#"Translating node #5 "layer" LSTM ToTypedTranslator"#, "LSTM", "layer"),
            (r#"Failed analyse for node #5 "layer.1" Scaler"#, "Scaler", "layer.1"),
            (r#"Evaluating #6 "layer.x" Scan"#, "LSTM", "layer"),
            (r#"Node #2 "negated" Neg can not be typed"#, "Neg", "negated"),
            ("Building node layer.1 (Scaler)", "Scaler", "layer.1"),
            ("Loop detected", "Graph", ""),
            (r#"Translating node #5 "layers" LSTM"#, "Graph", ""),
        ] {
            let error = format_err!("the cause").context(text);
            let found = report(&graph(), &error);
            assert_eq!((found.operator.as_str(), found.node.as_str()), (operator, node), "{text}");
            assert_eq!(found.reason, "tract cannot take it as it stands in this graph");
        }
    }
}
