//! The tract backend: ONNX models in pure Rust, on the processor, one thread per run.
//!
//! tract is compiled into the binary, starts in tens of milliseconds and needs a few tens of megabytes. It knows fewer
//! operators than ONNX Runtime, computes some of them wrongly (`verified.rs` knows which are right), and wants its shapes
//! fixed (`plans.rs`).

mod convert;
mod explain;
mod file;
mod form;
mod forms;
mod memory;
mod mistakes;
mod model;
mod nan;
mod ops;
mod plan;
mod plans;
mod proto;
mod rewrite;
mod session;
mod signature;
mod simplify;
mod stay;
mod steering;
mod stored;
mod sums;
mod support;
mod values;
mod verified;
mod window;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use corymb_core::{
    Availability, Backend, BackendError, Danger, Device, Dim, FileSource, Hazard, LoadOptions, Model, ModelFiles,
    ModelInfo, RUN_BYTES, Signature, TensorSpec, UnsupportedOperator,
};
use corymb_onnx::{Declared, costly_load, report};
use sha2::{Digest as _, Sha256};
use tract_onnx::tract_core::internal::{TractError, TractResult, TypedSimplePlan, ensure};
use tract_onnx::tract_hir::infer::{InferenceModel, InferenceModelExt as _};

use crate::file::OnnxFile;
use crate::forms::Examined;
use crate::model::{Graph, TractModel};
use crate::nan::Watch;
use crate::plans::{Plans, Shapes, Source};
use crate::signature::{declared, shapes_of_one_row};
use crate::simplify::{Simplified, simplify};
use crate::verified::Table;

/// The version of tract that is compiled in; a test compares it with the lock file.
const TRACT_VERSION: &str = "0.23.9";
const NAME: &str = "tract";
/// Sizes tried for open dimensions, of the batch and of others, to see whether tract takes the graph at all: some models take
/// one row alone, and some that listen want a whole window.
const PROBES: [(usize, usize); 5] = [(1, 1), (16, 16), (64, 64), (1, 64), (1, 512)];
/// Values tried for inputs that decide shapes.
const PROBE_VALUES: [i64; 2] = [1, 0];

/// What a model's owner can do about a node that is not verified.
const WAY_OUT: &str = "; `unverified = true` in model.toml runs it all the same";

/// A node as the table of what is verified knows it.
#[derive(Clone, Debug)]
pub struct NodeForms {
    /// Its name, or that of the first value that it makes.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Operator, version and fields, each of which must be in the table: several where open dimensions leave open which one it is.
    pub lines: Vec<String>,
}

/// The inference engine tract.
#[derive(Clone, Copy, Debug)]
pub struct Tract {
    run_bytes: u64,
}

impl Tract {
    /// With a limit on what the tensors of one run may take together, in bytes. A request that would take more is
    /// refused before it takes any.
    #[must_use]
    pub const fn new(run_bytes: u64) -> Self {
        Self { run_bytes }
    }
}

impl Default for Tract {
    /// With the usual limit.
    fn default() -> Self {
        Self::new(RUN_BYTES)
    }
}

impl Backend for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: TRACT_VERSION.to_owned(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, files: &ModelFiles, options: &LoadOptions) -> Result<ModelInfo, BackendError> {
        guarded(files, || {
            refuse_hazard(files, options)?;
            let mut file = OnnxFile::read(files)?;
            let (mut declared, mut unsupported) = describe(&file);
            if unsupported.is_empty() {
                // What the rules do not know tract says itself, if it is asked.
                let look = || self.look_closer(&mut file, &mut declared, files, options);
                let looked = catch_unwind(AssertUnwindSafe(look));
                unsupported
                    .extend(looked.unwrap_or_else(|panic| Err(vec![panicked(&*panic)])).err().unwrap_or_default());
            }
            let (opset, size, signature) = (file.opset(), file.size, declared.signature);
            let Graph { rows, .. } = Graph::of(files, &signature);
            Ok(ModelInfo { platform: "onnx_onnxv1", opset, size, signature, rows, unsupported })
        })
    }

    /// The cache folder of `options` stays unused: reading a decluttered graph back takes longer than making it from
    /// the ONNX file, and it runs slower.
    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        if options.device != Device::Cpu {
            let reason = format!("it runs on the processor only, and {} was asked for", options.device);
            return Err(BackendError::Unavailable { backend: NAME, reason });
        }
        guarded(files, || self.load_on_cpu(files, options).map(|model| Box::new(model) as Box<dyn Model>))
    }
}

/// Fails where tract might be busy for long with what no request changes, unless `options` say that it may.
fn refuse_hazard(files: &ModelFiles, options: &LoadOptions) -> Result<(), BackendError> {
    if options.hazards {
        return Ok(());
    }
    let file = corymb_onnx::OnnxFile::read(files)?;
    let Some(node) = costly_load(&file.model) else { return Ok(()) };
    let hash = Sha256::new().chain_update(&file.bytes).chain_update(TRACT_VERSION).finalize();
    let digest = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(BackendError::Hazardous(Hazard { node, danger: Danger::Loading, digest }))
}

/// tract panics on some hostile or merely unusual graphs. At load that is an answer: no, with a reason.
fn guarded<T>(files: &ModelFiles, work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(refused(files, &[panicked(&*panic)])))
}

fn panicked(panic: &(dyn Any + Send)) -> UnsupportedOperator {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    tracing::debug!(text, "tract panicked");
    report("Graph", "", "makes tract panic")
}

fn refused(files: &ModelFiles, reports: &[UnsupportedOperator]) -> BackendError {
    let name = files.model.name();
    BackendError::Unsupported(format!("tract cannot run '{name}': {}", explain::few(reports)))
}

/// What the file declares, and all that is known against it.
fn describe(file: &OnnxFile) -> (Declared, Vec<UnsupportedOperator>) {
    let mut declared = declared(&file.proto);
    let mut reports = std::mem::take(&mut declared.unsupported);
    reports.extend(support::unsupported_parts(&file.proto, &ops::reader().op_register));
    (declared, reports)
}

impl Tract {
    /// Lets tract read the graph and infer it, to see whether it can; completes the signature with what it infers.
    fn look_closer(
        self,
        file: &mut OnnxFile,
        declared: &mut Declared,
        files: &ModelFiles,
        options: &LoadOptions,
    ) -> Result<(), Vec<UnsupportedOperator>> {
        let Simplified { symbols, constants } = simplify(&mut file.proto, &[]);
        let blame = |file: &OnnxFile, error: &TractError| explain::report(file.graph(), error);
        let parsed = plan::parse(&file.proto, constants, files.model.folder(), self.run_bytes)
            .map_err(|error| vec![blame(file, &error)])?;
        if !options.unverified {
            let mut reports = forms::examine(file, &parsed, Table::embedded()).doubtful;
            if let Some(last) = reports.last_mut() {
                let steering = places(file, &declared.signature);
                match can_be_typed(&parsed.model, &declared.signature, &steering) {
                    Ok(()) => last.reason.push_str(WAY_OUT),
                    Err(error) => reports.push(blame(file, &error)),
                }
                return Err(reports);
            }
        }
        close_outputs(file, declared, &parsed.model, &symbols).map_err(|report| vec![report])?;
        let steering = places(file, &declared.signature);
        can_be_typed(&parsed.model, &declared.signature, &steering).map_err(|error| vec![blame(file, &error)])
    }

    /// The nodes of the model that tract would compute, and the forms that the table of what is verified knows them by.
    /// For the suite that makes the table.
    ///
    /// # Errors
    /// As [`Backend::load`] fails.
    pub fn forms(&self, files: &ModelFiles) -> Result<Vec<NodeForms>, BackendError> {
        guarded(files, || {
            let mut file = OnnxFile::read(files)?;
            let Simplified { constants, .. } = simplify(&mut file.proto, &[]);
            let parsed = plan::parse(&file.proto, constants, files.model.folder(), self.run_bytes)
                .map_err(|error| refused(files, &[explain::report(file.graph(), &error)]))?;
            let mut found = Vec::new();
            forms::walk(&file.proto, &parsed, &mut |node, form| {
                let (node, operator) = (crate::proto::label(node).to_owned(), form.operator.clone());
                let line = |fields: String| format!("{operator}\t{}\t{fields}", form.since);
                let lines = form.variants().into_iter().map(line).collect();
                found.push(NodeForms { node, operator, lines });
            });
            Ok(found)
        })
    }

    /// Loads the model as if its inputs declared no sizes but 1, with the one plan that then runs all shapes, which a server
    /// uses for those that have none of their own. Whatever the model holds is trusted. For the suite that makes the table.
    ///
    /// # Errors
    /// As [`Backend::load`] fails, and where tract has no such plan.
    pub fn load_open(&self, files: &ModelFiles) -> Result<Box<dyn Model>, BackendError> {
        guarded(files, || {
            let mut file = OnnxFile::read(files)?;
            file.open_dimensions();
            let options = LoadOptions { unverified: true, ..LoadOptions::default() };
            let model = self.load_file(file, files, &options)?;
            Ok(Box::new(model.open()?) as Box<dyn Model>)
        })
    }

    fn load_on_cpu(self, files: &ModelFiles, options: &LoadOptions) -> Result<TractModel, BackendError> {
        refuse_hazard(files, options)?;
        self.load_file(OnnxFile::read(files)?, files, options)
    }

    fn load_file(
        self,
        mut file: OnnxFile,
        files: &ModelFiles,
        options: &LoadOptions,
    ) -> Result<TractModel, BackendError> {
        let (mut declared, reports) = describe(&file);
        if !reports.is_empty() {
            return Err(refused(files, &reports));
        }
        let Simplified { symbols, constants } = simplify(&mut file.proto, &[]);
        let stored = file.graph().initializer.iter().map(|tensor| tensor.raw_data.len());
        let widened = constants.iter().map(|(_, tensor)| tensor.as_bytes().len());
        let weights = stored.chain(widened).sum::<usize>() as u64;
        let refused_by = |file: &OnnxFile, error: &TractError| refused(files, &[explain::report(file.graph(), error)]);
        let parsed = plan::parse(&file.proto, constants, files.model.folder(), self.run_bytes)
            .map_err(|error| refused_by(&file, &error))?;
        let Examined { doubtful, compares_sizes, fit_is_open } = forms::examine(&file, &parsed, Table::embedded());
        let doubtful = (!doubtful.is_empty()).then(|| explain::few(&doubtful));
        if let Some(nodes) = doubtful.as_ref().filter(|_| !options.unverified) {
            let (name, way_out) = (files.model.name(), way_out(&file, &parsed.model, &declared.signature));
            let refusal = format!("tract is not known to compute '{name}' rightly: {nodes}{way_out}");
            return Err(BackendError::Unsupported(refusal));
        }
        let watch = Watch::of(file.graph(), |name| parsed.constant(name)).map(Arc::new);
        let graph = parsed.model;
        // Everything is in the graph now: give back the file's content before more memory is taken.
        file.proto.graph.iter_mut().for_each(|graph| graph.initializer = Vec::new());
        close_outputs(&file, &mut declared, &graph, &symbols).map_err(|report| refused(files, &[report]))?;
        let signature = declared.signature;
        let looked = Graph::of(files, &signature);

        let steering = places(&file, &signature);
        let one_row = shapes_of_one_row(&signature, looked.rows.axes.as_ref()).filter(|_| steering.is_empty());
        let first = match one_row {
            Some(shapes) => {
                let plan = self.first_plan(graph.clone(), &signature, &shapes, files);
                plan.inspect_err(|error| tracing::debug!(%error, "no plan for one row")).ok().map(|plan| (shapes, plan))
            }
            None => None,
        };
        let kept = if first.is_some() {
            None
        } else {
            can_be_typed(&graph, &signature, &steering).map_err(|error| refused_by(&file, &error))?;
            Some(graph)
        };
        let (stamp, run_bytes, memory) = (file.stamp.clone(), self.run_bytes, options.memory.clone());
        let unverified = options.unverified;
        let files = kept_files(files);
        let source = Source { files, stamp, graph: kept, run_bytes, memory, steering, unverified, fit_is_open, watch };
        let plans = Plans::new(signature, source, weights, compares_sizes || fit_is_open, first);
        Ok(TractModel::new(plans, looked, doubtful))
    }

    fn first_plan(
        self,
        mut graph: InferenceModel,
        signature: &Signature,
        shapes: &Shapes,
        files: &ModelFiles,
    ) -> TractResult<Arc<TypedSimplePlan>> {
        let required = signature.inputs.iter().zip(shapes).filter_map(|(spec, shape)| Some((spec, shape.as_deref()?)));
        plan::fix_inputs(&mut graph, required)?;
        let typed = graph.into_typed()?;
        // Whether its nodes take tensors without elements is looked at when a request needs the plan.
        ensure!(!plan::is_somewhere_empty(&typed), "a value has no elements");
        plan::compile(typed, &files.model.name(), self.run_bytes)
    }
}

/// Lets tract infer the outputs whose type or rank the file leaves open, and puts all into the file's order.
fn close_outputs(
    file: &OnnxFile,
    declared: &mut Declared,
    graph: &InferenceModel,
    symbols: &[Option<String>],
) -> Result<(), UnsupportedOperator> {
    if declared.open.is_empty() {
        return Ok(());
    }
    let mut graph = graph.clone();
    // What was inferred before an inconsistency was met still stands in the graph.
    let _ = graph.analyse(true);
    let signature = &mut declared.signature;
    signature.outputs.extend(declared.open.iter().filter_map(|name| plan::inferred_output(&graph, name, symbols)));
    let place = |name: &str| file.graph().output.iter().position(|output| output.name == name);
    signature.outputs.sort_by_key(|spec| place(&spec.name));
    match declared.open.iter().find(|name| signature.output(name).is_none()) {
        Some(name) => Err(report("Output", name, "declares no type or no shape, and tract infers none")),
        None => Ok(()),
    }
}

/// What can be done about nodes that are not verified, where something can.
fn way_out(file: &OnnxFile, graph: &InferenceModel, signature: &Signature) -> String {
    match can_be_typed(graph, signature, &places(file, signature)) {
        Ok(()) => WAY_OUT.to_owned(),
        Err(error) => format!("; nor can it run {}", explain::report(file.graph(), &error)),
    }
}

fn kept_files(files: &ModelFiles) -> ModelFiles {
    match &files.model {
        // A relative path would mean another file after a change of the working folder.
        FileSource::Path(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            ModelFiles { model: FileSource::Path(path) }
        }
        FileSource::Embedded { .. } => files.clone(),
    }
}

/// The places in the signature of the inputs that decide shapes.
fn places(file: &OnnxFile, signature: &Signature) -> Vec<usize> {
    let steering = steering::steering(file.graph());
    let inputs = signature.inputs.iter().enumerate();
    inputs.filter(|(_, spec)| steering.contains(spec.name.as_str())).map(|(index, _)| index).collect()
}

/// Whether tract understands the graph: with some sizes in place of its open dimensions, or with these open.
fn can_be_typed(graph: &InferenceModel, signature: &Signature, steering: &[usize]) -> TractResult<()> {
    let steers: Vec<bool> = (0..signature.inputs.len()).map(|index| steering.contains(&index)).collect();
    let required = || signature.inputs.iter().zip(&steers).filter(|(spec, _)| !spec.optional);
    let batch = required().filter_map(|(spec, _)| spec.shape.first()).find(|dim| dim.fixed().is_none());
    let probe = |(rows, size): (usize, usize), value: i64| {
        let sized = |(axis, dim): (usize, &Dim)| {
            let is_batch = Some(dim) == batch && (axis == 0 || matches!(dim, Dim::Symbol(_)));
            dim.fixed().unwrap_or(if is_batch { rows } else { size })
        };
        let fixed = |spec: &TensorSpec| spec.shape.iter().enumerate().map(sized).collect::<Vec<_>>();
        let mut graph = graph.clone();
        let mut values = Vec::new();
        for (place, (spec, _)) in required().enumerate().filter(|(_, (_, steers))| **steers) {
            values.push((place, plan::filled(spec, &fixed(spec), value)?));
        }
        plan::fix_values(&mut graph, values)?;
        let open: Vec<_> = required().filter(|(_, steers)| !**steers).map(|(spec, _)| (spec, fixed(spec))).collect();
        plan::fix_inputs(&mut graph, open.iter().map(|(spec, shape)| (*spec, shape.as_slice())))?;
        typed(graph)
    };
    if steering.is_empty() {
        // Open dimensions last: they make tract panic on recurrent networks, which is caught but not silent.
        return if PROBES.into_iter().any(|sizes| probe(sizes, 0).is_ok()) { Ok(()) } else { typed(graph.clone()) };
    }
    let mut tried = PROBES.into_iter().flat_map(|sizes| PROBE_VALUES.map(|value| (sizes, value)));
    match tried.find_map(|(sizes, value)| probe(sizes, value).err().filter(explain::is_beyond_tract)) {
        Some(error) => Err(error),
        // Which values make sense only the caller knows: with others the graph need not be possible.
        None => Ok(()),
    }
}

fn typed(graph: InferenceModel) -> TractResult<()> {
    // A graph that makes tract panic with some sizes may be fine with others.
    catch_unwind(AssertUnwindSafe(|| graph.into_typed().map(drop)))
        .unwrap_or_else(|_| Err(TractError::msg("tract panicked")))
}
