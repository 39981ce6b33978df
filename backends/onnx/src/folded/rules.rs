//! What each operator makes of values that no request changes, how large that is, and how many steps it takes.

use std::iter::zip;

use super::value::{Fixed, Value, broadcast, place, product};
use crate::proto::{AttributeProto, NodeProto, TensorProto, elem};

/// What computing a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// So many steps: about one for each element, or each product.
    Known(u64),
    /// A step for each element, of which nobody knows how many there are.
    UnknownSize,
    /// Nobody knows.
    Unknown,
}

/// The attributes of a node. What stands for an attribute of the function around it is not known.
pub(super) struct Attributes<'a>(pub(super) &'a NodeProto);

impl<'a> Attributes<'a> {
    fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// None where it is not known.
    fn integer_or(&self, name: &str, default: i64) -> Option<i64> {
        match self.get(name) {
            None => Some(default),
            Some(given) if given.ref_attr_name.is_empty() => Some(given.i.unwrap_or_default()),
            Some(_) => None,
        }
    }

    fn integers(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).filter(|given| given.ref_attr_name.is_empty()).map(|given| given.ints.as_slice())
    }
}

/// A tensor of the file.
pub(super) fn stored(tensor: &TensorProto) -> Fixed {
    let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(u64::MAX)).collect();
    let value = Fixed::of(dims);
    let few = value.elements.is_some_and(|elements| elements <= 64);
    let numbers = if few { numbers(tensor) } else { None };
    value.with(numbers.map(|numbers| numbers.into_iter().map(Some).collect()))
}

fn numbers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let raw = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty());
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the range")]
    let whole = |number: f32| (number.trunc() == number && number.abs() < 1e9).then_some(number as i64);
    match (tensor.data_type, raw) {
        (elem::INT64, Some(raw)) => {
            Some(raw.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
        }
        (elem::INT64, None) => Some(tensor.int64_data.clone()),
        (elem::INT32, Some(raw)) => {
            Some(raw.as_chunks::<4>().0.iter().map(|chunk| i64::from(i32::from_le_bytes(*chunk))).collect())
        }
        (elem::BOOL, Some(raw)) => Some(raw.iter().map(|byte| i64::from(*byte != 0)).collect()),
        (elem::INT32 | elem::BOOL, None) => Some(tensor.int32_data.iter().copied().map(i64::from).collect()),
        (elem::FLOAT, Some(raw)) => {
            raw.as_chunks::<4>().0.iter().map(|chunk| whole(f32::from_le_bytes(*chunk))).collect()
        }
        (elem::FLOAT, None) => tensor.float_data.iter().copied().map(whole).collect(),
        _ => None,
    }
}

/// The results of a node, and what they take; none where requests take part in them.
pub(super) fn apply(
    domain: &str,
    operator: &str,
    attributes: &Attributes<'_>,
    operands: &[Option<Value>],
) -> Option<(Vec<Fixed>, Effort)> {
    // No engine keeps a sequence that it has computed.
    if crate::rows::draws(operator) || operator.contains("Sequence") || operator.starts_with("Optional") {
        return None;
    }
    let results = attributes.0.output.len();
    if domain.is_empty() && matches!(operator, "Shape" | "Size") {
        let sizes = sizes(operator, attributes, operands.first()?.as_ref()?);
        return Some((vec![sizes; results], Effort::Known(1)));
    }
    let fixed: Option<Vec<Option<&Fixed>>> = operands
        .iter()
        .map(|operand| match operand {
            None => Some(None),
            Some(Value::Fixed(fixed)) => Some(Some(fixed)),
            Some(Value::Fed(_)) => None,
        })
        .collect();
    let node = Node { operator, attributes, operands: &fixed? };
    if !domain.is_empty() {
        return Some((vec![Fixed::unknown(); results], Effort::Unknown));
    }
    if let Some(numbers) = node.numbers() {
        return Some((vec![numbers; results], Effort::Known(1)));
    }
    // A size that requests give.
    if node.operands.iter().flatten().any(|operand| operand.is_open()) {
        return None;
    }
    let (result, effort) = node.result();
    Some((vec![result; results], effort))
}

fn sizes(operator: &str, attributes: &Attributes<'_>, of: &Value) -> Fixed {
    let dims: Option<Vec<Option<i64>>> = match of {
        Value::Fed(dims) => dims.as_ref().map(|dims| dims.iter().map(|dim| i64::try_from((*dim)?).ok()).collect()),
        Value::Fixed(fixed) => {
            fixed.dims.as_ref().map(|dims| dims.iter().map(|dim| i64::try_from(*dim).ok()).collect())
        }
    };
    let few = || Fixed::at_most(Some(8));
    let Some(dims) = dims else { return few() };
    if operator == "Size" {
        let all = dims.iter().copied().try_fold(1_i64, |product, dim| product.checked_mul(dim?));
        return Fixed::of(Vec::new()).with(Some(vec![all]));
    }
    let bound = |name: &str, default: usize| {
        let given = attributes.integer_or(name, i64::try_from(default).ok()?)?;
        let from_end = if given < 0 { given.checked_add(i64::try_from(dims.len()).ok()?)? } else { given };
        Some(usize::try_from(from_end.max(0)).ok()?.min(dims.len()))
    };
    match (bound("start", 0), bound("end", dims.len())) {
        (Some(start), Some(end)) => Fixed::row(dims.get(start..end).unwrap_or_default().to_vec()),
        _ => few(),
    }
}

/// A node whose operands are all known to follow from the file.
struct Node<'n> {
    operator: &'n str,
    attributes: &'n Attributes<'n>,
    operands: &'n [Option<&'n Fixed>],
}

/// Results have the shape of the first operand.
const SAME: [&str; 57] = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "CumSum",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "EyeLike",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Neg",
    "Not",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Trilu",
];
/// Results have the shape that the operands have together.
const TOGETHER: [&str; 25] = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
    "Swish",
];
/// Results have no more elements than the first operand.
const FEWER: [&str; 21] = [
    "ArgMax",
    "ArgMin",
    "Compress",
    "DepthToSpace",
    "Flatten",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Slice",
    "SpaceToDepth",
    "Split",
    "TopK",
    "Transpose",
    "Unique",
];

impl<'n> Node<'n> {
    fn get(&self, index: usize) -> Option<&'n Fixed> {
        *self.operands.get(index)?
    }

    /// The numbers of an operand that are all known.
    fn known(&self, index: usize) -> Option<Vec<i64>> {
        self.get(index)?.known()
    }

    fn given(&self) -> impl Iterator<Item = &'n Fixed> + Clone {
        self.operands.iter().copied().flatten()
    }

    /// The result, and what it takes.
    fn result(&self) -> (Fixed, Effort) {
        let first = self.get(0).and_then(|first| first.elements);
        let (result, steps) = match self.operator {
            "Constant" => (self.constant(), Some(1)),
            operator if SAME.contains(&operator) => {
                let first = self.get(0).cloned().unwrap_or_default();
                let result = Fixed { numbers: None, ..first };
                let steps = self.given().try_fold(0_u64, |sum, given| Some(sum.saturating_add(given.elements?)));
                (result, steps)
            }
            operator if TOGETHER.contains(&operator) => {
                let shapes: Option<Vec<&Vec<u64>>> = self.given().map(|given| given.dims.as_ref()).collect();
                let result = match shapes.and_then(|shapes| broadcast(shapes.into_iter())) {
                    Some(dims) => Fixed::of(dims),
                    None => Fixed::at_most(self.all_elements()),
                };
                let steps = result.elements.map(|elements| elements.saturating_mul(self.operands.len() as u64));
                (result, steps)
            }
            operator if FEWER.contains(&operator) => (Fixed::shaped(self.fewer(), first), first),
            "Reshape" => (Fixed::shaped(self.reshaped(), first), first),
            "Squeeze" | "Unsqueeze" => (Fixed::shaped(self.squeezed(), first), first),
            "NonZero" => (Fixed::at_most(first.map(|elements| elements.saturating_mul(8))), first),
            "MatMul" | "Gemm" => self.product(),
            "Einsum" => (Fixed::at_most(self.all_elements()), self.all_elements()),
            operator => match self.grown(operator) {
                Some(result) => (result, None),
                None => return (Fixed::unknown(), Effort::Unknown),
            },
        };
        let steps = steps.or(result.elements);
        let heavy = matches!(self.operator, "MatMul" | "Gemm" | "Einsum");
        let effort = match steps {
            Some(steps) => Effort::Known(steps),
            None if heavy => Effort::Unknown,
            None => Effort::UnknownSize,
        };
        (result, effort)
    }

    /// What operators make that write more than they read; none for others.
    fn grown(&self, operator: &str) -> Option<Fixed> {
        let sizes = |index: usize| -> Option<Vec<u64>> {
            self.known(index)?.into_iter().map(|size| u64::try_from(size).ok()).collect()
        };
        let dims = |index: usize| self.get(index).and_then(|operand| operand.dims.clone());
        let found = match operator {
            "Concat" => return Some(self.concatenated()),
            "Gather" => return Some(self.gathered()),
            "ConstantOfShape" => sizes(0),
            "Expand" => sizes(1).and_then(|sizes| broadcast([&dims(0)?, &sizes].into_iter())),
            "Tile" => dims(0)
                .zip(sizes(1))
                .map(|(dims, times)| zip(dims, times).map(|(dim, times)| dim.saturating_mul(times)).collect()),
            "BlackmanWindow" | "HammingWindow" | "HannWindow" => sizes(0),
            "MelWeightMatrix" => sizes(0).zip(sizes(1)).map(|(bins, frequencies)| [bins, frequencies].concat()),
            "Range" => self.range(),
            "Pad" => self.padded(),
            "OneHot" => {
                let depth = sizes(1).and_then(|depth| depth.first().copied());
                let indices = self.get(0).and_then(|indices| indices.elements);
                return Some(Fixed::at_most(indices.zip(depth).map(|(indices, depth)| indices.saturating_mul(depth))));
            }
            "GatherElements" => dims(1),
            "GatherND" => {
                // A slice for each tuple of indices.
                let (data, indices) =
                    (self.get(0).and_then(|data| data.elements), self.get(1).and_then(|at| at.elements));
                return Some(Fixed::at_most(data.zip(indices).map(|(data, indices)| data.saturating_mul(indices))));
            }
            _ => return None,
        };
        Some(Fixed::shaped(found, None))
    }

    /// Products of the elements of all operands: as many as any result of them has.
    fn all_elements(&self) -> Option<u64> {
        self.given().try_fold(1_u64, |product, given| Some(product.saturating_mul(given.elements?)))
    }

    fn constant(&self) -> Fixed {
        if let Some(tensor) = self.attributes.get("value").and_then(|value| value.t.as_ref()) {
            return stored(tensor);
        }
        let number = |name: &str| self.attributes.get(name).filter(|given| given.ref_attr_name.is_empty());
        if let Some(given) = number("value_int") {
            return Fixed::of(Vec::new()).with(Some(vec![Some(given.i.unwrap_or_default())]));
        }
        if let Some(given) = number("value_ints") {
            return Fixed::row(given.ints.iter().copied().map(Some).collect());
        }
        // Texts, fractions and what a function is called with: as large as the file at most.
        Fixed::at_most(Some(self.attributes.0.attribute.iter().map(|given| 1 + given.floats.len() as u64).sum()))
    }

    /// The shape of a result that has no more elements than the first operand; none where the rule is not worth its lines.
    fn fewer(&self) -> Option<Vec<u64>> {
        let dims = self.get(0)?.dims.as_ref()?;
        match self.operator {
            "Transpose" => match self.attributes.integers("perm") {
                Some(axes) => axes.iter().map(|axis| dims.get(place(*axis, dims.len())?).copied()).collect(),
                None => Some(dims.iter().rev().copied().collect()),
            },
            "Flatten" => {
                let axis = self.attributes.integer_or("axis", 1)?;
                let rank = i64::try_from(dims.len()).ok()?;
                let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?.min(dims.len());
                Some(vec![product(&dims[..axis]), product(&dims[axis..])])
            }
            _ => None,
        }
    }

    fn reshaped(&self) -> Option<Vec<u64>> {
        let (data, asked) = (self.get(0)?, self.known(1)?);
        let old = data.dims.as_ref();
        let keeps_zero = self.attributes.integer_or("allowzero", 0)? != 0;
        let mut dims: Vec<Option<u64>> = Vec::with_capacity(asked.len());
        for (axis, size) in asked.iter().enumerate() {
            dims.push(match size {
                -1 => None,
                0 if !keeps_zero => Some(*old?.get(axis)?),
                size => Some(u64::try_from(*size).ok()?),
            });
        }
        let others = dims.iter().flatten().fold(1_u64, |product, dim| product.saturating_mul(*dim));
        let rest = data.elements?.checked_div(others);
        dims.into_iter().map(|dim| dim.or(rest)).collect()
    }

    fn axes(&self) -> Option<Vec<i64>> {
        match self.attributes.get("axes") {
            Some(_) => self.attributes.integers("axes").map(<[i64]>::to_vec),
            None => self.known(1),
        }
    }

    fn squeezed(&self) -> Option<Vec<u64>> {
        let dims = self.get(0)?.dims.as_ref()?;
        if self.operator == "Squeeze" && self.operands.len() < 2 && self.attributes.get("axes").is_none() {
            return Some(dims.iter().copied().filter(|dim| *dim != 1).collect());
        }
        let axes = self.axes()?;
        let rank = if self.operator == "Squeeze" { dims.len() } else { dims.len() + axes.len() };
        let axes: Vec<usize> = axes.into_iter().map(|axis| place(axis, rank)).collect::<Option<_>>()?;
        if self.operator == "Squeeze" {
            return Some(
                dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| *dim).collect(),
            );
        }
        let mut old = dims.iter();
        (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { old.next().copied() }).collect()
    }

    /// The product of two matrices, or of stacks of them.
    fn product(&self) -> (Fixed, Option<u64>) {
        let dims = |index: usize| self.get(index).and_then(|operand| operand.dims.as_deref());
        let is_set = |name: &str| self.attributes.integer_or(name, 0).is_none_or(|set| set != 0);
        let (Some(a), Some(b)) = (dims(0), dims(1)) else { return (Fixed::unknown(), self.all_elements()) };
        let turned = |dims: &[u64], turn: bool| match dims {
            [first, second] if turn => vec![*second, *first],
            dims => dims.to_vec(),
        };
        let (a, b) = (turned(a, is_set("transA")), turned(b, is_set("transB")));
        let inner = a.last().copied().unwrap_or(1);
        // A vector stands for a matrix of one row, or of one column.
        let rows = if a.len() < 2 { 1 } else { a[a.len() - 2] };
        let columns = if b.len() < 2 { 1 } else { b[b.len() - 1] };
        let stack = |dims: &[u64]| dims[..dims.len().saturating_sub(2)].to_vec();
        let Some(mut together) = broadcast([&stack(&a), &stack(&b)].into_iter()) else {
            return (Fixed::unknown(), self.all_elements());
        };
        together.extend([rows, columns]);
        let steps = product(&together).saturating_mul(inner);
        (
            if a.len() < 2 || b.len() < 2 { Fixed::at_most(Some(product(&together))) } else { Fixed::of(together) },
            Some(steps),
        )
    }

    fn concatenated(&self) -> Fixed {
        let elements = self.given().try_fold(0_u64, |sum, given| Some(sum.saturating_add(given.elements?)));
        let dims = || {
            let shapes: Vec<&Vec<u64>> = self.given().map(|given| given.dims.as_ref()).collect::<Option<_>>()?;
            let mut together = (*shapes.first()?).clone();
            let axis = place(self.attributes.integer_or("axis", 0)?, together.len())?;
            together[axis] = shapes.iter().try_fold(0_u64, |sum, dims| Some(sum.saturating_add(*dims.get(axis)?)))?;
            Some(together)
        };
        Fixed::shaped(dims(), elements)
    }

    fn gathered(&self) -> Fixed {
        let dims = || {
            let (data, indices) = (self.get(0)?.dims.as_ref()?, self.get(1)?.dims.as_ref()?);
            let axis = place(self.attributes.integer_or("axis", 0)?, data.len())?;
            Some([&data[..axis], indices, &data[axis + 1..]].concat())
        };
        Fixed::shaped(dims(), self.all_elements())
    }

    fn range(&self) -> Option<Vec<u64>> {
        let [start, limit, step] = [0, 1, 2].map(|index| self.known(index).and_then(|number| number.first().copied()));
        let (start, limit, step) = (i128::from(start?), i128::from(limit?), i128::from(step?));
        let count = (limit - start + step - step.signum()).checked_div(step)?;
        Some(vec![u64::try_from(count.max(0)).ok()?])
    }

    fn padded(&self) -> Option<Vec<u64>> {
        let dims = self.get(0)?.dims.as_ref()?;
        let pads = match self.attributes.integers("pads") {
            Some(pads) => pads.to_vec(),
            None => self.known(1)?,
        };
        let all = self.get(3).is_none() && pads.len() == 2 * dims.len();
        let add = |axis: usize| u64::try_from(pads[axis].max(0).saturating_add(pads[axis + dims.len()].max(0))).ok();
        all.then(|| dims.iter().enumerate().map(|(axis, dim)| Some(dim.saturating_add(add(axis)?))).collect())?
    }

    /// The result where it is a few whole numbers that are known, or sizes that requests give.
    fn numbers(&self) -> Option<Fixed> {
        let all: Vec<&[Option<i64>]> = self.given().map(|given| given.numbers.as_deref()).collect::<Option<_>>()?;
        let first = self.get(0)?;
        let of_first = || first.numbers.clone();
        let row = |numbers: Vec<Option<i64>>| Some(Fixed::row(numbers));
        match self.operator {
            "Identity" | "Cast" => Some(first.clone()),
            "Squeeze" | "Unsqueeze" => Some(Fixed::of(self.squeezed()?).with(of_first())),
            "Reshape" => Some(Fixed::of(self.reshaped()?).with(of_first())),
            "Concat" if self.given().all(|given| given.rank() == Some(1)) => row(all.concat()),
            "Gather" if first.rank() == Some(1) && self.attributes.integer_or("axis", 0)? == 0 => {
                let indices = self.get(1)?;
                let at = |index: i64| first.numbers.as_ref()?.get(place(index, all[0].len())?).copied();
                let found: Vec<Option<i64>> = indices.known()?.into_iter().map(at).collect::<Option<_>>()?;
                Some(Fixed::of(indices.dims.clone()?).with(Some(found)))
            }
            "Slice" if first.rank() == Some(1) => row(self.sliced(all[0])?),
            "ConstantOfShape" => {
                let tensor = self.attributes.get("value").and_then(|value| value.t.as_ref());
                let value = tensor.map_or(Some(0), |tensor| numbers(tensor)?.first().copied())?;
                let dims: Vec<u64> =
                    first.known()?.into_iter().map(|size| u64::try_from(size).ok()).collect::<Option<_>>()?;
                let count = usize::try_from(product(&dims)).ok().filter(|count| *count <= 64)?;
                Some(Fixed::of(dims).with(Some(vec![Some(value); count])))
            }
            "ReduceProd" if self.get(1).is_none() => {
                let all = all[0].iter().copied().try_fold(1_i64, |product, number| product.checked_mul(number?));
                Some(Fixed::at_most(Some(1)).with(Some(vec![all])))
            }
            operator => {
                let shapes = self.given().map(|given| given.dims.as_ref()).collect::<Option<Vec<_>>>()?;
                let dims = broadcast(shapes.into_iter())?;
                let count = usize::try_from(product(&dims)).ok()?;
                // Of several axes only where no element has to be found again.
                let simple = all.iter().all(|numbers| numbers.len() == 1 || numbers.len() == count);
                (simple && count <= 64).then_some(())?;
                let at = |index: usize| -> Vec<Option<i64>> {
                    all.iter().map(|numbers| numbers[if numbers.len() == 1 { 0 } else { index }]).collect()
                };
                let computed: Option<Vec<Option<i64>>> =
                    (0..count).map(|index| compute(operator, &at(index))).collect();
                Some(Fixed::of(dims).with(Some(computed?)))
            }
        }
    }

    fn sliced(&self, numbers: &[Option<i64>]) -> Option<Vec<Option<i64>>> {
        let of = |name: &str, index: usize, default: Option<i64>| match self.attributes.integers(name) {
            Some(given) => given.first().copied(),
            None => match self.get(index) {
                Some(given) => given.known()?.first().copied(),
                None => default,
            },
        };
        let len = i64::try_from(numbers.len()).ok()?;
        let bound = |given: i64| (if given < 0 { given.saturating_add(len) } else { given }).clamp(0, len);
        let (start, end) = (bound(of("starts", 1, None)?), bound(of("ends", 2, None)?));
        let step = of("", 4, Some(1))?;
        (step == 1).then(|| numbers.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?).map(<[_]>::to_vec))?
    }
}

/// An element of what operators make element by element: a size that requests give stays one. None for what is not a whole
/// number, and for other operators.
fn compute(operator: &str, operands: &[Option<i64>]) -> Option<Option<i64>> {
    if operator == "Where" {
        let [condition, yes, no] = *operands else { return None };
        return Some(condition.and_then(|condition| if condition == 0 { no } else { yes }));
    }
    let works = matches!(
        operator,
        "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Mod"
            | "Min"
            | "Max"
            | "Neg"
            | "Abs"
            | "Floor"
            | "Ceil"
            | "Equal"
            | "Greater"
            | "Less"
            | "And"
            | "Or"
            | "Not"
    );
    if !works {
        return None;
    }
    let Some(known) = operands.iter().copied().collect::<Option<Vec<i64>>>() else { return Some(None) };
    let truth = |truth: bool| Some(i64::from(truth));
    let result = match (operator, known.as_slice()) {
        ("Add", [a, b]) => a.checked_add(*b),
        ("Sub", [a, b]) => a.checked_sub(*b),
        ("Mul", [a, b]) => a.checked_mul(*b),
        // Fractions are cut off, or are none of what is followed.
        ("Div", [a, b]) => a.checked_rem(*b).filter(|rest| *rest == 0).and_then(|_| a.checked_div(*b)),
        ("Mod", [a, b]) if *a >= 0 && *b > 0 => a.checked_rem(*b),
        ("Min", [a, rest @ ..]) => Some(rest.iter().fold(*a, |least, one| least.min(*one))),
        ("Max", [a, rest @ ..]) => Some(rest.iter().fold(*a, |most, one| most.max(*one))),
        ("Neg", [a]) => a.checked_neg(),
        ("Abs", [a]) => a.checked_abs(),
        ("Floor" | "Ceil", [a]) => Some(*a),
        ("Equal", [a, b]) => truth(a == b),
        ("Greater", [a, b]) => truth(a > b),
        ("Less", [a, b]) => truth(a < b),
        ("And", [a, b]) => truth(*a != 0 && *b != 0),
        ("Or", [a, b]) => truth(*a != 0 || *b != 0),
        ("Not", [a]) => truth(*a == 0),
        _ => None,
    };
    result.map(Some)
}
