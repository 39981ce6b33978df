//! `NonMaxSuppression` as ONNX Runtime has it: without a number of boxes, or with none, tract keeps them all, and it does not look
//! whether a threshold is one.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::internal::{
    Datum, DatumExt as _, EvalContext, EvalOp, Op, OutletId, StaticName, Symbol, TValue, TVec, Tensor, ToDim as _,
    TractResult, TypedFact, TypedModel, TypedOp, as_op, op_as_typed_op, op_out_of_plan, tvec,
};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity};
use tract_onnx::tract_hir::internal::{Expansion, expand};

use super::Read;
use crate::explain::refuse;

/// A box has so many coordinates.
const COORDINATES: usize = 4;
/// A selected box has a batch, a class and a place.
const INDICES: usize = 3;

pub(super) fn non_max_suppression(context: &ParsingContext<'_>, node: &NodeProto) -> Read {
    let corners = match node.get_attr_opt::<i64>("center_point_box")?.unwrap_or(0) {
        0 => Corners::Opposite,
        1 => Corners::Centre,
        other => return refuse(format!("center_point_box is {other}, and may be 0 or 1")),
    };
    let mut given = optional_inputs(node).skip(2);
    let mut next = || given.next().flatten();
    let (most, overlap, least) = (next(), next(), next());
    let selected = context.template.symbols.new_with_prefix("x");
    Ok((expand(Suppression { corners, most, overlap, least, selected }), Vec::new()))
}

/// How a box is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Corners {
    /// `[y1, x1, y2, x2]`, of any two opposite corners.
    Opposite,
    /// `[x, y, width, height]`, of the centre.
    Centre,
}

/// The extents of a box along both axes: least and most.
type Extents = [[f32; 2]; 2];

impl Corners {
    fn extents(self, at: &[f32]) -> Extents {
        let ordered = |a: f32, b: f32| if a >= b { [b, a] } else { [a, b] };
        let around = |centre: f32, size: f32| [centre - size / 2.0, centre + size / 2.0];
        match self {
            Self::Opposite => [ordered(at[1], at[3]), ordered(at[0], at[2])],
            Self::Centre => [around(at[0], at[2]), around(at[1], at[3])],
        }
    }
}

/// Whether two boxes share more than this part of what they cover together.
fn overlaps(a: &Extents, b: &Extents, limit: f32) -> bool {
    let shared = |axis: usize| a[axis][1].min(b[axis][1]) - a[axis][0].max(b[axis][0]);
    let area = |extents: &Extents| (extents[0][1] - extents[0][0]) * (extents[1][1] - extents[1][0]);
    let (width, height) = (shared(0), shared(1));
    if width <= 0.0 || height <= 0.0 {
        return false;
    }
    let (both, a, b) = (width * height, area(a), area(b));
    let all = a + b - both;
    both > 0.0 && a > 0.0 && b > 0.0 && all > 0.0 && both / all > limit
}

/// The operator, and which operand each optional one is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Suppression {
    corners: Corners,
    most: Option<usize>,
    overlap: Option<usize>,
    least: Option<usize>,
    /// How many boxes are selected.
    selected: Symbol,
}

impl Suppression {
    fn operands(&self) -> usize {
        2 + [self.most, self.overlap, self.least].into_iter().flatten().count()
    }

    /// The places of the boxes of one class that are selected, those of the highest score first.
    fn select(&self, boxes: &[f32], scores: &[f32], limits: &Limits) -> Vec<usize> {
        let mut candidates: Vec<usize> =
            (0..scores.len()).filter(|at| limits.least.is_none_or(|least| scores[*at] > least)).collect();
        let higher_first = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then_with(|| a.cmp(b));
        candidates.sort_by(higher_first);
        let mut kept: Vec<(usize, Extents)> = Vec::new();
        for at in candidates {
            if kept.len() >= limits.most {
                break;
            }
            let extents = self.corners.extents(&boxes[at * COORDINATES..][..COORDINATES]);
            if !kept.iter().any(|(_, other)| overlaps(&extents, other, limits.overlap)) {
                kept.push((at, extents));
            }
        }
        kept.into_iter().map(|(at, _)| at).collect()
    }

    fn limits(&self, inputs: &[TValue]) -> TractResult<Limits> {
        let most = match self.most {
            // None are selected where no number is given.
            Some(at) => usize::try_from(one::<i64>(&inputs[at])?).unwrap_or(0),
            None => 0,
        };
        let overlap = self.overlap.map_or(Ok(0.0), |at| one::<f32>(&inputs[at]))?;
        if !(0.0..=1.0).contains(&overlap) {
            return refuse(format!("the threshold of the overlap is {overlap}, and may be from 0 to 1"));
        }
        Ok(Limits { most, overlap, least: self.least.map(|at| one::<f32>(&inputs[at])).transpose()? })
    }
}

struct Limits {
    /// Of a class.
    most: usize,
    /// As a part.
    overlap: f32,
    /// A score is above it.
    least: Option<f32>,
}

/// The one element of a tensor.
fn one<T: Datum + Copy>(tensor: &Tensor) -> TractResult<T> {
    match tensor.try_as_plain_ram()?.as_slice::<T>()? {
        [one] => Ok(*one),
        several => refuse(format!("a limit has {} elements, and may have one", several.len())),
    }
}

impl Expansion for Suppression {
    fn name(&self) -> StaticName {
        "Suppression".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.operands())?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, i64::datum_type())?;
        solver.equals(&outputs[0].rank, 2)?;
        solver.equals(&outputs[0].shape[0], self.selected.to_dim())?;
        solver.equals(&outputs[0].shape[1], INDICES.to_dim())?;
        for input in &inputs[..2] {
            solver.equals(&input.rank, 3)?;
            solver.equals(&input.datum_type, f32::datum_type())?;
        }
        solver.equals(&inputs[0].shape[0], &inputs[1].shape[0])?;
        solver.equals(&inputs[0].shape[1], &inputs[1].shape[2])?;
        solver.equals(&inputs[0].shape[2], COORDINATES.to_dim())?;
        if let Some(most) = self.most {
            solver.equals(&inputs[most].datum_type, i64::datum_type())?;
        }
        for threshold in [self.overlap, self.least].into_iter().flatten() {
            solver.equals(&inputs[threshold].datum_type, f32::datum_type())?;
        }
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Suppression {
    fn mints_runtime_symbols(&self) -> bool {
        true
    }

    fn name(&self) -> StaticName {
        "Suppression".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Suppression {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let limits = self.limits(&inputs)?;
        let (boxes, scores) = (inputs[0].try_as_plain_ram()?, inputs[1].try_as_plain_ram()?);
        let (boxes, scores) = (boxes.as_slice::<f32>()?, scores.as_slice::<f32>()?);
        let [batches, classes, places] = *inputs[1].shape() else {
            return refuse("scores have three dimensions: batch, class and box".to_owned());
        };
        if inputs[0].shape() != [batches, places, COORDINATES] {
            return refuse(format!(
                "boxes are of the shape {:?}, and scores of {:?}",
                inputs[0].shape(),
                inputs[1].shape()
            ));
        }
        // Above a threshold it never is; without one it would be anywhere.
        if limits.least.is_none() && scores.iter().any(|score| score.is_nan()) {
            return refuse("a score is NaN".to_owned());
        }
        let mut selected = Vec::new();
        for batch in 0..batches {
            let boxes = &boxes[batch * places * COORDINATES..][..places * COORDINATES];
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * places..][..places];
                let kept = self.select(boxes, scores, &limits);
                selected.extend(kept.into_iter().flat_map(|at| [batch as i64, class as i64, at as i64]));
            }
        }
        let shape = [selected.len() / INDICES, INDICES];
        Ok(tvec!(Tensor::from_shape(&shape, &selected)?.into()))
    }
}

impl TypedOp for Suppression {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(i64::fact([self.selected.to_dim(), INDICES.to_dim()])))
    }

    as_op!();
}
