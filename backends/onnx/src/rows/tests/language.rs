//! The small language of the tables: what an operator makes of operands, both in text.
//!
//! An operand or a result is a shape, `N,3,T`: N is the number of rows, and its axis is where they are; other letters are
//! sizes that are not known; `2*N,T@2` has the rows twice, one after the other each time. `[N,-1]` is a list of known
//! numbers, `(3)` a single one, and `f[2,0.5]` one of fractions; `#N,1` has the numbers of the rows, `&N,2` tuples that begin
//! with them, and `~N,1` something that is made of them; `-` is left out and `?` is not known. A result's size may be `?`.
//! An operator stands with its domain (`ml.`, `ms.`) and, behind a colon, its operator set.

use std::collections::HashMap;

use super::super::node::real;
use super::super::polynomial::{Kind, Polynomial, Symbols};
use super::super::value::{Ordinal, Place, Rows, Value};
use super::super::walk::Walk;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};

/// An operator, its operands, its attributes, and its results, or why there are none.
pub(super) type Case = (&'static str, &'static str, &'static str, &'static str);

const DEFAULT_OPSET: i64 = 21;

/// Fails with every case of a table whose results are others.
#[track_caller]
pub(super) fn check(cases: &[Case]) {
    let wrong: Vec<String> = cases.iter().filter_map(|case| wrong(case).err()).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is wrong about a case; nothing where its results are as they should be.
pub(super) fn wrong(case: &Case) -> Result<(), String> {
    let (operator, operands, attributes, expected) = *case;
    let (operator, opset) = operator.split_once(':').map_or((operator, DEFAULT_OPSET), |(operator, opset)| {
        (operator, opset.parse().unwrap_or_else(|_| panic!("no operator set: {opset}")))
    });
    let (domain, operator) = match operator.rsplit_once('.') {
        Some(("ml", operator)) => ("ai.onnx.ml", operator),
        Some(("ms", operator)) => ("com.microsoft", operator),
        Some((domain, operator)) => (domain, operator),
        None => ("", operator),
    };
    let mut symbols = Symbols::new();
    let values: Vec<Option<Value>> = list(operands, ';').into_iter().map(|text| value(text, &mut symbols)).collect();
    let results =
        if expected.starts_with("mixes") || expected.starts_with("unknown") { 1 } else { list(expected, ';').len() };
    let node = NodeProto {
        op_type: operator.to_owned(),
        domain: domain.to_owned(),
        input: values
            .iter()
            .enumerate()
            .map(|(index, value)| value.as_ref().map_or(String::new(), |_| format!("in{index}")))
            .collect(),
        output: (0..results.max(attribute_results(attributes))).map(|index| format!("out{index}")).collect(),
        attribute: attributes_of(attributes),
        ..NodeProto::default()
    };
    let model = model(&[node], &[(domain, opset)], results);
    let graph = model.graph.as_ref().expect("a graph");
    let names: Vec<String> = (0..values.len()).map(|index| format!("in{index}")).collect();
    let given = names.iter().zip(&values).filter_map(|(name, value)| Some((name.as_str(), value.clone()?))).collect();
    let mut walk = Walk::new(&model, symbols);
    let found = walk.model(graph, given);
    let fits = match found.first() {
        Some(Value { rows: Rows::Lost(reason), .. }) => {
            let reason = &walk.reasons[*reason];
            let word = if reason.mixes { "mixes" } else { "unknown" };
            let said = format!("{word} {}", reason.culprit.reason);
            if said.starts_with(expected) && expected.starts_with(word) {
                return Ok(());
            }
            return Err(format!("{case:?}: {said}"));
        }
        _ => found.iter().zip(list(expected, ';')).all(|(found, text)| matches(found, text, &mut walk.symbols)),
    };
    if fits && !expected.starts_with("mixes") && !expected.starts_with("unknown") {
        Ok(())
    } else {
        Err(format!("{case:?}: {found:?}"))
    }
}

/// A model of these nodes, whose outputs are `out0` and so on.
pub(super) fn model(nodes: &[NodeProto], opsets: &[(&str, i64)], outputs: usize) -> ModelProto {
    let output = |index: usize| ValueInfoProto { name: format!("out{index}"), ..ValueInfoProto::default() };
    let opset =
        |(domain, version): &(&str, i64)| OperatorSetIdProto { domain: (*domain).to_owned(), version: *version };
    ModelProto {
        opset_import: opsets.iter().map(opset).collect(),
        graph: Some(GraphProto {
            node: nodes.to_vec(),
            output: (0..outputs).map(output).collect(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// The parts of a text that a mark separates, but not inside of brackets.
pub(super) fn list(text: &str, mark: char) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(|letter: char| {
        depth += i32::from(matches!(letter, '[' | '(')) - i32::from(matches!(letter, ']' | ')'));
        depth == 0 && letter == mark
    });
    parts.map(str::trim).filter(|part| !part.is_empty() || mark == ';' && !text.trim().is_empty()).collect()
}

/// A size: products of numbers and letters, and sums of them.
pub(super) fn size(text: &str, symbols: &mut Symbols) -> Polynomial {
    let factor = |text: &str, symbols: &mut Symbols| match text.parse::<i64>() {
        Ok(number) => Polynomial::constant(number),
        Err(_) if text == "N" => Polynomial::rows(),
        Err(_) => match text.parse::<f64>() {
            Ok(number) => real(number, symbols).expect("a number"),
            Err(_) => symbols.named(format!("dimension {text}"), Kind::Size),
        },
    };
    let sum = text.split('+').map(|product| {
        let factors: Vec<Polynomial> = product.split('*').map(|text| factor(text, symbols)).collect();
        Polynomial::product(&factors).expect("small")
    });
    sum.collect::<Vec<_>>().iter().try_fold(Polynomial::default(), |sum, product| sum.plus(product)).expect("small")
}

/// An operand; none where it is left out.
pub(super) fn value(text: &str, symbols: &mut Symbols) -> Option<Value> {
    let numbers = |inner: &str, shape: bool, whole: bool, symbols: &mut Symbols| {
        let elements: Vec<Polynomial> = list(inner, ',').into_iter().map(|text| size(text, symbols)).collect();
        let length = Polynomial::constant(elements.len() as i64);
        Value::numbers(if shape { vec![length] } else { Vec::new() }, elements, whole)
    };
    fn inner<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
        text.strip_prefix(open)?.strip_suffix(close)
    }
    Some(match text {
        "-" => return None,
        "?" => Value::opaque(),
        "scalar" => Value::same(Vec::new()).expect("no rows"),
        _ if inner(text, "f[", "]").is_some() => numbers(inner(text, "f[", "]")?, true, false, symbols),
        _ if inner(text, "f(", ")").is_some() => numbers(inner(text, "f(", ")")?, false, false, symbols),
        _ if inner(text, "[", "]").is_some() => numbers(inner(text, "[", "]")?, true, true, symbols),
        _ if inner(text, "(", ")").is_some() => numbers(inner(text, "(", ")")?, false, true, symbols),
        _ => {
            let (ordinal, shape) = match text.split_at(1) {
                ("#", shape) => (Some(Ordinal::Exact), shape),
                ("&", shape) => (Some(Ordinal::First), shape),
                ("~", shape) => (Some(Ordinal::Any), shape),
                _ => (None, text),
            };
            let (shape, outer) = shape.split_once('@').unwrap_or((shape, "1"));
            let shape: Vec<Polynomial> = list(shape, ',').into_iter().map(|text| size(text, symbols)).collect();
            let place = shape.iter().position(Polynomial::has_rows);
            let place = place.map(|axis| Place { axis, outer: size(outer, symbols) });
            let mut value = Value::of(shape, place.clone()).expect("a value with rows");
            if let (Some(ordinal), Some(place)) = (ordinal, place) {
                value.rows = Rows::Numbered(place, ordinal);
            }
            value
        }
    })
}

fn matches(found: &Value, text: &str, symbols: &mut Symbols) -> bool {
    if text == "?" {
        return found.shape.is_none() && found.is_same();
    }
    // A size that is not known is taken as it was found, if it is the same for all rows.
    let (mark, shape) = if text.starts_with(['#', '&', '~']) { text.split_at(1) } else { ("", text) };
    let (shape, outer) = shape.split_once('@').unwrap_or((shape, "1"));
    let mut named = HashMap::new();
    let is_list = shape.starts_with(['[', '(', 'f']);
    if let (true, Some(sizes)) = (!is_list && text != "scalar", &found.shape) {
        let texts = list(shape, ',');
        if texts.len() != sizes.len() {
            return false;
        }
        for (axis, (text, size)) in texts.iter().zip(sizes).enumerate() {
            if *text == "?" {
                // It must be a symbol, and no number.
                if size.has_rows() || size.as_constant().is_some() {
                    return false;
                }
                named.insert(axis, size.clone());
            }
        }
    }
    let plain =
        if named.is_empty() { text.to_owned() } else { format!("{mark}{}@{outer}", shape.replace('?', "unknown")) };
    let Some(mut expected) = value(&plain, symbols) else { return false };
    if let Some(shape) = &mut expected.shape {
        for (axis, size) in named {
            shape[axis] = size;
        }
    }
    if !is_list && text != "scalar" {
        return found.shape == expected.shape && found.rows == expected.rows;
    }
    *found == expected || text == "scalar" && found.shape == expected.shape && found.rows == expected.rows
}

/// `results=2` is no attribute: the node names so many results.
fn attribute_results(text: &str) -> usize {
    text.split_whitespace().find_map(|text| text.strip_prefix("results=")?.parse().ok()).unwrap_or(1)
}

/// Attributes as `axis=1 perm=[1,0] mode=linear scale=2.0`.
pub(super) fn attributes_of(text: &str) -> Vec<AttributeProto> {
    let attribute = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let name = name.to_owned();
        if name == "results" {
            return None;
        }
        let mut attribute = AttributeProto { name, ..AttributeProto::default() };
        match value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
            Some(values) if values.contains('.') => {
                attribute.floats = list(values, ',').iter().map(|value| value.parse().expect("a number")).collect();
            }
            Some(values) if values.contains('\'') => {
                attribute.strings = list(values, ',').iter().map(|value| value.to_string().into()).collect();
            }
            Some(values) => {
                attribute.ints = list(values, ',').iter().map(|value| value.parse().expect("a number")).collect()
            }
            None => match (value.parse::<i64>(), value.parse::<f32>()) {
                (Ok(value), _) => attribute.i = Some(value),
                (Err(_), Ok(value)) => attribute.f = Some(value),
                // Nothing behind the name: a value that is not written is 0.
                _ if value.is_empty() => {}
                _ => attribute.s = Some(value.as_bytes().to_vec().into()),
            },
        }
        Some(attribute)
    };
    text.split_whitespace().filter_map(attribute).collect()
}
