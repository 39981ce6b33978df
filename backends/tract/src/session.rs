//! A plan's state between runs, and what its runs leave on each thread.
//!
//! tract keeps the scratch memory of matrix products per thread and session, and frees it on the thread that drops the
//! session. Instances run on any worker and are dropped on another thread: so each thread notes the sessions that it ran, and
//! frees what dead ones left when it meets new ones.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Instant;

use corymb_core::{BackendError, RunOptions};
use tract_onnx::tract_core::internal::{
    OutletId, SymbolValues, TValue, TVec, TractError, TractResult, TypedModel, TypedNode, TypedSimplePlan,
    TypedSimpleState, bail, ensure,
};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::matmul::optimized::OptMatMul;
use tract_onnx::tract_core::ops::scan::{OptScan, Scan};
use tract_onnx::tract_core::plan::{SessionId, eval};

use crate::explain;
use crate::memory::Need;
use crate::nan::{self, Watch};

/// Sessions of a thread before the dead among them are looked for.
const FEW: usize = 8;

/// A state that may be run again.
pub(crate) struct Session {
    state: TypedSimpleState,
    /// The node of a matrix product; none where there is nothing to free.
    product: Option<usize>,
    alive: Arc<()>,
    bytes: u64,
    watched: Option<Watched>,
    /// Of nodes of which the run takes one branch: both as sessions of their own, so that they are looked into, too.
    branches: HashMap<usize, [Branch; 2]>,
}

/// Nodes whose results are looked at for what is no number, since it would be lost.
struct Watched {
    watch: Arc<Watch>,
    makers: HashSet<usize>,
    /// Where numbers may be infinite.
    leading: HashSet<usize>,
    /// Of these it would be lost before anybody sees it: what is done with a product is done as it is made. What is multiplied is
    /// looked at instead.
    products: HashSet<usize>,
}

impl Watched {
    fn new(watch: &Arc<Watch>, nodes: &[TypedNode]) -> Self {
        let those = |wanted: &dyn Fn(&TypedNode) -> bool| -> HashSet<usize> {
            nodes.iter().filter(|node| wanted(node)).map(|node| node.id).collect()
        };
        Self {
            watch: Arc::clone(watch),
            makers: those(&|node| watch.is_of_maker(&node.name)),
            leading: those(&|node| watch.leads(&node.name)),
            products: those(&|node| node.op_is::<OptMatMul>()),
        }
    }
}

/// One branch of a node.
struct Branch {
    session: Box<Session>,
    /// For each input its place among the node's operands.
    given: Vec<usize>,
}

/// One run, through all branches that it takes.
struct Run<'a> {
    options: &'a RunOptions,
    /// Whether numbers may be infinite.
    wild: bool,
    stopped: Option<BackendError>,
    /// The node of the whole graph that is being run.
    at: Option<usize>,
    depth: usize,
}

impl Session {
    pub(crate) fn new(plan: &Arc<TypedSimplePlan>, watch: Option<&Arc<Watch>>) -> TractResult<Self> {
        let nodes = plan.model().nodes();
        let product = nodes.iter().position(|node| node.op_is::<OptMatMul>());
        let bytes = Need::of(plan.model(), &SymbolValues::default())?.bytes;
        let watched = watch.map(|watch| Watched::new(watch, nodes));
        let mut branches = HashMap::new();
        for node in nodes {
            let Some(op) = node.op_as::<IfThenElse>() else { continue };
            let branch = |body: &TypedModel, given: &[usize]| -> TractResult<Branch> {
                let session = Self::new(&TypedSimplePlan::new(body.clone())?, watch)?;
                Ok(Branch { session: Box::new(session), given: given.to_vec() })
            };
            let otherwise = branch(&op.else_body, &op.else_input_mapping)?;
            branches.insert(node.id, [otherwise, branch(&op.then_body, &op.then_input_mapping)?]);
        }
        Ok(Self { state: plan.spawn()?, product, alive: Arc::default(), bytes, watched, branches })
    }

    /// What a run takes at its peak, of sizes that the plan fixes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn plan(&self) -> &Arc<TypedSimplePlan> {
        self.state.plan()
    }

    /// Whether a run leaves nothing for the next one. A recurrent layer does: tract takes the next run for the rest of the
    /// same sequence, which may be another caller's.
    pub(crate) fn forgets(&self) -> bool {
        self.state.op_states.iter().all(Option::is_none)
    }

    /// Between two nodes it is looked whether the run is to go on.
    pub(crate) fn run(&mut self, inputs: TVec<TValue>, options: &RunOptions) -> Result<TVec<TValue>, Ended> {
        let given = || inputs.iter().any(|input| nan::look(input, nan::GIVEN).large);
        let wild = self.watched.as_ref().is_some_and(|watched| watched.watch.wild || given());
        let mut run = Run { options, wild, stopped: None, at: None, depth: 0 };
        // Some kernels panic on values that they cannot take: an answer like any other.
        let outputs = catch_unwind(AssertUnwindSafe(|| self.go(inputs, &mut run)));
        match outputs {
            Ok(outputs) => outputs.map_err(|error| run.stopped.map_or(Ended::Failed(error), Ended::Stopped)),
            Err(_) => Err(Ended::Panicked(run.at.map(|at| self.plan().model().nodes()[at].name.clone()))),
        }
    }

    fn go(&mut self, inputs: TVec<TValue>, run: &mut Run<'_>) -> TractResult<TVec<TValue>> {
        let Self { state, watched, branches, product, alive, .. } = self;
        let plan = Arc::clone(state.plan());
        // Also where a kernel panics.
        let mut freeing = Freeing { plan: &plan, product: *product, alive, id: None };
        state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            freeing.id = Some(context.session);
            if run.depth == 0 {
                run.at = Some(node.id);
            }
            run.stopped = stop(run.options);
            ensure!(run.stopped.is_none(), "stopped");
            // Of no steps tract makes an answer of another shape. How many there are values may decide, which no plan knows.
            if (node.op_is::<OptScan>() || node.op_is::<Scan>()) && inputs.iter().any(|input| input.len() == 0) {
                run.stopped = Some(BackendError::InvalidValues(explain::no_elements(&node.name)));
                bail!("stopped");
            }
            // What a product is bounded by within the same node may be as large as it likes.
            let is_constant = |operand: &OutletId| plan.model().nodes()[operand.node].op_is::<Const>();
            let mut operands = inputs.iter().zip(&node.inputs).filter(|(_, operand)| !is_constant(operand));
            let unseen = run.wild
                && watched.as_ref().is_some_and(|watched| watched.products.contains(&node.id))
                && operands.any(|(input, _)| nan::look(input, nan::MADE).large);
            let outputs = match branches.get_mut(&node.id) {
                Some(branches) => {
                    let [otherwise, then] = branches;
                    let branch = if inputs[0].cast_to_scalar::<bool>()? { then } else { otherwise };
                    run.depth += 1;
                    let outputs = branch.run(&inputs, run)?;
                    run.depth -= 1;
                    outputs
                }
                None => eval(context, state, node, inputs)?,
            };
            let Some(Watched { watch, makers, leading, .. }) = watched else { return Ok(outputs) };
            let makes = makers.contains(&node.id);
            if makes || (run.wild && leading.contains(&node.id)) {
                let looks = outputs.iter().map(|output| nan::look(output, nan::MADE));
                let seen = looks.fold((unseen, false), |(nan, large), look| (nan | look.nan, large | look.large));
                if seen.0 {
                    run.stopped = Some(BackendError::InvalidValues(explain::made_nan(&node.name, &watch.loser)));
                    bail!("stopped");
                }
                run.wild |= seen.1;
            }
            Ok(outputs)
        })
    }
}

impl Branch {
    fn run(&mut self, operands: &[TValue], run: &mut Run<'_>) -> TractResult<TVec<TValue>> {
        if !self.session.forgets() {
            let plan = Arc::clone(self.session.plan());
            self.session.state = plan.spawn()?;
        }
        self.session.go(self.given.iter().map(|place| operands[*place].clone()).collect(), run)
    }
}

/// Notes when it is dropped what a run left on this thread.
struct Freeing<'a> {
    plan: &'a TypedSimplePlan,
    product: Option<usize>,
    alive: &'a Arc<()>,
    id: Option<SessionId>,
}

impl Drop for Freeing<'_> {
    fn drop(&mut self) {
        if let (Some(id), Some(product)) = (self.id, self.product) {
            let product = &self.plan.model().nodes()[product];
            RAN.with_borrow_mut(|ran| ran.note(id, self.alive, |dead| product.op().drop_session(dead, product.id)));
        }
    }
}

/// How a run ended that gave no outputs.
pub(crate) enum Ended {
    /// By tract's error.
    Failed(TractError),
    /// By a panic, at the node of this name. The state is not to be used again.
    Panicked(Option<String>),
    /// By whoever asked for it.
    Stopped(BackendError),
}

fn stop(options: &RunOptions) -> Option<BackendError> {
    if options.cancel.is_cancelled() {
        return Some(BackendError::Cancelled);
    }
    options.ends.filter(|ends| *ends <= Instant::now()).map(|_| BackendError::TimedOut)
}

thread_local! {
    static RAN: RefCell<Ran> = RefCell::new(Ran { sessions: HashMap::new(), enough: FEW });
}

/// The sessions that a thread ran.
struct Ran {
    sessions: HashMap<SessionId, Weak<()>>,
    /// So many that it is time to look for dead ones.
    enough: usize,
}

impl Ran {
    fn note(&mut self, id: SessionId, alive: &Arc<()>, free: impl Fn(SessionId)) {
        if self.sessions.contains_key(&id) {
            return;
        }
        if self.sessions.len() >= self.enough {
            self.sessions.retain(|session, alive| {
                let lives = alive.strong_count() > 0;
                if !lives {
                    free(*session);
                }
                lives
            });
            // Looking costs nothing on average, and the dead are never more than the living and a few.
            self.enough = 2 * self.sessions.len() + FEW;
        }
        self.sessions.insert(id, Arc::downgrade(alive));
    }
}
