//! One executable copy of a model: requests in, answers out.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use corymb_core::{
    BackendError, BatchAxes, Device, Instance, MemoryPool, RunOptions, Signature, SignatureError, Tensor, TensorSpec,
    Tensors, format_dims,
};
use corymb_onnx::{answer_without_rows, check_empty};
use ort::AsPointer as _;
use ort::memory::MemoryInfo;
use ort::session::SharedSessionInner;

use crate::fault;
use crate::memory::{self, Bounded};
use crate::values::{self, Input, Value};
use crate::watch::{Slot, Watch};

/// What all instances of a model share.
pub(crate) struct Shared {
    pub(crate) signature: Signature,
    pub(crate) device: Device,
    /// Where rows are joined to one run; the engine decides whether they are.
    pub(crate) axes: Option<BatchAxes>,
    /// Where a request without rows has its answer known.
    pub(crate) without_rows: Option<BatchAxes>,
    /// The names of the signature's inputs and outputs, in its order, as the library wants them.
    pub(crate) input_names: Vec<CString>,
    pub(crate) output_names: Vec<CString>,
    pub(crate) memory: MemoryInfo<'static>,
    /// The node that ends the process when it is given no elements.
    pub(crate) deadly: Option<String>,
    /// Whether kernels may leave some of what they make unwritten, whatever a request holds.
    pub(crate) unwritten: bool,
    /// What one run may take, in bytes.
    pub(crate) run_bytes: u64,
    pub(crate) pool: MemoryPool,
    pub(crate) watch: Arc<Watch>,
}

impl Shared {
    /// Whether kernels may leave unwritten some of what they make of these.
    fn clears(&self, given: &[(usize, &Tensor)]) -> bool {
        self.unwritten || given.iter().any(|(_, tensor)| tensor.shape().contains(&0))
    }
}

impl Drop for Shared {
    /// The last of a model's sessions has gone before.
    fn drop(&mut self) {
        memory::trim();
    }
}

pub(crate) struct OrtInstance {
    // Before what is shared, which is dropped after it.
    pub(crate) session: Arc<SharedSessionInner>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
}

impl Instance for OrtInstance {
    fn run(&mut self, batch: &[Tensors], options: &RunOptions) -> Result<Vec<Tensors>, BackendError> {
        let invalid = |error: SignatureError| BackendError::InvalidInput(error.to_string());
        let signature = &self.shared.signature;
        signature.check_outputs(options.outputs.iter().map(String::as_str)).map_err(invalid)?;
        batch.iter().try_for_each(|inputs| signature.check_inputs(inputs)).map_err(invalid)?;
        batch.iter().flat_map(Tensors::iter).try_for_each(check_empty)?;
        let is_empty = |inputs: &Tensors| inputs.iter().any(|(_, tensor)| tensor.is_empty());
        if let [_, _, ..] = batch
            && !batch.iter().any(is_empty)
            && let Some(axes) = &self.shared.axes
            && let Some(answers) = self.run_together(batch, axes, options)?
        {
            return Ok(answers);
        }
        batch.iter().map(|inputs| self.run_one(inputs, options)).collect()
    }
}

impl OrtInstance {
    fn run_one(&self, inputs: &Tensors, options: &RunOptions) -> Result<Tensors, BackendError> {
        let signature = &self.shared.signature;
        if let Some(axes) = &self.shared.without_rows
            && let Some(answer) = answer_without_rows(signature, axes, inputs, |spec| is_wanted(spec, options))
        {
            return if options.cancel.is_cancelled() { Err(BackendError::Cancelled) } else { Ok(answer) };
        }
        if let Some(node) = &self.shared.deadly
            && let Some((name, tensor)) = inputs.iter().find(|(_, tensor)| tensor.is_empty())
        {
            let shape = format_dims(tensor.shape());
            return Err(BackendError::InvalidInput(format!(
                "input '{name}' has shape {shape}: no elements, which the node {node} cannot take"
            )));
        }
        let given: Vec<(usize, &Tensor)> = signature
            .inputs
            .iter()
            .enumerate()
            .filter_map(|(index, spec)| Some((index, inputs.get(&spec.name)?)))
            .collect();
        let outputs = self.execute(&given, options)?;
        Ok(outputs.into_iter().map(|(spec, tensor)| (spec.name.as_str(), tensor)).collect())
    }

    /// One run for all; none where they do not fit together, or where the outputs turn out not to have a part for each row.
    fn run_together(
        &self,
        batch: &[Tensors],
        axes: &BatchAxes,
        options: &RunOptions,
    ) -> Result<Option<Vec<Tensors>>, BackendError> {
        let signature = &self.shared.signature;
        let rows: Option<Vec<usize>> = batch.iter().map(|inputs| axes.rows(inputs)).collect();
        let replaced = signature.inputs.iter().any(|spec| spec.optional && batch[0].get(&spec.name).is_some());
        let Some(rows) = rows.filter(|_| !replaced && batch[1..].iter().all(|inputs| axes.fit(&batch[0], inputs)))
        else {
            return Ok(None);
        };
        // The one copy that a batch costs.
        let Some(gathered) = axes.join_inputs(batch) else { return Ok(None) };
        let inputs = signature.inputs.iter().enumerate();
        let given: Vec<(usize, &Tensor)> =
            inputs.filter_map(|(index, spec)| Some((index, gathered.get(&spec.name)?))).collect();
        let outputs = self.execute(&given, options)?;
        let outputs: Tensors = outputs.into_iter().map(|(spec, tensor)| (spec.name.as_str(), tensor)).collect();
        Ok(axes.split(&outputs, &rows))
    }

    /// One run of the session. `given` are tensors with the indices of their inputs in the signature.
    #[allow(unsafe_code, reason = "the library runs a session through its C interface")]
    fn execute(
        &self,
        given: &[(usize, &Tensor)],
        options: &RunOptions,
    ) -> Result<Vec<(&TensorSpec, Tensor)>, BackendError> {
        let shared = &*self.shared;
        if options.cancel.is_cancelled() {
            return Err(BackendError::Cancelled);
        }
        let inputs = given.iter().map(|(_, tensor)| values::input(&shared.memory, tensor));
        let inputs =
            inputs.collect::<Result<Vec<Input<'_>>, _>>().map_err(|error| fault::of_run(&error, shared.device))?;
        let input_names: Vec<*const c_char> =
            given.iter().map(|(index, _)| shared.input_names[*index].as_ptr()).collect();
        let input_values: Vec<_> = inputs.iter().map(|input| input.value.as_ptr()).collect();
        let wanted = shared.signature.outputs.iter().zip(&shared.output_names);
        let wanted: Vec<(&TensorSpec, *const c_char)> =
            wanted.filter(|(spec, _)| is_wanted(spec, options)).map(|(spec, name)| (spec, name.as_ptr())).collect();
        let output_names: Vec<*const c_char> = wanted.iter().map(|(_, name)| *name).collect();
        let mut outputs = vec![ptr::null_mut(); wanted.len()];

        let bounded = Bounded::enter(shared.run_bytes, &shared.pool, shared.clears(given));
        let watched = shared.watch.enter(&self.slot, options);
        // SAFETY: names are C strings that the model keeps; values are valid and outlive the call; all arrays are valid
        // for the lengths given. `Run` may be called by several threads on one session: ONNX Runtime promises so, and
        // sessions on accelerators, where that promise has had holes, are not shared between instances.
        let status = values::checked(unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                self.slot.options.ptr(),
                input_names.as_ptr(),
                input_values.as_ptr(),
                input_values.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        });
        drop(watched);
        let refusal = bounded.refusal();
        let held = bounded.end();
        // Owned before anything else can fail.
        let outputs: Vec<Option<Value>> = outputs.into_iter().map(Value::adopt).collect();
        if let Err(error) = status {
            return Err(match refusal {
                // Whatever the library says: it was told to stop.
                _ if options.cancel.is_cancelled() => BackendError::Cancelled,
                None if options.ends.is_some_and(|ends| ends <= Instant::now()) => BackendError::TimedOut,
                Some(refusal) => fault::of_memory(&error, refusal),
                None => fault::of_run(&error, shared.device),
            });
        }
        let tensors = wanted.iter().zip(outputs).map(|((spec, _), value)| -> Result<Tensor, BackendError> {
            let value = value.ok_or_else(|| BackendError::Failed(format!("output '{}' was not made", spec.name)))?;
            let ranges = inputs.iter().map(|input| input.range.clone());
            values::output(spec, value, &self.session, ranges)
        });
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        Ok(wanted.iter().map(|(spec, _)| *spec).zip(held.keep_with_tensors(tensors)).collect())
    }
}

fn is_wanted(spec: &TensorSpec, options: &RunOptions) -> bool {
    options.outputs.is_empty() || options.outputs.contains(&spec.name)
}
