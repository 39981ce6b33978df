//! Sums of integers of more than 32 bits, which tract adds up in 32.

use tract_onnx::prelude::tract_ndarray::{ArrayD, Axis};
use tract_onnx::tract_core::internal::{
    DatumType, EvalContext, EvalOp, Op, StaticName, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel, TypedOp,
    op_as_typed_op, op_out_of_plan, tvec,
};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::ops::scan::Scan;

use crate::explain::refuse;

/// Keeps each axis that it sums along, with one element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WideSum(TVec<usize>);

impl Op for WideSum {
    fn name(&self) -> StaticName {
        "WideSum".into()
    }

    op_as_typed_op!();
}

fn is_wide(dtype: DatumType) -> bool {
    matches!(dtype, DatumType::I64 | DatumType::U32 | DatumType::U64)
}

impl EvalOp for WideSum {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        // From one end of the type it goes on at the other, whatever the type.
        let added = |one: &i64, other: &i64| one.wrapping_add(*other);
        let mut sum: ArrayD<i64> = match input.datum_type() {
            DatumType::I64 => input.to_plain_array_view::<i64>()?.to_owned(),
            DatumType::U32 => input.to_plain_array_view::<u32>()?.mapv(i64::from),
            DatumType::U64 => input.to_plain_array_view::<u64>()?.mapv(u64::cast_signed),
            other => return refuse(format!("a sum of {other:?}")),
        };
        for axis in &self.0 {
            sum = sum.fold_axis(Axis(*axis), 0, added).insert_axis(Axis(*axis));
        }
        let sum: Tensor = match input.datum_type() {
            DatumType::U32 => sum.mapv(|sum| sum as u32).into(),
            DatumType::U64 => sum.mapv(i64::cast_unsigned).into(),
            _ => sum.into(),
        };
        Ok(tvec!(sum.into()))
    }
}

impl TypedOp for WideSum {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.clone();
        self.0.iter().for_each(|axis| shape.set(*axis, 1.into()));
        Ok(tvec!(TypedFact::dt_shape(inputs[0].datum_type, shape)))
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}

/// Puts such a sum in the place of each of tract's, in a graph and in the bodies within.
pub(crate) fn widen(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        if let Some(scan) = model.node_mut(id).op_as_mut::<Scan>() {
            widen(&mut scan.body)?;
        }
        let node = model.node(id);
        let Some(Reduce { axes, reducer: Reducer::Sum }) = node.op_as::<Reduce>() else { continue };
        let (axes, dtype) = (axes.clone(), model.outlet_fact(node.inputs[0])?.datum_type);
        if is_wide(dtype) {
            model.node_mut(id).op = Box::new(WideSum(axes));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::{IntoTensor as _, tensor2};

    use super::*;

    #[test]
    fn sums_are_as_wide_as_their_numbers() {
        let sum = |axes: &[usize], tensor: Tensor| {
            let sum = WideSum(axes.into()).eval(&EvalContext::out_of_plan(), tvec!(tensor.into())).expect("a sum");
            sum[0].clone().into_tensor()
        };
        let numbers = || tensor2(&[[3_000_000_000_i64, 1], [-1, 1 << 40]]);
        assert_eq!(sum(&[1], numbers()), tensor2(&[[3_000_000_001_i64], [(1 << 40) - 1]]));
        assert_eq!(sum(&[0, 1], numbers()), tensor2(&[[(1_i64 << 40) + 3_000_000_000]]));
        assert_eq!(sum(&[0], tensor2(&[[u64::MAX], [2]])), tensor2(&[[1_u64]]));
        assert_eq!(sum(&[0], tensor2(&[[u32::MAX], [3]])), tensor2(&[[2_u32]]));
    }
}
