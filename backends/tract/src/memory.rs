//! How much memory a run takes, found before it is taken: an allocation that fails may end the process, and one that
//! does not may bring the kernel's killer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use corymb_core::too_much_memory;
use tract_onnx::tract_core::internal::{
    EvalContext, EvalOp, Op, OutletId, StaticName, SymbolValues, TDim, TValue, TVec, Tensor, TractResult, TypedFact,
    TypedModel, TypedOp, Validation,
};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::scan::{OptScan, Scan};
use tract_onnx::tract_hir::infer::{
    Factoid as _, InferenceFact, InferenceModel, InferenceModelPatch, InferenceNode, InferenceOp,
};

use crate::explain::refuse;
use crate::window::Window;

/// What the tensors of one run take at most at the same time, and the node that makes the largest of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// At its peak.
    pub(crate) bytes: u64,
    largest: u64,
    node: String,
    /// Whether a value that is computed has no elements.
    pub(crate) is_somewhere_empty: bool,
}

impl Need {
    /// Of a run of `model` in which its symbols have these values. A size that only the run tells, as the number of
    /// elements that are not zero, counts nothing: it is bounded by what does count.
    pub(crate) fn of(model: &TypedModel, symbols: &SymbolValues) -> TractResult<Self> {
        let order = model.eval_order()?;
        let mut last_use: HashMap<usize, usize> = HashMap::new();
        for (place, node) in order.iter().enumerate() {
            for input in &model.node(*node).inputs {
                last_use.insert(input.node, place);
            }
        }
        for output in model.output_outlets()? {
            last_use.insert(output.node, usize::MAX);
        }
        let mut ends: HashMap<usize, Vec<u64>> = HashMap::new();
        let mut need = Self::default();
        let mut alive = 0_u64;
        for (place, &id) in order.iter().enumerate() {
            let node = model.node(id);
            if node.op_is::<Const>() {
                continue;
            }
            let own = node.outputs.iter().fold(0_u64, |sum, output| sum.saturating_add(bytes(&output.fact, symbols)));
            need.is_somewhere_empty |= node.outputs.iter().any(|output| is_empty(&output.fact, symbols));
            if own > need.largest {
                need.largest = own;
                need.node.clone_from(&node.name);
            }
            alive = alive.saturating_add(own);
            let inner = if let Some(scan) = node.op_as::<Scan>() {
                Self::of(&scan.body, symbols)?.bytes
            } else if let Some(scan) = node.op_as::<OptScan>() {
                Self::of(scan.plan.model(), symbols)?.bytes
            } else if let Some(branches) = node.op_as::<IfThenElse>() {
                Self::of(&branches.then_body, symbols)?.bytes.max(Self::of(&branches.else_body, symbols)?.bytes)
            } else {
                0
            };
            need.bytes = need.bytes.max(alive.saturating_add(inner));
            match last_use.get(&id) {
                Some(&end) => ends.entry(end).or_default().push(own),
                None => alive = alive.saturating_sub(own),
            }
            for freed in ends.remove(&place).unwrap_or_default() {
                alive = alive.saturating_sub(freed);
            }
        }
        Ok(need)
    }

    /// That this is within `limit` bytes.
    pub(crate) fn check(&self, limit: u64) -> TractResult<()> {
        if self.bytes > limit {
            return refuse(too_much_memory(self.bytes, self.largest, &format!("'{}'", self.node), limit));
        }
        Ok(())
    }
}

/// The sizes that the open dimensions of `model`'s inputs have in a request of these shapes.
pub(crate) fn symbols<'a>(
    model: &TypedModel,
    shapes: impl IntoIterator<Item = &'a [usize]>,
) -> TractResult<SymbolValues> {
    let mut values = SymbolValues::default();
    for (index, shape) in shapes.into_iter().enumerate() {
        for (dim, &size) in model.input_fact(index)?.shape.iter().zip(shape) {
            if let (TDim::Sym(symbol), Ok(size)) = (dim, i64::try_from(size)) {
                values.set(symbol, size);
            }
        }
    }
    Ok(values)
}

/// Sizes below 0 are those of what the graph cannot do with these shapes.
fn is_empty(fact: &TypedFact, symbols: &SymbolValues) -> bool {
    fact.konst.is_none() && fact.shape.iter().any(|dim| dim.eval_to_i64(symbols).is_ok_and(|size| size <= 0))
}

fn bytes(fact: &TypedFact, symbols: &SymbolValues) -> u64 {
    let sizes = fact.shape.iter().map(|dim| dim.eval_to_i64(symbols).ok().and_then(|size| u64::try_from(size).ok()));
    let elements = sizes.into_iter().try_fold(1_u64, |product, size| Some(product.saturating_mul(size?)));
    elements.unwrap_or(0).saturating_mul(fact.datum_type.size_of() as u64)
}

/// Makes tract's analysis, which computes what follows from constants and shapes at once, refuse to make a tensor of
/// more than `limit` bytes, and what is wider than its operand among the `windows` of pools, which are known by the nodes'
/// names.
pub(crate) fn bound(model: &mut InferenceModel, limit: u64, windows: &HashMap<String, Window>) {
    for id in 0..model.nodes().len() {
        let node = model.node_mut(id);
        if node.inputs.is_empty() {
            continue;
        }
        let window = windows.get(&node.name).cloned();
        node.op = Box::new(Bounded { op: node.op.clone(), name: node.name.clone(), limit, window });
    }
}

/// An operator that checks the size of its outputs before it computes them during the analysis. To everything else it
/// is the operator within.
#[derive(Clone)]
struct Bounded {
    op: Box<dyn InferenceOp>,
    name: String,
    limit: u64,
    window: Option<Window>,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)
    }
}

impl Bounded {
    /// tract counts the elements of a range of constants in 32 bits and without fractions, and makes it at once.
    fn check_range(&self, inputs: &[&InferenceFact]) -> TractResult<()> {
        let known = |fact: &&InferenceFact| {
            let value: Arc<Tensor> = fact.value.concretize()?;
            value.cast_to_scalar::<f64>().ok()
        };
        let known: Option<Vec<f64>> = inputs.iter().map(known).collect();
        let Some(&[start, limit, step]) = known.as_deref() else { return Ok(()) };
        if [start, limit, step].iter().any(|number| number.fract() != 0.0) {
            return refuse(format!("'{}' counts in fractions, which tract does not", self.name));
        }
        if step == 0.0 || (step > 0.0 && limit < start) {
            return refuse(format!("'{}' counts from {start} to {limit} by {step}, which never arrives", self.name));
        }
        let widest = size_of::<u64>() as u64;
        let bytes = ((limit - start) / step).ceil().max(0.0) * widest as f64;
        if bytes > self.limit.min(i32::MAX as u64 * widest) as f64 {
            return refuse(too_large(&self.name, bytes as u64, self.limit));
        }
        Ok(())
    }
}

fn too_large(node: &str, bytes: u64, limit: u64) -> String {
    format!("'{node}' would make a tensor of {bytes} bytes; at most {limit} are allowed by --max-run-memory")
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Bounded {}

impl EvalOp for Bounded {
    fn eval(&self, context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.op.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.op.eval_out_of_plan(inputs)
    }
}

impl Op for Bounded {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    fn validation(&self) -> Validation {
        self.op.validation()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.op.info()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        self.op.as_typed()
    }
}

impl InferenceOp for Bounded {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        if self.op.name() == "Range" {
            self.check_range(&inputs)?;
        }
        let facts = self.op.infer_facts(inputs, outputs, observed)?;
        if let Some(window) = &self.window
            && let Some(axis) = facts.0.first().and_then(|fact| window.too_wide(fact))
        {
            // tract would answer one element.
            return refuse(format!("the window of '{}' is wider than dimension {axis} of what it is given", self.name));
        }
        for fact in &facts.1 {
            let (Some(dtype), Some(elements)) = (fact.datum_type.concretize(), elements(fact)) else { continue };
            let bytes = elements.saturating_mul(dtype.size_of() as u64);
            if bytes > self.limit {
                let Self { name, limit, .. } = self;
                return refuse(too_large(name, bytes, *limit));
            }
        }
        if self.op.name().starts_with("Split")
            && let Some(given) = facts.0.first().and_then(elements)
            && let Some(parts) = facts.1.iter().map(elements).sum::<Option<u64>>()
            && given != parts
        {
            // tract would leave out what is over.
            return refuse(format!("'{}' splits {given} elements into parts of {parts} together", self.name));
        }
        if self.op.name().eq_ignore_ascii_case("TopK")
            && let (Some(given), Some(found)) = (facts.0.first().and_then(elements), facts.1.first().and_then(elements))
            && found > given
        {
            // tract would give as many as there are.
            return refuse(format!("'{}' asks for {found} elements of {given}", self.name));
        }
        Ok(facts)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn incorporate(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Option<InferenceModelPatch>> {
        self.op.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self.op.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.op.as_op_mut()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.op.to_typed(source, node, target, mapping)
    }
}

/// The number of elements, where the shape is known.
fn elements(fact: &InferenceFact) -> Option<u64> {
    let shape = fact.shape.concretize()?;
    shape.iter().try_fold(1_u64, |product, dim| Some(product.saturating_mul(dim.to_i64().ok()?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::internal::{DatumType, DatumTypeExt as _, SpecialOps as _};
    use tract_onnx::tract_core::ops::math;
    use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

    use super::*;

    /// The largest product of each element with each other, over `size` elements.
    fn square(symbolic: bool, size: usize) -> (TypedModel, Option<TDim>) {
        let mut model = TypedModel::default();
        let symbol = symbolic.then(|| TDim::from(model.symbols.sym("N")));
        let dim = symbol.clone().unwrap_or_else(|| TDim::from(size as i64));
        let column = model.add_source("column", DatumType::F32.fact([dim.clone(), 1.into()])).expect("a source");
        let row = model.add_source("row", DatumType::F32.fact([1.into(), dim])).expect("a source");
        let product = model.wire_node("product", math::mul(), &[column, row]).expect("a product");
        let most = Reduce::new([0, 1].into_iter().collect(), Reducer::Max);
        let most = model.wire_node("most", most, &product).expect("a maximum");
        model.select_output_outlets(&most).expect("outputs");
        (model, symbol)
    }

    #[test]
    fn the_peak_is_what_is_alive_at_the_same_time() {
        let (model, _) = square(false, 1000);
        let need = Need::of(&model, &SymbolValues::default()).expect("a need");
        let (bytes, largest, node) = (4 * (1000 + 1000 + 1_000_000), 4_000_000, "product".to_owned());
        assert_eq!(need, Need { bytes, largest, node, is_somewhere_empty: false });
        assert!(need.check(4 * 1_002_000).is_ok());
        let refusal = need.check(4 * 1_002_000 - 1).expect_err("too much").to_string();
        assert!(refusal.contains("'product'") && refusal.contains("4008000"), "{refusal}");
    }

    #[test]
    fn open_dimensions_count_what_the_request_gives_them() {
        let (model, _) = square(true, 0);
        let none = Need::of(&model, &SymbolValues::default()).expect("a need");
        assert!(none.bytes < 100, "{none:?}");
        let given = [vec![3_000_000_000, 1], vec![1, 3_000_000_000]];
        let values = symbols(&model, given.iter().map(Vec::as_slice)).expect("values");
        let need = Need::of(&model, &values).expect("a need");
        // 3.6e19 bytes are more than a u64 holds.
        assert_eq!((need.bytes, need.largest), (u64::MAX, u64::MAX));
    }
}
