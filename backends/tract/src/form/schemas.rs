//! What ONNX says of its operators: their versions, the defaults of their attributes, the names of their operands
//! (`schemas.tsv`).

use std::collections::HashMap;
use std::sync::LazyLock;

use corymb_onnx::is_standard;
use tract_onnx::pb::NodeProto;

/// One version of one operator.
#[derive(Debug)]
pub(super) struct Schema {
    /// The operator set that brought it.
    pub(super) since: i64,
    /// Whether the operator takes any number of operands.
    pub(super) variadic: bool,
    defaults: HashMap<&'static str, &'static str>,
    operands: Vec<&'static str>,
}

impl Schema {
    /// The default of an attribute, as `schemas.py` writes it: a number or a text.
    pub(super) fn default(&self, attribute: &str) -> Option<&'static str> {
        self.defaults.get(attribute).copied()
    }

    /// What ONNX calls an operand.
    pub(super) fn operand(&self, place: usize) -> Option<&'static str> {
        self.operands.get(place).copied()
    }
}

/// The operator's name, with its domain where that is not the standard one.
pub(super) fn name(node: &NodeProto) -> String {
    if is_standard(&node.domain) { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// The version of an operator that holds in the operator set `opset`.
pub(super) fn find(name: &str, opset: i64) -> Option<&'static Schema> {
    static SCHEMAS: LazyLock<HashMap<&str, Vec<Schema>>> = LazyLock::new(read);
    SCHEMAS.get(name)?.iter().rfind(|schema| schema.since <= opset)
}

fn read() -> HashMap<&'static str, Vec<Schema>> {
    let mut schemas: HashMap<&str, Vec<Schema>> = HashMap::new();
    for line in include_str!("../../schemas.tsv").lines() {
        let mut columns = line.split('\t');
        let (Some(name), Some(since), Some(many)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        let variadic = many == "many";
        let Ok(since) = since.parse() else { continue };
        let written = columns.next().unwrap_or_default();
        let defaults = written.split(',').filter_map(|pair| pair.split_once('=')).collect();
        let operands = columns.next().unwrap_or_default().split(',').collect();
        schemas.entry(name).or_default().push(Schema { since, variadic, defaults, operands });
    }
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_newest_that_the_operator_set_has() {
        let since = |name, opset| find(name, opset).map(|schema| schema.since);
        assert_eq!(since("Softmax", 12), Some(11));
        assert_eq!(since("Softmax", 13), Some(13));
        assert_eq!(since("Gelu", 19), None);
        assert_eq!(find("Gemm", 13).and_then(|schema| schema.default("alpha")), Some("1.0"));
        assert_eq!(since("ai.onnx.ml.LinearRegressor", 3), Some(1));
    }
}
