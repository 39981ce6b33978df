//! `If` whose branches need not be alike where the condition is known before the run: tract brings both to one shape first.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::{
    Datum as _, EvalOp, Op, OutletId, SpecialOps as _, StaticName, TValue, TVec, TractResult, TypedModel, TypedOp,
    ensure, not_a_typed_op, not_out_of_plan,
};
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::infer::{
    DimFact, Factoid as _, InferenceFact, InferenceModel, InferenceModelExt as _, InferenceNode, InferenceOp,
    ShapeFactoid,
};

use super::Read;

pub(super) fn branches(context: &ParsingContext, node: &NodeProto) -> Read {
    // The operands: the condition, then all that the branches take of the graph around them.
    let mut taken: Vec<String> = Vec::new();
    let mut branch = |name: &str| -> TractResult<Branch> {
        let parsed = context.parse_graph(node.get_attr(name)?)?;
        let mut place = |name: String| {
            let known = taken.iter().position(|other| *other == name);
            let place = known.unwrap_or_else(|| {
                taken.push(name);
                taken.len() - 1
            });
            1 + place
        };
        Ok(Branch { given: parsed.unresolved_inputs.into_iter().map(&mut place).collect(), body: parsed.model })
    };
    let (then, otherwise) = (branch("then_branch")?, branch("else_branch")?);
    let counts = (then.body.outputs.len(), otherwise.body.outputs.len());
    ensure!(counts.0 == counts.1, "branches with {} and {} outputs", counts.0, counts.1);
    Ok((Box::new(If { then, otherwise }), taken))
}

#[derive(Clone, Debug)]
struct Branch {
    body: InferenceModel,
    /// For each input of the body its place among the node's operands.
    given: Vec<usize>,
}

impl Branch {
    /// Follows what is known of the operands through the body.
    fn infer(&mut self, operands: &[InferenceFact]) -> TractResult<()> {
        for (place, operand) in self.given.iter().enumerate() {
            self.body.input_fact_mut(place)?.unify_with(&operands[*operand])?;
        }
        self.body.analyse(false).map(drop)
    }

    /// Puts the body's nodes in the place of the node `name`.
    fn inline(&self, name: &str, target: &mut TypedModel, operands: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let body = self.body.clone().into_typed()?;
        let mut mapping: HashMap<OutletId, OutletId> = HashMap::new();
        for (input, operand) in body.input_outlets()?.iter().zip(&self.given) {
            mapping.insert(*input, operands[*operand]);
        }
        for id in body.eval_order()? {
            let node = body.node(id);
            if node.op_is::<TypedSource>() {
                continue;
            }
            let inputs: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
            let made = target.wire_node(format!("{name}.{}", node.name), node.op.clone(), &inputs)?;
            mapping.extend(made.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)));
        }
        Ok(body.output_outlets()?.iter().map(|outlet| mapping[outlet]).collect())
    }
}

#[derive(Clone, Debug)]
struct If {
    then: Branch,
    otherwise: Branch,
}

impl If {
    /// The branch that is taken; none where only the run tells.
    fn taken(&self, condition: &InferenceFact) -> Option<&Branch> {
        holds(condition).map(|holds| if holds { &self.then } else { &self.otherwise })
    }
}

fn holds(condition: &InferenceFact) -> Option<bool> {
    condition.value.concretize()?.cast_to_scalar::<bool>().ok()
}

/// What two values have in common.
fn either(one: &InferenceFact, other: &InferenceFact) -> InferenceFact {
    let dtypes = [one, other].map(|fact| fact.datum_type.concretize());
    let known = match dtypes {
        [Some(one), Some(other)] if one != other => None,
        [one, other] => one.or(other),
    };
    let fact = known.map_or_else(InferenceFact::new, InferenceFact::dt);
    let ranks = [one, other].map(|fact| fact.shape.rank().concretize());
    if ranks[0].is_none() || ranks[0] != ranks[1] {
        return fact;
    }
    let pairs = one.shape.dims().zip(other.shape.dims());
    let dims = pairs.map(|(one, other)| if one == other { one.clone() } else { DimFact::default() });
    fact.with_shape(ShapeFactoid::closed(dims.collect()))
}

impl PartialEq for If {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for If {}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    not_out_of_plan!();
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let mut inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        inputs[0].datum_type.unify_with(&bool::datum_type().into())?;
        match holds(&inputs[0]) {
            Some(true) => self.then.infer(&inputs)?,
            Some(false) => self.otherwise.infer(&inputs)?,
            // A branch that is not taken need not be possible.
            None => drop((self.then.infer(&inputs), self.otherwise.infer(&inputs))),
        }
        for (index, output) in outputs.iter_mut().enumerate() {
            let fact = match self.taken(&inputs[0]) {
                Some(branch) => branch.body.output_fact(index)?.clone(),
                None => either(self.then.body.output_fact(index)?, self.otherwise.body.output_fact(index)?),
            };
            output.unify_with(&fact)?;
        }
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.then.body.outputs.len())
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let operands: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        if let Some(branch) = self.taken(source.outlet_fact(node.inputs[0])?) {
            return branch.inline(&node.name, target, &operands);
        }
        let op = IfThenElse {
            then_body: self.then.body.clone().into_typed()?,
            then_input_mapping: self.then.given.clone(),
            else_body: self.otherwise.body.clone().into_typed()?,
            else_input_mapping: self.otherwise.given.clone(),
        };
        target.wire_node(&node.name, op, &operands)
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}
