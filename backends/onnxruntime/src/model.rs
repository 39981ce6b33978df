//! A loaded model, and the sessions that its instances run on.

use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use corymb_core::{BackendError, Device, Instance, MemoryPool, Model, Profile, RowAnalysis, Signature};
use corymb_onnx::axes_without_rows;
use ort::session::{RunOptions, SharedSessionInner};

use crate::instance::{OrtInstance, Shared};
use crate::session::Recipe;
use crate::values;
use crate::watch::Watch;

/// What the file's graph says, beside its signature.
pub(crate) struct Graph {
    pub(crate) rows: RowAnalysis,
    pub(crate) tables: Vec<(String, usize)>,
    pub(crate) shapes_bound_cost: bool,
    /// The node that ends the process when it is given no elements.
    pub(crate) deadly: Option<String>,
    /// Whether kernels may leave some of what they make unwritten, whatever a request holds.
    pub(crate) unwritten: bool,
}

/// A model on one device.
pub(crate) struct OrtModel {
    /// The session with one thread. On the processor every instance with one thread runs on it; on an accelerator the
    /// first instance takes it. Before what is shared, which is dropped after it.
    first: Mutex<Option<Arc<SharedSessionInner>>>,
    shared: Arc<Shared>,
    graph: Graph,
    recipe: Recipe,
}

impl OrtModel {
    /// `first` is a session of `recipe` with one thread; `run_bytes` are what one run may take, of
    /// `pool`.
    pub(crate) fn new(
        recipe: Recipe,
        signature: Signature,
        graph: Graph,
        first: Arc<SharedSessionInner>,
        watch: Arc<Watch>,
        (run_bytes, pool): (u64, MemoryPool),
    ) -> Result<Self, BackendError> {
        let name = |spec: &corymb_core::TensorSpec| {
            CString::new(spec.name.as_str())
                .map_err(|_| BackendError::InvalidModel(format!("the name {:?} holds a NUL", spec.name)))
        };
        let failed = |error: ort::Error| BackendError::Failed(error.message().to_owned());
        let shared = Shared {
            input_names: signature.inputs.iter().map(name).collect::<Result<_, _>>()?,
            output_names: signature.outputs.iter().map(name).collect::<Result<_, _>>()?,
            memory: values::processor_memory().map_err(failed)?,
            device: recipe.device,
            without_rows: axes_without_rows(&graph.rows, &signature),
            deadly: graph.deadly.clone(),
            unwritten: graph.unwritten,
            axes: graph.rows.axes.clone(),
            signature,
            watch,
            run_bytes,
            pool,
        };
        Ok(Self { shared: Arc::new(shared), graph, recipe, first: Mutex::new(Some(first)) })
    }

    /// On the processor, instances with one thread share a session: its weights, its arena and its time to load are
    /// there once. ONNX Runtime promises that several runs at once on one session work. A pool of more threads is the
    /// session's, so instances that have one have sessions of their own; so have those on accelerators.
    fn session(&self, threads: usize) -> Result<Arc<SharedSessionInner>, BackendError> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = match (self.recipe.device, threads) {
            (Device::Cpu, 1) => first.clone(),
            (Device::Cpu, _) => None,
            _ => first.take(),
        };
        drop(first);
        match ready {
            Some(session) => Ok(session),
            None => Ok(self.recipe.session(threads)?.inner()),
        }
    }
}

impl Model for OrtModel {
    fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    fn device(&self) -> &Device {
        &self.shared.device
    }

    fn profile(&self) -> Profile {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        let max_threads = if self.recipe.device == Device::Cpu { cores } else { 1 };
        let Graph { rows, tables, shapes_bound_cost, .. } = &self.graph;
        Profile {
            rows: rows.clone(),
            batches_pay: true,
            batch_sizes: Vec::new(),
            max_threads,
            tables: tables.clone(),
            shapes_bound_cost: *shapes_bound_cost,
        }
    }

    fn instance(&self, threads: usize) -> Result<Box<dyn Instance>, BackendError> {
        let session = self.session(threads.max(1))?;
        let options = RunOptions::new().map_err(|error| BackendError::Failed(error.message().to_owned()))?;
        let slot = self.shared.watch.slot(options);
        Ok(Box::new(OrtInstance { shared: Arc::clone(&self.shared), session, slot }))
    }
}
