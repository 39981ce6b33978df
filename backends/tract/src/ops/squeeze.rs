//! `Squeeze` without axes, which tract reads of new operator sets alone, and of which it takes an open size for another than 1.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::{OutletId, StaticName, TDim, TVec, TractResult, TypedModel};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity};
use tract_onnx::tract_hir::internal::{Expansion, expand};
use tract_onnx::tract_hir::ops::array::RmDims;

use super::{Read, plain};
use crate::explain::refuse;
use crate::proto::has_axes;

pub(super) fn squeeze(context: &ParsingContext, node: &NodeProto) -> Read {
    if has_axes(node) { plain("Squeeze", context, node) } else { Ok((expand(DropOnes), Vec::new())) }
}

/// Drops the dimensions of size 1, once all sizes are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct DropOnes;

/// The places of the sizes that are 1; none where a size is open.
fn ones(shape: &[TDim]) -> Option<Vec<isize>> {
    let sizes: Vec<i64> = shape.iter().map(|dim| dim.to_i64().ok()).collect::<Option<_>>()?;
    Some(sizes.iter().enumerate().filter(|(_, size)| **size == 1).map(|(axis, _)| axis as isize).collect())
}

impl Expansion for DropOnes {
    fn name(&self) -> StaticName {
        "DropOnes".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.given(&inputs[0].shape, move |solver, shape| match ones(&shape) {
            Some(_) => {
                let rest: TVec<TDim> = shape.iter().filter(|dim| **dim != TDim::Val(1)).cloned().collect();
                solver.equals(&outputs[0].shape, rest)
            }
            None => Ok(()),
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let Some(axes) = ones(&model.outlet_fact(inputs[0])?.shape.to_tvec()) else {
            return refuse("which dimensions are 1 is open".to_owned());
        };
        RmDims::new(axes).wire(prefix, model, inputs)
    }
}
