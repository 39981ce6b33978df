//! Keeps tract's optimiser from rewrites that change answers.
//!
//! It takes a step of a `Slice` to before the operator in front, and to before that one, wherever the axis goes through: also where
//! that operator looks at all of the axis, as a softmax does, or where a convolution of another stride begins elsewhere. So does
//! it with the stride of a convolution with a kernel of one. Of two products with constants it makes one, with the product of the
//! constants, which may be infinite, or nothing, where neither step was. A constant less a convolution
//! becomes a convolution with another bias, of which it forgets the sign. What was copied along an axis is copied after a product that
//! adds up along it, which then adds up one. An operator in between that it does not know is in its way.

use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::internal::{
    AxesMapping, EvalContext, EvalOp, InletId, Op, OutletId, StaticName, TValue, TVec, TractResult, TypedFact,
    TypedModel, TypedNode, TypedOp, op_as_typed_op, op_out_of_plan,
};
use tract_onnx::tract_core::ops::array::{DynTile, MultiBroadcastTo, StridedSlice, Tile};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::{IfThenElse, Iff};
use tract_onnx::tract_core::ops::math::{Mul, Sub};
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
        if let Some(choice) = model.node_mut(id).op_as_mut::<IfThenElse>() {
            hold(&mut choice.then_body)?;
            hold(&mut choice.else_body)?;
        }
        let node = model.node(id);
        if node.op_is::<IfThenElse>() {
            // The optimiser puts a branch in the place of the choice where it learns which is taken: what is around stays around.
            held.extend((1..node.inputs.len()).map(|slot| InletId::new(id, slot)));
            held.extend(node.outputs.iter().flat_map(|output| output.successors.iter().copied()));
        }
        let is_fixed = |outlet: &OutletId| fixed[outlet.node];
        let is_made_fixed = node.op_is::<Const>() || (!node.inputs.is_empty() && node.inputs.iter().all(is_fixed));
        if !is_made_fixed {
            held.extend(inlet(model, node, &fixed));
            if copies(model, node, &fixed) {
                held.extend(node.outputs.iter().flat_map(|output| output.successors.iter().copied()));
            }
        }
        fixed[id] = is_made_fixed;
    }
    held.sort();
    held.dedup();
    for inlet in held {
        let node = model.node(inlet.node);
        let (from, name) = (node.inputs[inlet.slot], format!("{}.{}.stay", node.name, inlet.slot));
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
    let is_difference = node.op_as::<TypedBinOp>().is_some_and(|difference| difference.0.is::<Sub>());
    if is_difference && fixed[node.inputs[0].node] {
        return Some(InletId::new(node.id, 1));
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

/// Whether a node does nothing but copy along axes of size 1, or the optimiser may find that it does: where all else that it takes
/// is constant.
fn copies(model: &TypedModel, node: &TypedNode, fixed: &[bool]) -> bool {
    let mut open = node.inputs.iter().filter(|outlet| !fixed[outlet.node]);
    let (Some(from), is_only) = (open.next(), open.next().is_none()) else { return false };
    let is_plain = node.op_is::<MultiBroadcastTo>() || node.op_is::<Tile>() || node.op_is::<DynTile>();
    if !is_plain && !(is_only && (node.op_is::<TypedBinOp>() || node.op_is::<Iff>())) {
        return false;
    }
    let (Ok(from), Some(to)) = (model.outlet_fact(*from), node.outputs.first()) else { return false };
    from.rank() == to.fact.rank()
        && from.shape.iter().zip(to.fact.shape.iter()).any(|(from, to)| from.is_one() && !to.is_one())
}

fn is_product(node: &TypedNode) -> bool {
    node.op_as::<TypedBinOp>().is_some_and(|product| product.0.is::<Mul>())
}
