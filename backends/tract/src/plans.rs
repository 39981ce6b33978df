//! The plans of one model: one per set of input shapes, because tract is several times slower on open dimensions, and of the
//! values that decide shapes, because tract wants these constant.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corymb_core::{
    BackendError, Holder, MemoryPool, ModelFiles, Signature, Tensor as CoreTensor, TensorSpec, UNCOUNTED,
};
use corymb_onnx::FileStamp;
use tract_onnx::tract_core::internal::{Datum as _, TDim, Tensor, TractError, TractResult, TypedSimplePlan};
use tract_onnx::tract_hir::infer::{InferenceModel, InferenceModelExt as _};

use crate::explain::{self, own_words};
use crate::file::OnnxFile;
use crate::forms;
use crate::nan::{self, Watch};
use crate::plan::{self, Parsed};
use crate::simplify::simplify;
use crate::verified;

/// The shape of each input of the signature; none for an input that is left to its default.
pub(crate) type Shapes = Vec<Option<Vec<usize>>>;

/// What a plan is made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Key {
    pub(crate) shapes: Shapes,
    /// The values of the inputs that decide shapes, by their place in the signature.
    pub(crate) steering: Vec<(usize, Arc<Tensor>)>,
}

impl From<Shapes> for Key {
    fn from(shapes: Shapes) -> Self {
        Self { shapes, steering: Vec::new() }
    }
}

/// What all plans but the first may hold in weights, together: each packs its own copy.
const PLAN_BYTES: u64 = 256 << 20;
/// Bounds of the number of plans, whatever the weights.
const PLANS: std::ops::RangeInclusive<u64> = 2..=16;
/// With no room for another plan, shapes seen this often get one all the same, in place of the least used.
const PROMOTED_AFTER: u32 = 4;
/// Shapes without a plan of their own whose uses are counted.
const COUNTED: usize = 64;

/// A plan, and whether it runs shapes other than those it was asked for.
#[derive(Clone)]
pub(crate) enum Plan {
    /// For these shapes alone.
    Concrete(Arc<TypedSimplePlan>),
    /// For any shapes; slower.
    Symbolic(Arc<TypedSimplePlan>),
}

/// Where a graph comes from when a plan is to be made.
pub(crate) struct Source {
    pub(crate) files: ModelFiles,
    pub(crate) stamp: Option<FileStamp>,
    /// Kept where requests are expected to bring many shapes. Otherwise the file is read again: it costs some ten
    /// milliseconds once, and keeping the graph would cost its weights for good.
    pub(crate) graph: Option<InferenceModel>,
    /// What the tensors of one run may take together.
    pub(crate) run_bytes: u64,
    /// What runs take their memory from.
    pub(crate) memory: MemoryPool,
    /// The places in the signature of the inputs that decide shapes.
    pub(crate) steering: Vec<usize>,
    /// Whether nodes run that the table of what is verified does not hold.
    pub(crate) unverified: bool,
    /// Whether sizes decide if a node can be computed, which tract does not look at.
    pub(crate) fit_is_open: bool,
    /// Where a node would answer a number to what is none.
    pub(crate) watch: Option<Arc<Watch>>,
}

/// Makes, keeps and evicts plans. Shared by the instances of a model.
pub(crate) struct Plans {
    signature: Signature,
    source: Source,
    capacity: usize,
    table: Mutex<Table>,
    /// Held while a plan is made, so that the same one is not made twice and runs with other plans go on meanwhile.
    making: Mutex<Symbolic>,
}

struct Table {
    /// First those that are never evicted, then the others, least recently used first.
    plans: Vec<(Key, Arc<TypedSimplePlan>)>,
    /// How many stay: the plan that was made at load, if one was.
    pinned: usize,
    counts: Vec<(Key, u32)>,
}

enum Symbolic {
    Untried,
    Made(Arc<TypedSimplePlan>),
    Impossible,
}

impl Plans {
    /// `compares_sizes` says that no plan must have open dimensions.
    pub(crate) fn new(
        signature: Signature,
        source: Source,
        weights: u64,
        compares_sizes: bool,
        first: Option<(Shapes, Arc<TypedSimplePlan>)>,
    ) -> Self {
        let capacity = (PLAN_BYTES / weights.max(1)).clamp(*PLANS.start(), *PLANS.end());
        let plans: Vec<_> = first.into_iter().map(|(shapes, plan)| (Key::from(shapes), plan)).collect();
        Self {
            signature,
            source,
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            table: Mutex::new(Table { pinned: plans.len(), plans, counts: Vec::new() }),
            making: Mutex::new(if compares_sizes { Symbolic::Impossible } else { Symbolic::Untried }),
        }
    }

    /// No plan but the one for open dimensions.
    ///
    /// # Errors
    /// Where tract has none, or where values decide shapes.
    pub(crate) fn open(self) -> Result<Self, BackendError> {
        if !self.source.steering.is_empty() || matches!(*lock(&self.making), Symbolic::Impossible) {
            return Err(BackendError::Failed("there is no plan for open dimensions".to_owned()));
        }
        let plan = self.make(None)?;
        if answers_sizes(&plan) {
            return Err(BackendError::Failed("sizes are among the answers".to_owned()));
        }
        let symbolic = Symbolic::Made(plan);
        let table = Table { plans: Vec::new(), pinned: 0, counts: Vec::new() };
        Ok(Self { capacity: 0, table: Mutex::new(table), making: Mutex::new(symbolic), ..self })
    }

    pub(crate) fn run_bytes(&self) -> u64 {
        self.source.run_bytes
    }

    /// What a run that needs `bytes` holds of the memory that all requests share, until it is dropped.
    ///
    /// # Errors
    /// [`BackendError::Memory`] where that does not suffice.
    pub(crate) fn hold(&self, bytes: u64) -> Result<Holder, BackendError> {
        let mut holder = self.source.memory.holder();
        holder.grow(bytes.saturating_sub(UNCOUNTED)).map_err(BackendError::Memory)?;
        Ok(holder)
    }

    /// That the values of an input are passed on rightly.
    ///
    /// # Errors
    /// [`BackendError::InvalidInput`] where one is not a number, and a node would make one of it.
    pub(crate) fn check_nan(&self, name: &str, tensor: &CoreTensor) -> Result<(), BackendError> {
        match &self.source.watch {
            Some(watch) if nan::holds_nan(tensor) => Err(BackendError::InvalidInput(format!(
                "input '{name}' holds NaN, which on tract becomes a number at the node {}",
                watch.loser
            ))),
            _ => Ok(()),
        }
    }

    /// What is looked at during runs.
    pub(crate) fn watch(&self) -> Option<&Arc<Watch>> {
        self.source.watch.as_ref()
    }

    /// The places in the signature of the inputs that decide shapes.
    pub(crate) fn steering(&self) -> &[usize] {
        &self.source.steering
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The plan for `key`, made now if it has to be.
    ///
    /// # Errors
    /// [`BackendError::InvalidInput`] when the graph cannot take these shapes, [`BackendError::Failed`] when its file
    /// is no longer what it was.
    pub(crate) fn get(&self, key: &Key) -> Result<Plan, BackendError> {
        if let Some(plan) = self.known(key) {
            return Ok(Plan::Concrete(plan));
        }
        let mut symbolic = lock(&self.making);
        if let Some(plan) = self.known(key) {
            return Ok(Plan::Concrete(plan));
        }
        // The symbolic plan has no inputs for values that replace defaults, and shapes of its own for those that decide them.
        if self.replaced(key).is_empty()
            && key.steering.is_empty()
            && !lock(&self.table).deserves_a_plan(key, self.capacity)
        {
            if matches!(*symbolic, Symbolic::Untried) {
                *symbolic = match self.make(None) {
                    Ok(plan) if answers_sizes(&plan) => Symbolic::Impossible,
                    Ok(plan) => Symbolic::Made(plan),
                    Err(error) => {
                        tracing::info!(%error, "no plan for open dimensions");
                        Symbolic::Impossible
                    }
                };
            }
            if let Symbolic::Made(plan) = &*symbolic {
                return Ok(Plan::Symbolic(Arc::clone(plan)));
            }
        }
        self.make_and_keep(key).map(Plan::Concrete)
    }

    /// A plan for `key` alone, whatever the room: for when the symbolic one fails on them.
    pub(crate) fn concrete(&self, key: &Key) -> Result<Arc<TypedSimplePlan>, BackendError> {
        let _making = lock(&self.making);
        self.known(key).map_or_else(|| self.make_and_keep(key), Ok)
    }

    fn make_and_keep(&self, key: &Key) -> Result<Arc<TypedSimplePlan>, BackendError> {
        let plan = self.make(Some(key))?;
        lock(&self.table).insert(key, &plan, self.capacity);
        Ok(plan)
    }

    fn known(&self, key: &Key) -> Option<Arc<TypedSimplePlan>> {
        lock(&self.table).touch(key)
    }

    fn make(&self, key: Option<&Key>) -> Result<Arc<TypedSimplePlan>, BackendError> {
        // tract's analysis panics on some graphs that it cannot take; here that is an answer like any other.
        catch_unwind(AssertUnwindSafe(|| self.make_unguarded(key))).unwrap_or_else(|_| {
            Err(match key {
                // As far as is known what the caller sent is to blame.
                Some(key) => BackendError::InvalidInput(self.refusal(&key.steering, None)),
                None => BackendError::Failed("tract panicked while it made a plan".to_owned()),
            })
        })
    }

    /// That what a caller sent is beyond the model or tract, by the inputs whose values decide shapes, and why, if that is
    /// known.
    fn refusal(&self, steering: &[(usize, Arc<Tensor>)], why: Option<&str>) -> String {
        let names = steering.iter().map(|(index, _)| format!("'{}'", self.signature.inputs[*index].name));
        let names = names.collect::<Vec<_>>().join(", ");
        let values = if names.is_empty() { String::new() } else { format!(" with these values of {names}") };
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        format!("on tract the model does not take these shapes{values}{why}")
    }

    fn make_unguarded(&self, key: Option<&Key>) -> Result<Arc<TypedSimplePlan>, BackendError> {
        let replaced = key.map(|key| self.replaced(key)).unwrap_or_default();
        let mut graph = match &self.source.graph {
            Some(graph) if replaced.is_empty() => graph.clone(),
            _ => self.read_checked(&replaced)?.model,
        };
        let refused = |error: TractError| {
            let steering = key.map_or(&[][..], |key| &key.steering);
            BackendError::InvalidInput(self.refusal(steering, own_words(&error)))
        };
        let mut checked = self.source.unverified;
        if let Some(key) = key {
            // First of all: tract may panic on what it does not reckon with.
            let is_empty = || key.shapes.iter().flatten().flatten().any(|size| *size == 0);
            if !checked && (self.source.fit_is_open || is_empty()) {
                self.check_sizes(key, &replaced)?;
                checked = true;
            }
            self.fix(&mut graph, key).map_err(refused)?;
        }
        let typed = graph.into_typed().map_err(refused)?;
        if let Some(key) = key.filter(|_| !checked && plan::is_somewhere_empty(&typed)) {
            self.check_sizes(key, &replaced)?;
        }
        plan::compile(typed, &self.source.files.model.name(), self.source.run_bytes).map_err(refused)
    }

    /// The inputs with a default that are given a value.
    fn replaced(&self, key: &Key) -> Vec<&str> {
        let given =
            self.signature.inputs.iter().zip(&key.shapes).filter(|(spec, shape)| spec.optional && shape.is_some());
        given.map(|(spec, _)| spec.name.as_str()).collect()
    }

    /// Gives the graph the shapes, and the values that decide shapes.
    fn fix(&self, graph: &mut InferenceModel, key: &Key) -> TractResult<()> {
        let inputs = self.signature.inputs.iter().enumerate();
        let given: Vec<(usize, &TensorSpec, &[usize])> =
            inputs.filter_map(|(index, spec)| Some((index, spec, key.shapes.get(index)?.as_deref()?))).collect();
        let value = |index: usize| key.steering.iter().find(|(place, _)| *place == index).map(|(_, value)| value);
        let values = given.iter().enumerate().filter_map(|(place, (index, ..))| Some((place, value(*index)?)));
        let values = values.map(|(place, value)| (place, Tensor::clone(value))).collect();
        plan::fix_values(graph, values)?;
        let open = given.iter().filter(|(index, ..)| value(*index).is_none());
        plan::fix_inputs(graph, open.map(|(_, spec, shape)| (*spec, *shape)))
    }

    /// That the nodes which meet tensors without elements, or such as do not fit them, are known to take them.
    ///
    /// # Errors
    /// [`BackendError::InvalidInput`] naming those that are not.
    fn check_sizes(&self, key: &Key, replaced: &[&str]) -> Result<(), BackendError> {
        let (file, mut parsed) = self.read_again(replaced)?;
        self.fix(&mut parsed.model, key).map_err(|error| BackendError::Failed(format!("{error:#}")))?;
        let reports = forms::examine_sizes(&file, &parsed, verified::Table::embedded());
        if reports.is_empty() {
            return Ok(());
        }
        Err(BackendError::InvalidInput(self.refusal(&key.steering, Some(&explain::few(&reports)))))
    }

    /// The graph as it was at load, but with inputs for these defaults.
    fn read_checked(&self, replaced: &[&str]) -> Result<Parsed, BackendError> {
        let (file, parsed) = self.read_again(replaced)?;
        // With its default an operand is a constant, which a node may have been verified with alone.
        if replaced.is_empty() || self.source.unverified {
            return Ok(parsed);
        }
        let reports = forms::examine(&file, &parsed, verified::Table::embedded()).doubtful;
        if reports.is_empty() {
            return Ok(parsed);
        }
        let names = replaced.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        let reports = explain::few(&reports);
        Err(BackendError::InvalidInput(format!(
            "tract is not known to be right where a request gives {names}: {reports}"
        )))
    }

    fn read_again(&self, replaced: &[&str]) -> Result<(OnnxFile, Parsed), BackendError> {
        let files = &self.source.files;
        let mut file = OnnxFile::read(files)?;
        if file.stamp != self.source.stamp {
            let name = files.model.name();
            return Err(BackendError::Failed(format!("'{name}' has changed since it was loaded; load it again")));
        }
        let simplified = simplify(&mut file.proto, replaced);
        let parsed = plan::parse(&file.proto, simplified.constants, files.model.folder(), self.source.run_bytes)
            .map_err(|error| BackendError::Failed(format!("{error:#}")))?;
        Ok((file, parsed))
    }
}

impl Table {
    fn touch(&mut self, key: &Key) -> Option<Arc<TypedSimplePlan>> {
        let index = self.plans.iter().position(|(known, _)| known == key)?;
        let plan = Arc::clone(&self.plans[index].1);
        if index >= self.pinned {
            self.plans[index..].rotate_left(1);
        }
        Some(plan)
    }

    fn deserves_a_plan(&mut self, key: &Key, capacity: usize) -> bool {
        if self.plans.len() < capacity {
            return true;
        }
        let index = self.counts.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
            if self.counts.len() == COUNTED {
                self.counts.remove(0);
            }
            self.counts.push((key.clone(), 0));
            self.counts.len() - 1
        });
        self.counts[index].1 += 1;
        self.counts[index].1 > PROMOTED_AFTER
    }

    fn insert(&mut self, key: &Key, plan: &Arc<TypedSimplePlan>, capacity: usize) {
        self.counts.retain(|(known, _)| known != key);
        if self.plans.len() >= capacity.max(self.pinned + 1) {
            self.plans.remove(self.pinned);
        }
        self.plans.push((key.clone(), Arc::clone(plan)));
    }
}

/// Whether an output holds sizes of its inputs, which a plan for open dimensions would answer by their symbols.
fn answers_sizes(plan: &TypedSimplePlan) -> bool {
    let model = plan.model();
    model.output_outlets().is_ok_and(|outlets| {
        outlets.iter().any(|outlet| model.outlet_fact(*outlet).is_ok_and(|fact| fact.datum_type == TDim::datum_type()))
    })
}

/// No state of ours is half written when a panic passes: the data behind a poisoned lock is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use corymb_core::FileSource;

    use super::*;
    use crate::signature::declared;
    use corymb_core::RUN_BYTES;

    fn plans(fixture: &str) -> Plans {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models").join(fixture);
        let files = ModelFiles { model: FileSource::Path(path) };
        let mut file = OnnxFile::read(&files).expect("a model");
        let signature = declared(&file.proto).signature;
        let constants = simplify(&mut file.proto, &[]).constants;
        let graph = plan::parse(&file.proto, constants, None, RUN_BYTES).expect("parsed").model;
        let (graph, steering) = (Some(graph), Vec::new());
        let (run_bytes, memory) = (RUN_BYTES, MemoryPool::default());
        let source = Source {
            files,
            stamp: None,
            graph,
            run_bytes,
            memory,
            steering,
            unverified: false,
            fit_is_open: false,
            watch: None,
        };
        Plans::new(signature, source, 1 << 40, false, None)
    }

    fn of_length(length: usize) -> Key {
        vec![Some(vec![1, length, 3])].into()
    }

    fn is_concrete(plan: &Plan) -> bool {
        matches!(plan, Plan::Concrete(_))
    }

    #[test]
    fn beyond_the_capacity_shapes_share_the_symbolic_plan_until_they_return() {
        let plans = plans("sequence.onnx");
        assert_eq!(plans.capacity, 2);
        for length in [1, 2, 1] {
            assert!(is_concrete(&plans.get(&of_length(length)).expect("a plan")), "{length}");
        }
        for turn in 0..PROMOTED_AFTER {
            assert!(!is_concrete(&plans.get(&of_length(3)).expect("a plan")), "turn {turn}");
        }
        assert!(is_concrete(&plans.get(&of_length(3)).expect("a plan")));
        let table = lock(&plans.table);
        let kept: Vec<&Key> = table.plans.iter().map(|(key, _)| key).collect();
        assert_eq!(kept, [&of_length(1), &of_length(3)], "the least recently used one went");
    }

    #[test]
    fn shapes_that_the_graph_refuses_are_the_callers_mistake() {
        let error = plans("linear.onnx").get(&vec![Some(vec![1, 5])].into()).map(drop).expect_err("refused");
        assert!(matches!(error, BackendError::InvalidInput(_)), "{error:?}");
    }
}
