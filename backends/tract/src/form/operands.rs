//! Operands by class: dtype, whether they are constant where that matters, ranks, and which of them are broadcast.

mod fit;

use std::collections::BTreeSet;

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::tract_core::internal::{DatumType, TDim, Tensor};
use tract_onnx::tract_hir::infer::{Factoid as _, InferenceFact};

use super::facts::Facts;
use super::padding::pads;
use crate::values::FromValues;

/// From this rank on ranks are one class.
const MAX_RANK: usize = 6;
/// An integer beyond this means "to the end".
const LARGE: i64 = i32::MAX as i64;

/// The operands of one node.
pub(super) struct Operands<'a> {
    node: &'a NodeProto,
    facts: &'a Facts<'a>,
    values: &'a FromValues<'a>,
}

impl<'a> Operands<'a> {
    pub(super) fn of(node: &'a NodeProto, facts: &'a Facts<'a>, values: &'a FromValues<'a>) -> Self {
        Self { node, facts, values }
    }

    fn fact(&self, operand: usize) -> Option<&InferenceFact> {
        self.facts.get(self.node.input.get(operand)?)
    }

    fn count(&self) -> usize {
        self.node.input.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }

    pub(super) fn rank(&self, operand: usize) -> Option<usize> {
        self.fact(operand)?.shape.rank().concretize().and_then(|rank| usize::try_from(rank).ok())
    }

    /// A dimension that is a number.
    pub(super) fn size(&self, operand: usize, axis: usize) -> Option<i64> {
        self.dim(operand, axis)?.to_i64().ok()
    }

    fn dim(&self, operand: usize, axis: usize) -> Option<TDim> {
        self.fact(operand)?.shape.dim(axis)?.concretize()
    }

    /// Fields `x0`, `x1` …; one field `x` and their number where the operator takes any number.
    pub(super) fn classes(&self, variadic: bool) -> Vec<(String, String)> {
        if !variadic {
            return (0..self.count()).map(|operand| (format!("x{operand}"), self.class(operand))).collect();
        }
        let kinds: BTreeSet<String> = (0..self.count()).map(|operand| self.class_among_many(operand)).collect();
        let count = if self.count() > 2 { "many".to_owned() } else { self.count().to_string() };
        vec![("x".to_owned(), kinds.into_iter().collect::<Vec<_>>().join("+")), ("count".to_owned(), count)]
    }

    /// Which operands are one value, not known at load: an engine may then compute otherwise.
    pub(super) fn same(&self) -> Option<String> {
        let is_open = |name: &str| self.facts.get(name).is_some_and(|fact| constant(fact).is_none());
        let inputs = &self.node.input;
        let again = |name: &String| {
            !name.is_empty() && is_open(name) && inputs.iter().filter(|other| *other == name).count() > 1
        };
        let places = inputs.iter().enumerate().filter(|(_, name)| again(name)).map(|(place, _)| place.to_string());
        let places = places.collect::<Vec<_>>().join("");
        (!places.is_empty()).then_some(places)
    }

    /// Which operands hold no elements, for all that is known of their shapes: an engine may not reckon with that. `y` where
    /// none is so, and a result. Of what says sizes that is no matter.
    pub(super) fn without_elements(&self, variadic: bool) -> Option<String> {
        let is_empty = |name: &str| {
            let mut dims = self.facts.get(name).into_iter().flat_map(|fact| fact.shape.dims());
            dims.any(|dim| dim.concretize() == Some(TDim::Val(0)))
        };
        let operands = self.node.input.iter().enumerate();
        let empty = operands.filter(|(place, name)| !sizes(&self.node.op_type, *place) && is_empty(name));
        let places: String = empty.map(|(place, _)| place.to_string()).collect();
        if !places.is_empty() {
            return Some(if variadic { "some".to_owned() } else { places });
        }
        self.node.output.iter().any(|name| is_empty(name)).then(|| "y".to_owned())
    }

    /// Whether the node is computed at load. Its numbers are then no matter.
    fn is_constant(&self) -> bool {
        let given = (0..self.count()).filter_map(|operand| self.fact(operand));
        given.map(|fact| constant(fact).is_some()).reduce(|all, one| all && one).unwrap_or(false)
    }

    fn class_among_many(&self, operand: usize) -> String {
        let Some(fact) = self.fact(operand) else { return "?".to_owned() };
        // What is joined is moved as it is, but for sizes.
        let tells = self.node.op_type != "Concat" || dtype(fact) == "i64";
        let constant = if tells && constant(fact).is_some() { "c" } else { "" };
        format!("{}{constant}", dtype(fact))
    }

    fn class(&self, operand: usize) -> String {
        if self.node.input[operand].is_empty() {
            return "-".to_owned();
        }
        let Some(fact) = self.fact(operand) else { return "?".to_owned() };
        let (dtype, constant) = (dtype(fact), constant(fact));
        if sizes(&self.node.op_type, operand) {
            return match constant {
                Some(tensor) => format!("{dtype}c{}", numbers(&self.node.op_type, operand, &tensor)),
                None if self.values.holds(&self.node.input[operand]) => dtype.to_owned(),
                None if dtype == "dim" => dtype.to_owned(),
                None => format!("{dtype}s"),
            };
        }
        match constant {
            Some(tensor) if self.node.op_type == "Pow" && operand == 1 => format!("{dtype}c{}", exponent(&tensor)),
            Some(tensor) if ARITHMETIC.contains(&self.node.op_type.as_str()) && !self.is_constant() => {
                format!("{dtype}c{}", uniform(&tensor))
            }
            Some(_) if tells_constant(&self.node.op_type, operand) => format!("{dtype}c"),
            _ => dtype.to_owned(),
        }
    }

    /// The ranks that the operator's meaning depends on, as one class.
    pub(super) fn ranks(&self, since: i64) -> Option<String> {
        let ranked: &[usize] = match self.node.op_type.as_str() {
            "Conv"
            | "ConvTranspose"
            | "ConvInteger"
            | "MaxPool"
            | "AveragePool"
            | "LpPool"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "GlobalLpPool"
            | "Resize"
            | "Upsample"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "LRN"
            | "GridSample"
            | "Flatten"
            | "Transpose"
            | "Attention"
            | "DFT"
            | "STFT"
            | "RotaryEmbedding"
            | "GatherElements"
            | "ScatterElements"
            | "Scatter"
            | "Compress"
            | "Trilu"
            | "MeanVarianceNormalization" => &[0],
            "Softmax" | "LogSoftmax" | "Hardmax" if since < 13 => &[0],
            "MatMul" | "MatMulInteger" | "Gather" | "GatherND" | "ScatterND" => &[0, 1],
            "QuantizeLinear" | "DequantizeLinear" => &[1],
            "QLinearConv" => &[0, 4],
            "QLinearMatMul" => &[0, 3, 1, 4],
            _ => return None,
        };
        let ranks = ranked.iter().map(|&operand| match self.rank(operand) {
            Some(rank) if rank >= MAX_RANK => format!("{MAX_RANK}+"),
            Some(rank) => rank.to_string(),
            None => "?".to_owned(),
        });
        Some(ranks.collect::<Vec<_>>().join("x"))
    }

    /// Which operands are broadcast; several classes where open dimensions do not tell.
    pub(super) fn broadcasts(&self, variadic: bool) -> Option<Vec<String>> {
        let keeps_last = match self.node.op_type.as_str() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "And" | "Or" | "Xor" | "Equal" | "Greater" | "Less"
            | "GreaterOrEqual" | "LessOrEqual" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "PRelu"
            | "Where" | "Max" | "Min" | "Sum" | "Mean" => 0,
            "MatMul" | "MatMulInteger" => 2,
            _ => return None,
        };
        let shapes: Option<Vec<Vec<Option<TDim>>>> = (0..self.count()).map(|operand| self.shape(operand)).collect();
        let Some(mut shapes) = shapes else { return Some(vec!["?".to_owned()]) };
        // The last two dimensions of a product are not broadcast; a vector has none before them.
        shapes.iter_mut().for_each(|shape| shape.truncate(shape.len().saturating_sub(keeps_last)));
        // A value is of its own shape, whatever is open in that.
        let first = |operand: usize| {
            let name = self.node.input.get(operand);
            self.node.input.iter().position(|other| Some(other) == name).unwrap_or(operand)
        };
        let distinct: Vec<usize> = (0..self.count()).filter(|&operand| first(operand) == operand).collect();
        let found = broadcast(&distinct.iter().map(|&operand| shapes[operand].clone()).collect::<Vec<_>>());
        let place = |operand: usize| distinct.iter().position(|&other| other == first(operand));
        let found: Vec<Broadcast> =
            (0..self.count()).filter_map(|operand| found.get(place(operand)?).copied()).collect();
        if variadic && self.count() > 2 {
            let some = found.contains(&Broadcast::Yes);
            let open = found.contains(&Broadcast::Maybe);
            return Some(match (some, open) {
                (true, _) => vec!["some".to_owned()],
                (false, true) => vec![String::new(), "some".to_owned()],
                (false, false) => vec![String::new()],
            });
        }
        let mut classes = vec![String::new()];
        for (operand, broadcast) in found.iter().enumerate() {
            let with: Vec<String> = classes.iter().map(|class| format!("{class}{operand}")).collect();
            match broadcast {
                Broadcast::No => {}
                Broadcast::Yes => classes = with,
                Broadcast::Maybe => classes.extend(with),
            }
        }
        Some(classes)
    }

    fn shape(&self, operand: usize) -> Option<Vec<Option<TDim>>> {
        let rank = self.rank(operand)?;
        Some((0..rank).map(|axis| self.dim(operand, axis)).collect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broadcast {
    No,
    Yes,
    Maybe,
}

/// Whether each of these shapes, none for an open dimension, grows when they are broadcast together.
fn broadcast(shapes: &[Vec<Option<TDim>>]) -> Vec<Broadcast> {
    let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
    let size = |shape: &[Option<TDim>], axis: usize| shape.get(axis).cloned().flatten();
    let aligned = |shape: &Vec<Option<TDim>>| -> Vec<Option<TDim>> {
        let missing = rank - shape.len();
        (0..rank).map(|axis| if axis < missing { Some(TDim::Val(1)) } else { size(shape, axis - missing) }).collect()
    };
    let all: Vec<Vec<Option<TDim>>> = shapes.iter().map(aligned).collect();
    let against = |own: &Option<TDim>, other: &Option<TDim>| match (own, other) {
        (Some(own), Some(other)) if own == other => Broadcast::No,
        (_, Some(TDim::Val(1))) => Broadcast::No,
        (Some(TDim::Val(1)), Some(TDim::Val(_))) => Broadcast::Yes,
        (Some(TDim::Val(1)), _) => Broadcast::Maybe,
        (Some(TDim::Val(_)), _) => Broadcast::No,
        _ => Broadcast::Maybe,
    };
    let others =
        |place: usize| all.iter().enumerate().filter(move |(other, _)| *other != place).map(|(_, other)| other);
    all.iter()
        .zip(shapes)
        .enumerate()
        .map(|(place, (own, written))| {
            let dims = others(place).flat_map(|other| own.iter().zip(other)).map(|(own, other)| against(own, other));
            let found: Vec<Broadcast> = dims.collect();
            if written.len() < rank || found.contains(&Broadcast::Yes) {
                Broadcast::Yes
            } else if found.contains(&Broadcast::Maybe) {
                Broadcast::Maybe
            } else {
                Broadcast::No
            }
        })
        .collect()
}

/// Whether an operand says sizes, places or counts: its numbers matter then, and whether they are known at load.
fn sizes(operator: &str, operand: usize) -> bool {
    match operator {
        "ConstantOfShape" => true,
        "Range" | "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => true,
        "Reshape" | "Expand" | "Tile" | "Squeeze" | "Unsqueeze" | "Split" | "TopK" | "OneHot" | "CumSum" | "Gather"
        | "GatherND" | "GatherElements" | "ScatterND" | "ScatterElements" | "Scatter" | "Trilu" | "BitShift"
        | "CenterCropPad" | "Compress" => operand == 1,
        "Slice" => operand >= 1,
        "Pad" => operand == 1 || operand == 3,
        "Resize" => operand >= 1,
        "Upsample" => operand == 1,
        "DFT" => operand >= 1,
        "STFT" => operand == 1 || operand == 3,
        "NonMaxSuppression" => operand >= 2,
        "Dropout" => operand >= 1,
        _ => operator.starts_with("Reduce") && operand == 1,
    }
}

/// Whether an engine may compute otherwise where this operand is a constant: it packs, folds or replaces by it. What is
/// moved as it is, is moved alike.
fn tells_constant(operator: &str, operand: usize) -> bool {
    match operand {
        0 => matches!(
            operator,
            "Add"
                | "Sub"
                | "Mul"
                | "Div"
                | "Pow"
                | "Mod"
                | "And"
                | "Or"
                | "Xor"
                | "Equal"
                | "Greater"
                | "Less"
                | "GreaterOrEqual"
                | "LessOrEqual"
                | "BitShift"
                | "BitwiseAnd"
                | "BitwiseOr"
                | "BitwiseXor"
                | "Where"
                | "Clip"
                | "MatMul"
                | "MatMulInteger"
                | "Gemm"
                | "Einsum"
                | "If"
        ),
        1 | 2 => true,
        _ => false,
    }
}

fn dtype(fact: &InferenceFact) -> &'static str {
    let found = fact.datum_type.concretize();
    match found {
        Some(DatumType::TDim) if constant(fact).is_some() => "i64",
        Some(DatumType::TDim) => "dim",
        Some(DatumType::Bool) => "bool",
        Some(DatumType::U8) => "u8",
        Some(DatumType::U16) => "u16",
        Some(DatumType::U32) => "u32",
        Some(DatumType::U64) => "u64",
        Some(DatumType::I8) => "i8",
        Some(DatumType::I16) => "i16",
        Some(DatumType::I32) => "i32",
        Some(DatumType::I64) => "i64",
        Some(DatumType::F16) => "f16",
        Some(DatumType::F32) => "f32",
        Some(DatumType::F64) => "f64",
        Some(_) | None => "?",
    }
}

/// The dtype of a stored tensor, by its number in the format; none where tract has no such.
pub(crate) fn dtype_of_proto(data_type: i32) -> Option<&'static str> {
    Some(match DataType::try_from(data_type) {
        Ok(DataType::Bool) => "bool",
        Ok(DataType::Uint8) => "u8",
        Ok(DataType::Uint16) => "u16",
        Ok(DataType::Uint32) => "u32",
        Ok(DataType::Uint64) => "u64",
        Ok(DataType::Int8) => "i8",
        Ok(DataType::Int16) => "i16",
        Ok(DataType::Int32) => "i32",
        Ok(DataType::Int64) => "i64",
        Ok(DataType::Float16) => "f16",
        Ok(DataType::Float) => "f32",
        Ok(DataType::Double) => "f64",
        _ => return None,
    })
}

/// The value, if it is known at load whatever the shapes of a request are.
fn constant(fact: &InferenceFact) -> Option<std::sync::Arc<Tensor>> {
    let value = fact.value.concretize()?;
    let is_open = value.datum_type() == DatumType::TDim && value.cast_to::<i64>().is_err();
    (!is_open).then_some(value)
}

/// What the numbers of a constant are like: `-` some are negative, `0` some are zero, `L` some are beyond any size,
/// `e` there are none. Pads are told apart as attributes are.
fn numbers(operator: &str, operand: usize, tensor: &Tensor) -> String {
    if tensor.datum_type().is_float() || tensor.datum_type() == DatumType::Bool {
        // Of scales a fraction says nothing, of counts it does; what drops nothing is the same as what does not drop.
        return match operator {
            _ if tensor.len() == 0 => "e",
            "Range" if any(tensor, |value| value.fract() != 0.0) => "f",
            "Dropout" if !any(tensor, |value| value != 0.0) => "0",
            _ => "",
        }
        .to_owned();
    }
    let Ok(wide) = tensor.cast_to::<i64>() else { return "?".to_owned() };
    let Ok(view) = wide.to_plain_array_view::<i64>() else { return "?".to_owned() };
    let values: Vec<i64> = view.iter().copied().collect();
    if operator == "Pad" && operand == 1 {
        return pads(&values).unwrap_or_default().to_owned();
    }
    let mut class = String::new();
    if is_axes(operator, operand) {
        return if values.is_empty() { "e" } else { "" }.to_owned();
    }
    let mut add = |holds: bool, letter: char| class.extend(holds.then_some(letter));
    add(values.is_empty(), 'e');
    add(values.iter().any(|value| *value < 0), '-');
    // Zero is a place like any other, and the smallest; as a size it is a case of its own.
    add(matches!(operator, "Reshape" | "Expand" | "Tile" | "TopK" | "Split") && values.contains(&0), '0');
    add(values.iter().any(|value| value.unsigned_abs() > LARGE as u64), 'L');
    class
}

/// Operands that name axes: from which end they are counted is no matter of its own.
fn is_axes(operator: &str, operand: usize) -> bool {
    match operator {
        "Squeeze" | "Unsqueeze" | "CumSum" => operand == 1,
        "Slice" | "Pad" => operand == 3,
        _ => operator.starts_with("Reduce"),
    }
}

/// The exponents that an engine may compute otherwise than by a general power.
fn exponent(tensor: &Tensor) -> String {
    if tensor.len() != 1 {
        return String::new();
    }
    let known = tensor.cast_to::<f32>().ok().and_then(|wide| wide.to_plain_array_view::<f32>().ok()?.first().copied());
    match known {
        Some(value) if [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0].contains(&value) => value.to_string(),
        _ => String::new(),
    }
}

/// Operators that tract leaves out, or replaces, by the value of a constant whose elements are all alike.
const ARITHMETIC: [&str; 4] = ["Add", "Sub", "Mul", "Div"];

/// `0` or `1` where all elements are that, `2` where they are one power of two in a dtype of integers.
fn uniform(tensor: &Tensor) -> &'static str {
    let Ok(wide) = tensor.cast_to::<f64>() else { return "?" };
    let Ok(view) = wide.to_plain_array_view::<f64>() else { return "?" };
    let Some(&first) = view.first() else { return "e" };
    if view.iter().any(|value| *value != first) {
        return "";
    }
    match first {
        0.0 => "0",
        1.0 => "1",
        power if tensor.datum_type().is_integer() && power > 1.0 && (power as u64).is_power_of_two() => "2",
        _ => "",
    }
}

/// Whether there is such an element.
fn any(tensor: &Tensor, is_such: impl Fn(f64) -> bool) -> bool {
    let Ok(wide) = tensor.cast_to::<f64>() else { return true };
    wide.to_plain_array_view::<f64>().is_ok_and(|view| view.iter().any(|value| is_such(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[i64]) -> Vec<Option<TDim>> {
        dims.iter().map(|dim| (*dim >= 0).then_some(TDim::Val(*dim))).collect()
    }

    #[test]
    fn broadcasting_is_told_where_the_dimensions_tell() {
        use Broadcast::{Maybe, No, Yes};
        for (left, right, expected) in [
            (&[2, 3][..], &[2, 3][..], [No, No]),
            (&[2, 3], &[3], [No, Yes]),
            (&[1, 3], &[2, 1], [Yes, Yes]),
            (&[], &[2], [Yes, No]),
            (&[-1, 3], &[1, 3], [No, Maybe]),
            (&[-1, 3], &[-1, 3], [Maybe, Maybe]),
            (&[-1, 3], &[4, 3], [Maybe, No]),
        ] {
            assert_eq!(broadcast(&[shape(left), shape(right)]), expected, "{left:?} {right:?}");
        }
    }
}
