//! A plan's state between runs, and what its runs leave on each thread.
//!
//! tract keeps the scratch memory of matrix products per thread and session, and frees it on the thread that drops the
//! session. Instances run on any worker and are dropped on another thread: so each thread notes the sessions that it ran, and
//! frees what dead ones left when it meets new ones.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tract_onnx::tract_core::internal::{SymbolValues, TValue, TVec, TractResult, TypedSimplePlan, TypedSimpleState};
use tract_onnx::tract_core::ops::matmul::optimized::OptMatMul;
use tract_onnx::tract_core::plan::{SessionId, eval};

use crate::memory::Need;

/// Sessions of a thread before the dead among them are looked for.
const FEW: usize = 8;

/// A state that may be run again.
pub(crate) struct Session {
    state: TypedSimpleState,
    /// The node of a matrix product; none where there is nothing to free.
    product: Option<usize>,
    alive: Arc<()>,
    bytes: u64,
}

impl Session {
    pub(crate) fn new(plan: &Arc<TypedSimplePlan>) -> TractResult<Self> {
        let product = plan.model().nodes().iter().position(|node| node.op_is::<OptMatMul>());
        let bytes = Need::of(plan.model(), &SymbolValues::default())?.bytes;
        Ok(Self { state: plan.spawn()?, product, alive: Arc::default(), bytes })
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

    pub(crate) fn run(&mut self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Some(product) = self.product else { return self.state.run(inputs) };
        let mut id = None;
        let outputs = self.state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            id = Some(context.session);
            eval(context, state, node, inputs)
        });
        if let Some(id) = id {
            let product = &self.plan().model().nodes()[product];
            RAN.with_borrow_mut(|ran| ran.note(id, &self.alive, |dead| product.op().drop_session(dead, product.id)));
        }
        outputs
    }
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
