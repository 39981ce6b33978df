//! Keeps tract's optimiser from rewrites that change answers.
//!
//! It takes a step of a `Slice` to before the operator in front, and to before that one, wherever the axis goes through: also where
//! that operator looks at all of the axis, as a softmax does, or where a convolution of another stride begins elsewhere. So does
//! it with the stride of a convolution with a kernel of one. Of two products with constants it makes one, with the product of the
//! constants, which may be infinite, or nothing, where neither step was. An operator in between that it does not know is in its way.

use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::internal::{
    AxesMapping, EvalContext, EvalOp, InletId, Op, OutletId, StaticName, TValue, TVec, TractResult, TypedFact,
    TypedModel, TypedNode, TypedOp, op_as_typed_op, op_out_of_plan,
};
use tract_onnx::tract_core::ops::array::StridedSlice;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::math::Mul;
use tract_onnx::tract_core::ops::scan::Scan;

/// Answers what it is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stay;

impl Op for Stay {
    fn name(&self) -> StaticName {
        "Stay".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Stay {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(inputs)
    }
}

impl TypedOp for Stay {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(inputs.iter().map(|fact| (*fact).clone()).collect())
    }

    /// None of its axes is another's, for all that the optimiser is to know.
    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::disconnected(inputs, outputs)
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}

/// Puts such an operator before every node of a graph, and of the bodies within, that the optimiser would do too much with.
pub(crate) fn hold(model: &mut TypedModel) -> TractResult<()> {
    let order = model.eval_order()?;
    let mut fixed = vec![false; model.nodes().len()];
    let mut held = Vec::new();
    for id in order {
        if let Some(scan) = model.node_mut(id).op_as_mut::<Scan>() {
            hold(&mut scan.body)?;
        }
        let node = model.node(id);
        let is_fixed = |outlet: &OutletId| fixed[outlet.node];
        let is_made_fixed = node.op_is::<Const>() || (!node.inputs.is_empty() && node.inputs.iter().all(is_fixed));
        if !is_made_fixed {
            held.extend(inlet(model, node, &fixed));
        }
        fixed[id] = is_made_fixed;
    }
    for inlet in held {
        let (from, name) = (model.node(inlet.node).inputs[inlet.slot], format!("{}.stay", model.node(inlet.node).name));
        let stays = model.wire_node(name, Stay, &[from])?;
        model.add_edge(stays[0], inlet)?;
    }
    Ok(())
}

/// Which operand of a node must be held.
fn inlet(model: &TypedModel, node: &TypedNode, fixed: &[bool]) -> Option<InletId> {
    let first = InletId::new(node.id, 0);
    if let Some(slice) = node.op_as::<StridedSlice>() {
        let steps = model.outlet_fact(*node.inputs.get(slice.optional_steps_input?)?).ok()?.konst.as_ref();
        let steps = steps.and_then(|steps| steps.cast_to::<i64>().ok());
        let steps = steps.as_ref().and_then(|steps| steps.try_as_plain_ram().ok()?.as_slice::<i64>().ok());
        return steps.is_none_or(|steps| steps.iter().any(|step| step.unsigned_abs() != 1)).then_some(first);
    }
    if let Some(conv) = node.op_as::<Conv>() {
        let pool = &conv.pool_spec;
        let is_sparse = |axis| {
            pool.stride(axis) > 1
                && (pool.kernel_shape[axis] == 1 || pool.dilation(axis).is_multiple_of(pool.stride(axis)))
        };
        return (0..pool.rank()).any(is_sparse).then_some(first);
    }
    if is_product(node) {
        let open = node.inputs.iter().position(|outlet| !fixed[outlet.node])?;
        let is_by_constant = |node: &TypedNode| node.inputs.iter().any(|outlet| fixed[outlet.node]);
        // What turns axes or copies along them is no matter to the optimiser.
        let mut before = model.node(node.inputs[open].node);
        while !is_product(before) && before.inputs.len() == 1 {
            before = model.node(before.inputs[0].node);
        }
        let both = is_by_constant(node) && is_product(before) && is_by_constant(before);
        return both.then_some(InletId::new(node.id, open));
    }
    None
}

fn is_product(node: &TypedNode) -> bool {
    node.op_as::<TypedBinOp>().is_some_and(|product| product.0.is::<Mul>())
}
