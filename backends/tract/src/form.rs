//! The form of a node: all that the differential suite of `tests/operators` tells apart, as one line.
//!
//! Two nodes of one form are computed alike by tract as far as is known, so that what is verified of one holds for the
//! other. It is computed here alone, for the suite and for the check at load.

mod attributes;
mod facts;
mod operands;
mod padding;
mod schemas;

use tract_onnx::pb::NodeProto;

pub(crate) use self::facts::Facts;
use self::operands::Operands;
pub(crate) use self::operands::dtype_of_proto;
use crate::values::FromValues;

/// What ONNX calls an operand of an operator, by its place.
pub(crate) fn operand_name(operator: &str, since: i64, place: usize) -> Option<&'static str> {
    schemas::find(operator, since)?.operand(place)
}

/// The field that says which operands have no elements.
pub(crate) const EMPTY: &str = "empty";

/// The field that says that operands do not fit their operator.
pub(crate) const FIT: &str = "fit";

/// A field of a form, with several values where the graph does not tell which it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) values: Vec<String>,
}

/// The form of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// With its domain where that is not the standard one.
    pub(crate) operator: String,
    /// The operator set that brought this version of it; 0 where the operator is not ONNX's.
    pub(crate) since: i64,
    pub(crate) fields: Vec<Field>,
    /// Whether the shapes that are not known decide if the node can be computed.
    pub(crate) fit_is_open: bool,
}

impl Form {
    /// Of a node in the operator set `opset`. What comes from a request, rather than from shapes, `values` knows.
    pub(crate) fn of(node: &NodeProto, opset: i64, facts: &Facts<'_>, values: &FromValues<'_>) -> Self {
        let operator = schemas::name(node);
        let schema = schemas::find(&operator, opset);
        let since = schema.map_or(0, |schema| schema.since);
        let variadic = schema.is_some_and(|schema| schema.variadic);
        let operands = Operands::of(node, facts, values);
        let mut fields = Vec::new();
        let mut add = |name: String, values: Vec<String>| fields.push(Field { name, values });
        for (name, class) in operands.classes(variadic) {
            add(name, vec![class]);
        }
        // A node of nothing but constants is a node like any other; broadcasting is said where there is any.
        if let Some(classes) = operands.broadcasts(variadic)
            && classes != [String::new()]
        {
            add("broadcast".to_owned(), classes);
        }
        if let Some(places) = operands.same() {
            add("same".to_owned(), vec![if variadic { "some".to_owned() } else { places }]);
        }
        if let Some(places) = operands.without_elements(variadic) {
            add(EMPTY.to_owned(), vec![places]);
        }
        if let Some(ranks) = operands.ranks(since) {
            add("rank".to_owned(), vec![ranks]);
        }
        if node.output.len() > 1 {
            let given = node.output.iter().map(|name| if name.is_empty() { '0' } else { '1' });
            let given: String = given.collect::<String>().trim_end_matches('0').to_owned();
            if given != "1" {
                add("outputs".to_owned(), vec![if operator == "Split" { "many".to_owned() } else { given }]);
            }
        }
        let misfit = operands.misfit();
        if misfit == Some(true) {
            add(FIT.to_owned(), vec!["no".to_owned()]);
        }
        for (name, class) in attributes::classes(node, schema, &operands) {
            add(format!("@{name}"), vec![class]);
        }
        Self { operator, since, fields, fit_is_open: misfit.is_none() }
    }

    /// The fields as one text; several texts where the graph does not tell which the form is.
    pub(crate) fn variants(&self) -> Vec<String> {
        let mut texts = vec![String::new()];
        for field in &self.fields {
            let with =
                |text: &String| field.values.iter().map(|value| written(text, &field.name, value)).collect::<Vec<_>>();
            texts = texts.iter().flat_map(with).collect();
        }
        texts
    }
}

fn written(text: &str, name: &str, value: &str) -> String {
    // Where nothing is broadcast the field is left out.
    if value.is_empty() && name == "broadcast" {
        return text.to_owned();
    }
    let separator = if text.is_empty() { "" } else { " " };
    format!("{text}{separator}{name}={value}")
}
