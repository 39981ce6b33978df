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
    SymbolValues, TValue, TVec, TractError, TractResult, TypedSimplePlan, TypedSimpleState, bail, ensure,
};
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
    /// Nodes whose results are looked at for what is no number, since it would be lost; none where it would not.
    watched: Option<(HashSet<usize>, Arc<Watch>)>,
}

impl Session {
    pub(crate) fn new(plan: &Arc<TypedSimplePlan>, watch: Option<&Arc<Watch>>) -> TractResult<Self> {
        let nodes = plan.model().nodes();
        let product = nodes.iter().position(|node| node.op_is::<OptMatMul>());
        let bytes = Need::of(plan.model(), &SymbolValues::default())?.bytes;
        let makers = |watch: &Watch| -> HashSet<usize> {
            nodes.iter().filter(|node| watch.is_of_maker(&node.name)).map(|node| node.id).collect()
        };
        let watched = watch.map(|watch| (makers(watch), Arc::clone(watch))).filter(|(makers, _)| !makers.is_empty());
        Ok(Self { state: plan.spawn()?, product, alive: Arc::default(), bytes, watched })
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
        let (mut id, mut at, mut stopped) = (None, None, None);
        let watched = self.watched.as_ref();
        // Some kernels panic on values that they cannot take: an answer like any other.
        let outputs = catch_unwind(AssertUnwindSafe(|| {
            self.state.run_plan_with_eval(inputs, |context, state, node, inputs| {
                (id, at) = (Some(context.session), Some(node.id));
                stopped = stop(options);
                ensure!(stopped.is_none(), "stopped");
                // Of no steps tract makes an answer of another shape. How many there are values may decide, which no plan knows.
                if (node.op_is::<OptScan>() || node.op_is::<Scan>()) && inputs.iter().any(|input| input.len() == 0) {
                    stopped = Some(BackendError::InvalidValues(explain::no_elements(&node.name)));
                    bail!("stopped");
                }
                let outputs = eval(context, state, node, inputs)?;
                if let Some((makers, watch)) = watched
                    && makers.contains(&node.id)
                    && outputs.iter().any(|output| nan::is_in(output))
                {
                    stopped = Some(BackendError::InvalidValues(explain::made_nan(&node.name, &watch.loser)));
                    bail!("stopped");
                }
                Ok(outputs)
            })
        }));
        if let (Some(id), Some(product)) = (id, self.product) {
            let product = &self.plan().model().nodes()[product];
            RAN.with_borrow_mut(|ran| ran.note(id, &self.alive, |dead| product.op().drop_session(dead, product.id)));
        }
        match outputs {
            Ok(outputs) => outputs.map_err(|error| stopped.map_or(Ended::Failed(error), Ended::Stopped)),
            Err(_) => Err(Ended::Panicked(at.map(|at| self.plan().model().nodes()[at].name.clone()))),
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
