//! What is not verified, in words.

use super::operator::{Doubt, Operator, fields};
use crate::form::{Form, operand_name};

/// What is to be said of a form that is not trusted: "Mod whose first operand is broadcast is not verified on tract".
pub(super) fn said(form: &Form, text: &str, operator: &Operator, doubt: Doubt) -> String {
    let name = &form.operator;
    let names = match doubt {
        Doubt::Version => return format!("{name} as of operator set {} is not verified on tract", form.since),
        Doubt::Fields(names) => names,
        Doubt::Refuted => operator.differences(form.since, text).into_iter().map(str::to_owned).collect(),
    };
    let given = fields(text);
    let value = |name: &str| given.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
    let present = names.iter().filter_map(|name| Some(words(form, name, value(name)?)));
    let mut said: Vec<String> = present.collect();
    if said.is_empty() {
        said = names.iter().map(|name| format!("without {}", thing(form, name))).collect();
    }
    format!("{name} {} is not verified on tract", said.join(" and "))
}

/// A field that is not verified, as it is said of an operator: "Mod *whose first operand is broadcast*".
fn words(form: &Form, name: &str, value: &str) -> String {
    match name {
        "broadcast" => match value {
            "0" => "whose first operand is broadcast".to_owned(),
            "1" => "whose second operand is broadcast".to_owned(),
            "01" => "both of whose operands are broadcast".to_owned(),
            "?" => "whose operands are of unknown shape".to_owned(),
            _ => "some of whose operands are broadcast".to_owned(),
        },
        "rank" if value.contains('?') => "whose operands are of unknown rank".to_owned(),
        "rank" => format!("on operands of rank {}", value.replace('x', " and ")),
        "outputs" => "all of whose outputs are asked for".to_owned(),
        "count" => format!("of {value} operands"),
        name => match (name.strip_prefix('@'), name.strip_prefix('x')) {
            (Some(attribute), _) => format!("with {}", attribute_words(attribute, value)),
            (None, Some("")) => format!("of {}", operand_words(value)),
            (None, Some(_)) => {
                format!("whose {} is {}", operand(form, name).unwrap_or("operand"), operand_words(value))
            }
            (None, None) => format!("with {name} {value}"),
        },
    }
}

/// What a field is about.
fn thing<'a>(form: &Form, name: &'a str) -> &'a str {
    operand(form, name).unwrap_or_else(|| name.trim_start_matches('@'))
}

/// What ONNX calls the operand of a field `x0`, `x1` and so on.
fn operand(form: &Form, name: &str) -> Option<&'static str> {
    operand_name(&form.operator, form.since, name.strip_prefix('x')?.parse().ok()?)
}

fn attribute_words(attribute: &str, value: &str) -> String {
    match value {
        "*" => format!("this {attribute}"),
        "+" => format!("a positive {attribute}"),
        "-" | "*-" => format!("a negative {attribute}"),
        _ if attribute.starts_with("classlabels_") => format!("{value} classes"),
        "[]" | "none" => format!("an empty {attribute}"),
        "?" => format!("an unknown {attribute}"),
        "first" | "middle" | "last" if attribute == "axis" => format!("its {value} axis as {attribute}"),
        _ => format!("{attribute} {value}"),
    }
}

fn operand_words(value: &str) -> String {
    let (dtype, constant) = value.split_at(value.find(['c', 's', '+']).unwrap_or(value.len()));
    let dtype = match dtype {
        "-" => return "left out".to_owned(),
        "?" => "of unknown dtype",
        "dim" => "a size",
        dtype => dtype,
    };
    match constant.strip_prefix('c') {
        Some("") => format!("constant {dtype}"),
        Some(rest) => {
            let mut kinds: Vec<&str> = Vec::new();
            for (letter, kind) in
                [('-', "negative"), ('0', "zero"), ('L', "very large"), ('e', "empty"), ('f', "fractional")]
            {
                kinds.extend(rest.contains(letter).then_some(kind));
            }
            format!("constant {} {dtype}", if kinds.is_empty() { rest.to_owned() } else { kinds.join(" or ") })
        }
        None if constant == "s" => format!("{dtype} that follows from shapes"),
        None => dtype.to_owned(),
    }
}
