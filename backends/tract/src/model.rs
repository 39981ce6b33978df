//! A loaded model and its instances.

use std::sync::Arc;

use corymb_core::{
    BackendError, BatchAxes, Device, Instance, Model, ModelFiles, Profile, RowAnalysis, RunOptions, Signature,
    TensorSpec, Tensors,
};
use corymb_onnx::{analyse_rows, answer_without_rows, axes_without_rows, check_empty, shapes_bound_cost, tables};
use tract_onnx::tract_core::internal::{
    IntoArcTensor as _, TValue, TVec, Tensor as TractTensor, TractError, TypedSimplePlan,
};

use crate::convert::{from_tract, into_tract};
use crate::explain;
use crate::memory::{self, Need};
use crate::plans::{Key, Plan, Plans, Shapes};
use crate::session::{Ended, Session};
use crate::steering::MOST_ELEMENTS;

/// Plans whose state an instance keeps between runs.
const STATES: usize = 4;

/// What the file's graph says, beside its signature.
pub(crate) struct Graph {
    pub(crate) rows: RowAnalysis,
    pub(crate) tables: Vec<(String, usize)>,
    shapes_bound_cost: bool,
}

impl Graph {
    /// Of the file as it is, before anything of it is rewritten for tract.
    pub(crate) fn of(files: &ModelFiles, signature: &Signature) -> Self {
        match corymb_onnx::OnnxFile::read(files) {
            Ok(file) => Self {
                rows: analyse_rows(&file.model, signature),
                tables: tables(&file.model, signature),
                shapes_bound_cost: shapes_bound_cost(&file.model),
            },
            Err(error) => {
                tracing::debug!(%error, "nothing is known of the rows");
                Self { rows: RowAnalysis::default(), tables: Vec::new(), shapes_bound_cost: false }
            }
        }
    }
}

/// A model on the processor.
pub(crate) struct TractModel {
    plans: Arc<Plans>,
    graph: Graph,
    without_rows: Option<Arc<BatchAxes>>,
    unverified: Option<String>,
}

impl TractModel {
    pub(crate) fn new(plans: Plans, graph: Graph, unverified: Option<String>) -> Self {
        let without_rows = axes_without_rows(&graph.rows, plans.signature()).map(Arc::new);
        Self { graph, without_rows, plans: Arc::new(plans), unverified }
    }

    /// The same with the one plan that runs all shapes.
    ///
    /// # Errors
    /// Where tract has none.
    pub(crate) fn open(self) -> Result<Self, BackendError> {
        let plans = Arc::into_inner(self.plans).ok_or_else(|| BackendError::Failed("it runs already".to_owned()))?;
        Ok(Self { plans: Arc::new(plans.open()?), ..self })
    }
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        self.plans.signature()
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn profile(&self) -> Profile {
        // Measured: 44 ms per image in a batch of 8, 17.6 ms alone.
        let Graph { rows, tables, shapes_bound_cost } = &self.graph;
        Profile {
            rows: rows.clone(),
            batches_pay: false,
            batch_sizes: vec![1],
            max_threads: 1,
            tables: tables.clone(),
            shapes_bound_cost: *shapes_bound_cost,
        }
    }

    fn unverified(&self) -> Option<&str> {
        self.unverified.as_deref()
    }

    fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        Ok(Box::new(TractInstance {
            plans: Arc::clone(&self.plans),
            without_rows: self.without_rows.clone(),
            states: Vec::new(),
            symbolic: None,
        }))
    }
}

struct TractInstance {
    plans: Arc<Plans>,
    without_rows: Option<Arc<BatchAxes>>,
    /// Most recently used last.
    states: Vec<(Key, Session)>,
    symbolic: Option<Session>,
}

impl Instance for TractInstance {
    /// One request after the other: a batch costs tract more than its rows do.
    fn run(&mut self, batch: &[Tensors], options: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        let invalid = |error: corymb_core::SignatureError| BackendError::InvalidInput(error.to_string());
        let plans = Arc::clone(&self.plans);
        let signature = plans.signature();
        signature.check_outputs(options.outputs.iter().map(String::as_str)).map_err(invalid)?;
        batch.iter().try_for_each(|inputs| signature.check_inputs(inputs)).map_err(invalid)?;
        batch.iter().flat_map(Tensors::iter).try_for_each(check_empty)?;
        let answer = |inputs: &Tensors| {
            if options.cancel.is_cancelled() {
                return Err(BackendError::Cancelled);
            }
            let without_rows = self.without_rows.clone();
            let no_rows =
                |axes: Arc<BatchAxes>| answer_without_rows(signature, &axes, inputs, |spec| is_wanted(spec, options));
            match without_rows.and_then(no_rows) {
                Some(outputs) => Ok(outputs),
                None => self.run_one(inputs, options),
            }
        };
        batch.iter().map(answer).collect()
    }
}

impl TractInstance {
    fn run_one(&mut self, inputs: &Tensors, options: &RunOptions) -> Result<Tensors, BackendError> {
        let plans = Arc::clone(&self.plans);
        let signature = plans.signature();
        let shapes: Shapes =
            signature.inputs.iter().map(|spec| Some(inputs.get(&spec.name)?.shape().to_vec())).collect();
        let values = || -> Result<TVec<TValue>, BackendError> {
            let open = signature.inputs.iter().enumerate().filter(|(index, _)| !plans.steering().contains(index));
            let given = open.filter_map(|(_, spec)| Some((&spec.name, inputs.get(&spec.name)?)));
            given.map(|(name, tensor)| into_tract(name, tensor)).collect()
        };
        inputs.iter().try_for_each(|(name, tensor)| plans.check_nan(name, tensor))?;
        let key = Key { shapes, steering: steering_values(&plans, inputs)? };
        // The inputs are of the declared dtypes and shapes: what fails now fails of what they hold.
        let failed = |error: TractError| BackendError::InvalidValues(explain::failed_run(&error));
        // A state is put back only after a run that went well: after an error it holds what was computed so far.
        let (mut state, mut symbolic) = self.take_state(&key)?;
        let mut bytes = state.bytes();
        if symbolic {
            let model = state.plan().model();
            let given = key.shapes.iter().filter_map(|shape| shape.as_deref());
            let need = memory::symbols(model, given).and_then(|symbols| Need::of(model, &symbols)).map_err(failed)?;
            need.check(plans.run_bytes()).map_err(|error| BackendError::InvalidInput(error.to_string()))?;
            bytes = need.bytes;
            // Only a plan for these shapes tells which nodes meet tensors without elements.
            if need.is_somewhere_empty {
                self.symbolic = Some(std::mem::replace(&mut state, spawn(&plans.concrete(&key)?, &plans)?));
                (symbolic, bytes) = (false, state.bytes());
            }
        }
        let held = plans.hold(bytes)?;
        let ended = |ended: Ended| match ended {
            Ended::Failed(error) => failed(error),
            Ended::Panicked(node) => BackendError::InvalidValues(explain::refused_values(node.as_deref())),
            Ended::Stopped(error) => error,
        };
        let outputs = match state.run(values()?, options) {
            Ok(outputs) if symbolic => {
                self.symbolic = Some(state).filter(Session::forgets);
                outputs
            }
            // Some operators need their shapes fixed.
            Err(Ended::Failed(error)) if symbolic => {
                tracing::debug!(%error, "the plan for open dimensions failed");
                let mut state = spawn(&plans.concrete(&key)?, &plans)?;
                let outputs = state.run(values()?, options).map_err(ended)?;
                self.keep(key, state);
                outputs
            }
            Ok(outputs) => {
                self.keep(key, state);
                outputs
            }
            Err(error) => return Err(ended(error)),
        };
        if outputs.len() != signature.outputs.len() {
            let (given, expected) = (outputs.len(), signature.outputs.len());
            return Err(BackendError::Failed(format!("tract made {given} outputs; expected {expected}")));
        }
        let wanted = signature.outputs.iter().zip(outputs).filter(|(spec, _)| is_wanted(spec, options));
        let (specs, values): (Vec<&TensorSpec>, Vec<TValue>) = wanted.unzip();
        let tensors = specs.iter().zip(values).map(|(spec, value)| from_tract(spec, value));
        let tensors = held.keep_with_tensors(tensors.collect::<Result<_, _>>()?);
        Ok(specs.iter().map(|spec| spec.name.as_str()).zip(tensors).collect())
    }

    fn keep(&mut self, key: Key, state: Session) {
        if !state.forgets() {
            return;
        }
        if self.states.len() == STATES {
            self.states.remove(0);
        }
        self.states.push((key, state));
    }

    fn take_state(&mut self, key: &Key) -> Result<(Session, bool), BackendError> {
        if let Some(index) = self.states.iter().position(|(known, _)| known == key) {
            return Ok((self.states.remove(index).1, false));
        }
        match self.plans.get(key)? {
            Plan::Concrete(plan) => Ok((spawn(&plan, &self.plans)?, false)),
            Plan::Symbolic(plan) => match self.symbolic.take() {
                Some(state) => Ok((state, true)),
                None => Ok((spawn(&plan, &self.plans)?, true)),
            },
        }
    }
}

/// The values of a request that a plan takes as constants.
fn steering_values(plans: &Plans, inputs: &Tensors) -> Result<Vec<(usize, Arc<TractTensor>)>, BackendError> {
    let specs = plans.steering().iter().map(|&index| (index, &plans.signature().inputs[index].name));
    let given = specs.filter_map(|(index, name)| Some((index, name, inputs.get(name)?)));
    let values = given.map(|(index, name, tensor)| {
        if tensor.len() > MOST_ELEMENTS {
            let (given, name) = (tensor.len(), name.as_str());
            return Err(BackendError::InvalidInput(format!(
                "input '{name}' decides shapes and has {given} elements; at most {MOST_ELEMENTS} are taken"
            )));
        }
        Ok((index, into_tract(name, tensor)?.into_arc_tensor()))
    });
    values.collect()
}

fn spawn(plan: &Arc<TypedSimplePlan>, plans: &Plans) -> Result<Session, BackendError> {
    Session::new(plan, plans.watch()).map_err(|error| BackendError::Failed(format!("prepare a run: {error:#}")))
}

fn is_wanted(spec: &TensorSpec, options: &RunOptions) -> bool {
    options.outputs.is_empty() || options.outputs.contains(&spec.name)
}
