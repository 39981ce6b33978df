//! `ArgMax` and `ArgMin`: tract's begin at the lowest finite number, so that among infinite ones it finds the first, or the last, of all.

use half::f16;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::internal::{
    Datum, DatumExt as _, DatumType, EvalContext, EvalOp, Op, OutletId, StaticName, TDim, TValue, TVec, Tensor,
    ToDim as _, TractResult, TypedFact, TypedModel, TypedOp, as_op, op_as_typed_op, op_out_of_plan, tvec,
};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::infer::{
    InferenceResult, IntoExp as _, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{Expansion, expand};

use super::Read;
use crate::explain::refuse;

pub(super) fn largest(_: &ParsingContext<'_>, node: &NodeProto) -> Read {
    read(node, false)
}

pub(super) fn smallest(_: &ParsingContext<'_>, node: &NodeProto) -> Read {
    read(node, true)
}

fn read(node: &NodeProto, smallest: bool) -> Read {
    let axis = node.get_attr_opt::<i64>("axis")?.unwrap_or(0);
    let keep = node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) != 0;
    let last = node.get_attr_opt::<i64>("select_last_index")?.unwrap_or(0) != 0;
    Ok((expand(Place { axis, keep, kind: Kind { smallest, last } }), Vec::new()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    smallest: bool,
    /// The last of several that are equal.
    last: bool,
}

/// As the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// From the front or, below 0, from the end.
    axis: i64,
    /// Whether the axis stays, of size 1.
    keep: bool,
    kind: Kind,
}

impl Place {
    fn axis(&self, rank: usize) -> TractResult<usize> {
        let axis = if self.axis < 0 { self.axis + rank as i64 } else { self.axis };
        match usize::try_from(axis) {
            Ok(axis) if axis < rank => Ok(axis),
            _ => refuse(format!("the axis is {}, and the tensor has {rank} dimensions", self.axis)),
        }
    }
}

impl Expansion for Place {
    fn name(&self) -> StaticName {
        "Place".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, i64::datum_type())?;
        if self.keep {
            solver.equals(&outputs[0].rank, &inputs[0].rank)?;
        } else {
            solver.equals(inputs[0].rank.bex() - 1, outputs[0].rank.bex())?;
        }
        solver.given(&inputs[0].shape, move |solver, mut shape| {
            let axis = self.axis(shape.len())?;
            if self.keep {
                shape[axis] = 1.to_dim();
            } else {
                shape.remove(axis);
            }
            solver.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let axis = self.axis(model.outlet_fact(inputs[0])?.rank())?;
        let found = Along { axis, kind: self.kind };
        if self.keep {
            return model.wire_node(prefix, found, inputs);
        }
        let found = model.wire_node(format!("{prefix}.places"), found, inputs)?;
        model.wire_node(prefix, AxisOp::Rm(axis), &found)
    }
}

/// Along one axis, which is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Along {
    axis: usize,
    kind: Kind,
}

impl Along {
    /// Of what is not a number it finds nothing: `nan.rs` sees to that.
    fn places<T: Datum + Copy + PartialOrd>(&self, input: &Tensor) -> TractResult<Tensor> {
        let mut shape = input.shape().to_vec();
        let size = std::mem::replace(&mut shape[self.axis], 1);
        let (outer, inner): (usize, usize) = (shape[..self.axis].iter().product(), shape[self.axis..].iter().product());
        let ram = input.try_as_plain_ram()?;
        let elements = ram.as_slice::<T>()?;
        if size == 0 && outer * inner > 0 {
            return refuse("there is nothing to find the place of".to_owned());
        }
        let Kind { smallest, last } = self.kind;
        let mut found = Vec::with_capacity(outer * inner);
        for block in elements.chunks_exact((size * inner).max(1)) {
            let (first, rest) = block.split_at(inner);
            let mut best = first.to_vec();
            let from = found.len();
            found.resize(from + inner, 0_i64);
            for (place, row) in (1..).zip(rest.chunks_exact(inner)) {
                for ((element, best), at) in row.iter().zip(&mut best).zip(&mut found[from..]) {
                    let is_beyond = if smallest { *element < *best } else { *element > *best };
                    if is_beyond || (last && *element == *best) {
                        (*best, *at) = (*element, place);
                    }
                }
            }
        }
        Tensor::from_shape(&shape, &found)
    }
}

impl Op for Along {
    fn name(&self) -> StaticName {
        "Place".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Along {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let found = match input.datum_type() {
            DatumType::F16 => self.places::<f16>(input),
            DatumType::F32 => self.places::<f32>(input),
            DatumType::F64 => self.places::<f64>(input),
            DatumType::I8 => self.places::<i8>(input),
            DatumType::I32 => self.places::<i32>(input),
            DatumType::I64 => self.places::<i64>(input),
            DatumType::U8 => self.places::<u8>(input),
            other => refuse(format!("it finds no places among {other:?}")),
        }?;
        Ok(tvec!(found.into()))
    }
}

impl TypedOp for Along {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape: TVec<TDim> = inputs[0].shape.to_tvec();
        shape[self.axis] = 1.to_dim();
        Ok(tvec!(i64::fact(shape)))
    }

    as_op!();
}
