//! The tract backend: ONNX models in pure Rust, on the processor, one thread per run.
//!
//! tract is compiled into the binary, starts in tens of milliseconds and needs a few tens of megabytes. It knows fewer
//! operators than ONNX Runtime, runs some of them wrongly (`support.rs`), and wants its shapes fixed (`plans.rs`).

mod convert;
mod model;
mod plan;
mod plans;
mod proto;
mod signature;
mod simplify;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use corymb_core::{
    Availability, Backend, BackendError, Device, FileSource, LoadOptions, Model, ModelFiles, ModelInfo, Signature,
    UnsupportedOperator,
};
use tract_onnx::tract_core::internal::{TractError, TractResult, TypedSimplePlan};
use tract_onnx::tract_hir::infer::{InferenceModel, InferenceModelExt as _};

use crate::model::TractModel;
use crate::plans::{Plans, Shapes, Source};
use crate::proto::OnnxFile;
use crate::signature::{Declared, declared, shapes_of_one_row, unsupported};
use crate::simplify::{Simplified, simplify};

/// The version of tract that is compiled in; a test compares it with the lock file.
const TRACT_VERSION: &str = "0.23.9";
const NAME: &str = "tract";
/// Sizes tried for open dimensions, to see whether tract takes the graph at all.
const PROBES: [usize; 3] = [1, 16, 64];

/// The inference engine tract.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tract;

impl Backend for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self) -> Result<Availability, BackendError> {
        Ok(Availability { version: TRACT_VERSION.to_owned(), devices: vec![Device::Cpu] })
    }

    fn inspect(&self, files: &ModelFiles) -> Result<ModelInfo, BackendError> {
        guarded(files, || {
            let mut file = OnnxFile::read(files)?;
            let (declared, unsupported) = describe(&file);
            let signature = if declared.open.is_empty() {
                declared.signature
            } else if unsupported.is_empty() {
                let Simplified { symbols, constants } = simplify(&mut file.proto, &[]);
                match plan::parse(&file.proto, constants, files.model.folder()) {
                    Ok(graph) => close_outputs(&file, declared, graph, &symbols),
                    Err(_) => declared.signature,
                }
            } else {
                declared.signature
            };
            Ok(ModelInfo { platform: "onnx_onnxv1", opset: file.opset(), size: file.size, signature, unsupported })
        })
    }

    /// The cache folder of `options` stays unused: reading a decluttered graph back takes longer than making it from
    /// the ONNX file, and it runs slower.
    fn load(&self, files: &ModelFiles, options: &LoadOptions) -> Result<Box<dyn Model>, BackendError> {
        if options.device != Device::Cpu {
            let reason = format!("it runs on the processor only, and {} was asked for", options.device);
            return Err(BackendError::Unavailable { backend: NAME, reason });
        }
        guarded(files, || load(files).map(|model| Box::new(model) as Box<dyn Model>))
    }
}

/// tract panics on some hostile or merely unusual graphs. At load that is an answer: no, with a reason.
fn guarded<T>(files: &ModelFiles, work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(refused(files, &format!("it panicked: {reason}")))
    })
}

fn refused(files: &ModelFiles, reason: &str) -> BackendError {
    let name = files.model.name();
    BackendError::Unsupported(format!("tract cannot run '{name}': {reason}; the backend onnxruntime may"))
}

/// What the file declares, and all that is known against it.
fn describe(file: &OnnxFile) -> (Declared, Vec<UnsupportedOperator>) {
    let mut declared = declared(&file.proto);
    let mut reports = std::mem::take(&mut declared.unsupported);
    reports.extend(support::unsupported_parts(&file.proto, &tract_onnx::onnx().op_register));
    (declared, reports)
}

/// Lets tract infer the outputs whose type or rank the file leaves open, and puts all into the file's order.
fn close_outputs(
    file: &OnnxFile,
    declared: Declared,
    mut graph: InferenceModel,
    symbols: &[Option<String>],
) -> Signature {
    let mut signature = declared.signature;
    // What was inferred before an inconsistency was met still stands in the graph.
    let _ = graph.analyse(true);
    let specs = declared.open.iter().filter_map(|name| plan::inferred_output(&graph, name, symbols));
    signature.outputs.extend(specs);
    let place = |name: &str| file.graph().output.iter().position(|output| output.name == name);
    signature.outputs.sort_by_key(|spec| place(&spec.name));
    signature
}

fn load(files: &ModelFiles) -> Result<TractModel, BackendError> {
    let mut file = OnnxFile::read(files)?;
    let (declared, reports) = describe(&file);
    if !reports.is_empty() {
        let reasons: Vec<String> = reports.iter().map(UnsupportedOperator::to_string).collect();
        return Err(refused(files, &reasons.join("; ")));
    }
    let Simplified { symbols, constants } = simplify(&mut file.proto, &[]);
    let stored = file.graph().initializer.iter().map(|tensor| tensor.raw_data.len());
    let widened = constants.iter().map(|(_, tensor)| tensor.as_bytes().len());
    let weights = stored.chain(widened).sum::<usize>() as u64;
    let refused_by = |error: TractError| refused(files, &format!("{error:#}"));
    let graph = plan::parse(&file.proto, constants, files.model.folder()).map_err(refused_by)?;
    // Everything is in the graph now: give back the file's content before more memory is taken.
    file.proto.graph.iter_mut().for_each(|graph| graph.initializer = Vec::new());
    let signature = if declared.open.is_empty() {
        declared.signature
    } else {
        close_outputs(&file, declared, graph.clone(), &symbols)
    };
    if let Some(output) = file.graph().output.iter().find(|output| signature.output(&output.name).is_none()) {
        let report = unsupported("Output", &output.name, "declares no type or no shape, and tract infers none");
        return Err(refused(files, &report.to_string()));
    }
    let stamp = file.stamp.clone();
    drop(file);

    let first = match shapes_of_one_row(&signature) {
        Some(shapes) => {
            let plan = first_plan(graph.clone(), &signature, &shapes, files);
            plan.inspect_err(|error| tracing::info!(%error, "no plan for one row")).ok().map(|plan| (shapes, plan))
        }
        None => None,
    };
    let kept = if first.is_some() {
        None
    } else {
        can_be_typed(&graph, &signature).map_err(refused_by)?;
        Some(graph)
    };
    let source = Source { files: kept_files(files), stamp, graph: kept };
    Ok(TractModel::new(Plans::new(signature, source, weights, first)))
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

fn first_plan(
    mut graph: InferenceModel,
    signature: &Signature,
    shapes: &Shapes,
    files: &ModelFiles,
) -> TractResult<Arc<TypedSimplePlan>> {
    let required = signature.inputs.iter().zip(shapes).filter_map(|(spec, shape)| Some((spec, shape.as_deref()?)));
    plan::fix_inputs(&mut graph, required)?;
    plan::compile(graph, &files.model.name())
}

/// Whether tract understands the graph: with some sizes in place of its open dimensions, or with these open.
fn can_be_typed(graph: &InferenceModel, signature: &Signature) -> TractResult<()> {
    let probe = |size: usize| {
        let shapes: Vec<Vec<usize>> = signature
            .required_inputs()
            .map(|spec| spec.shape.iter().map(|dim| dim.fixed().unwrap_or(size)).collect())
            .collect();
        let mut graph = graph.clone();
        plan::fix_inputs(&mut graph, signature.required_inputs().zip(shapes.iter().map(Vec::as_slice)))?;
        typed(graph)
    };
    // Open dimensions last: they make tract panic on recurrent networks, which is caught but not silent.
    if PROBES.into_iter().any(|size| probe(size).is_ok()) { Ok(()) } else { typed(graph.clone()) }
}

fn typed(graph: InferenceModel) -> TractResult<()> {
    // A graph that makes tract panic with some sizes may be fine with others.
    catch_unwind(AssertUnwindSafe(|| graph.into_typed().map(drop)))
        .unwrap_or_else(|_| Err(TractError::msg("tract panicked")))
}
