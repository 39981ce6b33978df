//! What is not verified, in words.

use super::operator::{Doubt, Operator, fields};
use crate::form::{Form, operand_name};

/// What is to be said of a form that is not trusted: "Mod whose A is broadcast is not verified on tract".
pub(super) fn said(form: &Form, text: &str, operator: &Operator, doubt: Doubt) -> String {
    let name = &form.operator;
    let given = fields(text);
    let names = match doubt {
        Doubt::Version => match name.rsplit_once('.') {
            Some((domain, name)) if form.since == 0 => {
                return format!("the file names no operator set for {domain}, so that {name} has no version");
            }
            _ => return format!("{name} as of operator set {} is not verified on tract", form.since),
        },
        Doubt::Fields(names) => names,
        Doubt::Refuted => {
            let names: Vec<String> = operator.differences(form.since, text).into_iter().map(str::to_owned).collect();
            // What is unknown may be what is verified, and what is not.
            let unknown = given.iter().filter(|(_, value)| value.contains('?')).map(|(name, _)| (*name).to_owned());
            if names.is_empty() { unknown.collect() } else { names }
        }
    };
    let value = |name: &str| given.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
    let present = names.iter().filter_map(|name| Some(words(form, name, value(name)?)));
    let mut said: Vec<String> = present.collect();
    if said.is_empty() {
        said = names.iter().map(|name| format!("without {}", thing(form, name))).collect();
    }
    format!("{name} {} is not verified on tract", said.join(" and "))
}

/// A field that is not verified, as it is said of an operator: "Mod *whose A is broadcast*".
pub(super) fn words(form: &Form, name: &str, value: &str) -> String {
    let named = |place: usize| match operand_name(&form.operator, form.since, place) {
        Some(name) => name.to_owned(),
        None => format!("operand {}", place + 1),
    };
    match name {
        "broadcast" => match (value, places(value)) {
            ("?", _) => "whose operands are of unknown shape".to_owned(),
            (_, Some(places)) => {
                let verb = if places.len() == 1 { "is" } else { "are" };
                format!("whose {} {verb} broadcast", list(places.into_iter().map(named)))
            }
            _ => "some of whose operands are broadcast".to_owned(),
        },
        "same" => match places(value) {
            Some(places) => format!("whose {} are one value", list(places.into_iter().map(named))),
            None => "some of whose operands are one value".to_owned(),
        },
        "empty" => match places(value) {
            Some(places) => format!("whose {} has no elements", list(places.into_iter().map(named))),
            None if value == "y" => "that makes no elements".to_owned(),
            None => "of operands without elements".to_owned(),
        },
        "rank" if value.contains('?') => "whose operands are of unknown rank".to_owned(),
        "rank" => format!("on operands of rank {}", list(value.split('x').map(str::to_owned))),
        "fit" => "whose operands do not fit it".to_owned(),
        "outputs" if value == "many" => "with several outputs".to_owned(),
        "outputs" => {
            let asked = value.chars().enumerate().filter(|(_, flag)| *flag == '1');
            format!("asked for its outputs {}", list(asked.map(|(place, _)| (place + 1).to_string())))
        }
        "count" if value == "1" => "of one operand".to_owned(),
        "count" => format!("of {value} operands"),
        name => match (name.strip_prefix('@'), name.strip_prefix('x')) {
            (Some(attribute), _) => attribute_words(attribute, value),
            (None, Some("")) if value.contains('?') => "of operands of unknown dtype".to_owned(),
            (None, Some("")) => format!("of {}", list(value.split('+').map(|class| operand_words("", 0, class)))),
            (None, Some(place)) => {
                let place = place.parse().unwrap_or(0);
                let operator = form.operator.as_str();
                format!("whose {} is {}", named(place), operand_words(operator, place, value))
            }
            (None, None) => format!("with {name} {value}"),
        },
    }
}

/// "a", "a and b", "a, b and c".
fn list(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<String> = items.collect();
    match items.pop() {
        Some(last) if !items.is_empty() => format!("{} and {last}", items.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// The places of operands, each a digit.
fn places(value: &str) -> Option<Vec<usize>> {
    let digit = |letter: char| letter.to_digit(10).map(|digit| digit as usize);
    value.chars().map(digit).collect::<Option<Vec<_>>>().filter(|places| !places.is_empty())
}

/// What a field is about.
fn thing<'a>(form: &Form, name: &'a str) -> &'a str {
    let operand = || operand_name(&form.operator, form.since, name.strip_prefix('x')?.parse().ok()?);
    operand().unwrap_or_else(|| name.trim_start_matches('@'))
}

fn attribute_words(attribute: &str, value: &str) -> String {
    match (attribute, value) {
        ("to" | "dtype" | "output_dtype" | "output_datatype", number) => {
            let dtype = number.parse().ok().and_then(crate::form::dtype_of_proto);
            format!("with {attribute} {}", dtype.map_or("of a rare dtype".to_owned(), dtype_words))
        }
        ("value", dtype) if !["+", "-", "0"].contains(&dtype) => format!("with a value of {}", dtype_words(dtype)),
        ("group", "c") => "with as many groups as channels".to_owned(),
        ("group", "m") => "with as many groups as channels, of which each makes several".to_owned(),
        ("group", "?") => "with an unknown number of channels in a group".to_owned(),
        ("group", _) => "with several channels in a group".to_owned(),
        ("axes", "none") => "with no axes".to_owned(),
        ("axes", "one") => "over one axis".to_owned(),
        ("axes", "some") => "over several axes".to_owned(),
        ("axes", "all") => "over all axes".to_owned(),
        ("axis", "?") => "along an axis of an unknown rank".to_owned(),
        ("axis", place) => format!("along its {place} axis"),
        ("intercepts", count) => format!("with {}", counted(count, "intercept", "intercepts")),
        (_, count) if attribute.starts_with("classlabels_") => format!("of {}", counted(count, "class", "classes")),
        (_, "*") => format!("with {attribute}"),
        (_, "graph") => format!("with {attribute}"),
        (_, "+") => format!("with a positive {attribute}"),
        (_, "-" | "*-") => format!("with a negative {attribute}"),
        (_, "[]") => format!("with an empty {attribute}"),
        (_, "?" | "~") => format!("with {attribute} of an unknown kind"),
        _ => format!("with {attribute} {value}"),
    }
}

fn counted(count: &str, one: &str, several: &str) -> String {
    match count {
        "one" => format!("one {one}"),
        count => format!("{count} {several}"),
    }
}

fn operand_words(operator: &str, place: usize, value: &str) -> String {
    let (dtype, rest) = value.split_at(value.find(['c', 's']).unwrap_or(value.len()));
    let dtype = match dtype {
        "-" => return "left out".to_owned(),
        "?" => return "of unknown dtype".to_owned(),
        dtype => dtype_words(dtype),
    };
    let Some(class) = rest.strip_prefix('c') else {
        return if rest == "s" { format!("{dtype} that follows from shapes") } else { dtype };
    };
    let kind = match (operator, place, class) {
        (_, _, "") => return format!("constant {dtype}"),
        ("Pow", 1, exponent) => return format!("constant {exponent} of {dtype}"),
        ("Pad", 1, sides) => sides.to_owned(),
        ("Add" | "Sub" | "Mul" | "Div", _, "0") => "zero".to_owned(),
        ("Add" | "Sub" | "Mul" | "Div", _, "1") => "one".to_owned(),
        ("Add" | "Sub" | "Mul" | "Div", _, "2") => "power of two".to_owned(),
        (_, _, "?") => "unknown".to_owned(),
        _ => {
            let kinds = [('-', "negative"), ('0', "zero"), ('L', "very large"), ('e', "empty"), ('f', "fractional")];
            let said = kinds.into_iter().filter(|(letter, _)| class.contains(*letter)).map(|(_, kind)| kind);
            said.collect::<Vec<_>>().join(" or ")
        }
    };
    format!("constant {kind} {dtype}")
}

/// The dtype as the protocols call it.
fn dtype_words(dtype: &str) -> String {
    match dtype {
        "?" => "an unknown dtype".to_owned(),
        "dim" => "a size".to_owned(),
        "bool" => "BOOL".to_owned(),
        _ => {
            let (kind, bits) = dtype.split_at(1);
            let kind = match kind {
                "f" => "FP",
                "i" => "INT",
                "u" => "UINT",
                kind => kind,
            };
            format!("{kind}{bits}")
        }
    }
}
