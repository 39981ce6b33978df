//! `Cast` to INT64: tract takes whatever is cast to INT64 for a size, which it makes of a floating-point number, and of one without a
//! sign, by way of 32 bits, and computes with in 32 bits.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::internal::{
    Datum as _, DatumType, OutletId, StaticName, TDim, TVec, TractResult, TypedModel,
};
use tract_onnx::tract_core::ops::cast::cast as typed_cast;
use tract_onnx::tract_hir::infer::{
    InferenceOp, InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{Expansion, expand};

pub(super) fn cast(context: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    if node.get_attr::<DatumType>("to")? == i64::datum_type() {
        return Ok((expand(CastToInt64), Vec::new()));
    }
    super::plain("Cast", context, node)
}

/// Of what tract calls a size such a size again, of all else an integer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CastToInt64;

fn outcome(from: DatumType) -> DatumType {
    if from == TDim::datum_type() { from } else { i64::datum_type() }
}

impl Expansion for CastToInt64 {
    fn name(&self) -> StaticName {
        "CastToInt64".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].rank, &inputs[0].rank)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)?;
        solver.given(&inputs[0].datum_type, move |solver, from| solver.equals(&outputs[0].datum_type, outcome(from)))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        model.wire_node(prefix, typed_cast(outcome(from)), inputs)
    }
}
