//! Attributes by class: what may change how an engine computes is told apart, plain numbers are not.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::operands::{Operands, dtype_of_proto};
use super::padding::pads;
use super::schemas::Schema;

/// Integers that stand for a choice: each value is a class of its own.
const CHOICES: [&str; 35] = [
    "align_corners",
    "allowzero",
    "ceil_mode",
    "count_include_pad",
    "detect_negative",
    "detect_positive",
    "dtype",
    "exclude_outside",
    "exclusive",
    "fmod",
    "input_forget",
    "interleaved",
    "inverse",
    "is_causal",
    "k",
    "keepdims",
    "largest",
    "layout",
    "left_window_size",
    "linear_before_reset",
    "mode",
    "noop_with_empty_axes",
    "onesided",
    "output_datatype",
    "output_dtype",
    "p",
    "periodic",
    "qk_matmul_output_mode",
    "reverse",
    "select_last_index",
    "sorted",
    "storage_order",
    "to",
    "training_mode",
    "upper",
];
/// The longest text that is a class of its own.
const MAX_TEXT: usize = 48;
/// What stands for what has no class, and for letters that a line of the table cannot hold.
const UNREADABLE: char = '~';
/// The most texts of a list that make a class of their own.
const MAX_TEXTS: usize = 6;

/// The attributes of `node` as names and classes, by name. Those at their defaults are left out, except axes, whose
/// class depends on the operand's rank.
pub(super) fn classes(node: &NodeProto, schema: Option<&Schema>, operands: &Operands<'_>) -> Vec<(String, String)> {
    let mut classes: Vec<(String, String)> = node
        .attribute
        .iter()
        .filter_map(|attribute| {
            let default = schema.and_then(|schema| schema.default(&attribute.name));
            let class = match attribute.name.as_str() {
                "axis" if is_integer(attribute) => Some(axis(attribute.i, operands)),
                "group" if is_integer(attribute) => group(node, attribute.i, operands),
                "equation" => Some(equation(&text(&attribute.s))),
                _ => class(attribute, default, operands),
            };
            Some((attribute.name.clone(), class?))
        })
        .collect();
    let default = schema.and_then(|schema| schema.default("axis")).and_then(|text| text.parse().ok());
    if let Some(default) = default.filter(|_| !node.attribute.iter().any(|attribute| attribute.name == "axis")) {
        classes.push(("axis".to_owned(), axis(default, operands)));
    }
    classes.sort();
    classes
}

fn is_integer(attribute: &AttributeProto) -> bool {
    attribute.r#type == AttributeType::Int as i32
}

fn class(attribute: &AttributeProto, default: Option<&str>, operands: &Operands<'_>) -> Option<String> {
    let name = attribute.name.as_str();
    match AttributeType::try_from(attribute.r#type) {
        Ok(AttributeType::Int) => {
            let value = attribute.i;
            if default.and_then(|text| text.parse().ok()) == Some(value) {
                return None;
            }
            if name == "size" {
                // An even window is not centred.
                return Some(if value % 2 == 0 { "even" } else { "odd" }.to_owned());
            }
            let is_own = CHOICES.contains(&name) || (-1..=1).contains(&value);
            Some(if is_own { value.to_string() } else { sign(value < 0) })
        }
        Ok(AttributeType::Float) => {
            let value = attribute.f;
            let is_default = default.and_then(|text| text.parse::<f32>().ok()) == Some(value);
            (!is_default).then(|| if value == 0.0 { "0".to_owned() } else { sign(value < 0.0) })
        }
        Ok(AttributeType::String) => {
            let value = text(&attribute.s);
            (default != Some(value.as_str())).then_some(value)
        }
        Ok(AttributeType::Strings) => {
            if name.starts_with("classlabels_") {
                return Some(count(attribute.strings.len()).to_owned());
            }
            // The kinds that there are, not how many of each: a tree has thousands of nodes.
            let mut texts: Vec<String> = attribute.strings.iter().map(|bytes| text(bytes)).collect();
            if name != "activations" {
                texts.sort_unstable();
                texts.dedup();
            }
            Some(if texts.len() > MAX_TEXTS { "*".to_owned() } else { texts.join(",") })
        }
        Ok(AttributeType::Ints) => list(name, &attribute.ints, operands),
        // One row of coefficients for two classes is laid out in a way of its own.
        Ok(AttributeType::Floats) if name == "intercepts" => Some(count(attribute.floats.len()).to_owned()),
        Ok(AttributeType::Floats) => Some(if attribute.floats.is_empty() { "[]" } else { "*" }.to_owned()),
        Ok(AttributeType::Tensor) => {
            let dtype = attribute.t.as_ref().and_then(|tensor| dtype_of_proto(tensor.data_type));
            Some(dtype.map_or(UNREADABLE.to_string(), str::to_owned))
        }
        Ok(AttributeType::Graph | AttributeType::Graphs) => Some("graph".to_owned()),
        _ => Some(UNREADABLE.to_string()),
    }
}

/// Two classes are often computed as one.
fn count(classes: usize) -> &'static str {
    match classes {
        0 | 1 => "one",
        2 => "two",
        _ => "many",
    }
}

fn sign(negative: bool) -> String {
    if negative { "-" } else { "+" }.to_owned()
}

/// A text without what would break a line of the table.
fn text(bytes: &[u8]) -> String {
    // A `?` stands for any text where forms are compared.
    let is_plain = |letter: char| letter.is_ascii_graphic() && !['|', '?'].contains(&letter);
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|letter| *letter != ' ')
        .take(MAX_TEXT)
        .map(|letter| if is_plain(letter) { letter } else { UNREADABLE })
        .collect()
}

/// The equation with its letters renamed in the order in which they come.
fn equation(written: &str) -> String {
    let mut seen: Vec<char> = Vec::new();
    written
        .chars()
        .map(|letter| {
            if !letter.is_ascii_alphabetic() {
                return letter;
            }
            let place = seen.iter().position(|known| *known == letter).unwrap_or_else(|| {
                seen.push(letter);
                seen.len() - 1
            });
            // There are at most 48 letters in a text of that length.
            char::from(if place < 26 { b'a' + place as u8 } else { b'A' + (place - 26) as u8 })
        })
        .collect()
}

/// Where the axis is. From which end it is counted is no matter of its own: the suite tries both.
fn axis(value: i64, operands: &Operands<'_>) -> String {
    let Some(rank) = operands.rank(0) else { return "?".to_owned() };
    let rank = rank as i64;
    let place = if value < 0 { value.saturating_add(rank) } else { value };
    match place {
        0 => "first",
        place if place == rank - 1 => "last",
        place if (0..rank).contains(&place) => "middle",
        _ => "outside",
    }
    .to_owned()
}

/// `c` where each group has one channel, `m` where each such channel makes several, else `n`.
fn group(node: &NodeProto, value: i64, operands: &Operands<'_>) -> Option<String> {
    if value == 1 {
        return None;
    }
    let weights = if node.op_type == "QLinearConv" { 3 } else { 1 };
    // Of a transposed convolution the first dimension is the channels that come in, else those that go out.
    let (inside, outside) = if node.op_type == "ConvTranspose" { (0, 1) } else { (1, 0) };
    let dims = (operands.size(weights, inside), operands.size(weights, outside));
    let class = match dims {
        (Some(inside), Some(outside)) if node.op_type == "ConvTranspose" => match (inside == value, outside == 1) {
            (true, true) => "c",
            (true, false) => "m",
            _ => "n",
        },
        (Some(1), Some(outside)) if outside == value => "c",
        (Some(1), Some(_)) => "m",
        (Some(_), Some(_)) => "n",
        _ => "?",
    };
    Some(class.to_owned())
}

fn list(name: &str, values: &[i64], operands: &Operands<'_>) -> Option<String> {
    let all = |wanted: i64| values.iter().all(|value| *value == wanted);
    let negative = values.iter().any(|value| *value < 0);
    match name {
        "pads" => pads(values).map(str::to_owned),
        "strides" | "dilations" => (!all(1)).then(|| "*".to_owned()),
        "output_padding" => (!all(0)).then(|| "*".to_owned()),
        "kernel_shape" => all(1).then(|| "1".to_owned()),
        "axes" => {
            let count = match (values.len(), operands.rank(0)) {
                (0, _) => "none",
                (count, Some(rank)) if count == rank => "all",
                (1, _) => "one",
                _ => "some",
            };
            Some(count.to_owned())
        }
        _ if name.starts_with("classlabels_") => Some(count(values.len()).to_owned()),
        _ if values.is_empty() => Some("[]".to_owned()),
        _ => Some(if negative { "*-" } else { "*" }.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_an_equation_mean_nothing() {
        assert_eq!(equation("bhqd,bhkd->bhqk"), "abcd,abed->abce");
        assert_eq!(equation("ij->"), "ab->");
        assert_eq!(equation("...ij,...jk"), "...ab,...bc");
    }
}
