//! How large the result of a node is that follows from the file, and how many steps it takes.

use std::iter::zip;

use super::stored::{Attributes, stored};
use super::value::{Fixed, broadcast, place, product};

/// The steps that computing a node takes, about one for each element or each product; none where nobody knows.
pub(super) type Steps = Option<u64>;

/// A node whose operands are all known to follow from the file.
pub(super) struct Node<'n> {
    pub(super) operator: &'n str,
    pub(super) attributes: &'n Attributes<'n>,
    pub(super) operands: &'n [Option<&'n Fixed>],
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
    pub(super) fn get(&self, index: usize) -> Option<&'n Fixed> {
        *self.operands.get(index)?
    }

    /// The numbers of an operand that are all known.
    fn known(&self, index: usize) -> Option<Vec<i64>> {
        self.get(index)?.known()
    }

    pub(super) fn given(&self) -> impl Iterator<Item = &'n Fixed> + Clone {
        self.operands.iter().copied().flatten()
    }

    /// The result, and what it takes.
    pub(super) fn result(&self) -> (Fixed, Steps) {
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
            "OptionalGetElement" => {
                let first = self.get(0).cloned().unwrap_or_default();
                (Fixed { numbers: None, ..first.clone() }, first.elements)
            }
            "OptionalHasElement" => (Fixed::of(Vec::new()), Some(1)),
            "SequenceLength" => (Fixed::of(Vec::new()), Some(1)),
            "NonZero" => (Fixed::at_most(first.map(|elements| elements.saturating_mul(8))), first),
            "MatMul" | "Gemm" => self.product(),
            "Einsum" => (Fixed::at_most(self.all_elements()), self.all_elements()),
            operator => match self.grown(operator) {
                Some(result) => (result, None),
                None => return (Fixed::unknown(), None),
            },
        };
        let steps = steps.or(result.elements);
        (result, steps)
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

    pub(super) fn reshaped(&self) -> Option<Vec<u64>> {
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

    pub(super) fn squeezed(&self) -> Option<Vec<u64>> {
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
}
