//! What ONNX Runtime cannot run, told without loading the weights where that is possible.

use std::path::PathBuf;

use corymb_core::{Signature, TensorSpec, UnsupportedOperator};
use corymb_onnx::proto::{GraphProto, ModelProto, NodeProto};
use corymb_onnx::{OnnxFile, is_standard, report, subgraphs};
use ort::session::Session;

use crate::fault;
use crate::library::Library;
use crate::operators::{ML, STANDARD};
use crate::session::look;
use crate::weights::Weights;

/// Up to these versions every library that is accepted knows the operators and the format.
const SURE_OPSET: i64 = 23;
const SURE_ML_OPSET: i64 = 3;
const SURE_IR: i64 = 11;
/// Domains of ONNX Runtime's own operators.
const OWN: [&str; 4] = ["com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"];

/// Lists what the library refuses of a file; empty when nothing is known against it. A file that holds nothing unusual
/// is not even shown to the library, with the libraries of custom operators that the model asks for.
pub(crate) fn unsupported(
    library: &Library,
    file: &OnnxFile,
    weights: &Weights,
    operators: &[PathBuf],
) -> Vec<UnsupportedOperator> {
    if let Some(shadowed) = shadowed(&file.model) {
        return vec![shadowed];
    }
    if let Some(trained) = file.model.graph.as_ref().and_then(trained_node) {
        return vec![trained];
    }
    let Some(suspect) = suspect(&file.model) else { return Vec::new() };
    match look(library, &file.bytes, weights, operators) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let reason = fault::reason(error.message());
            let reason = format!("onnxruntime {} says: {reason}{}", library.version, advice(&suspect, operators));
            vec![UnsupportedOperator { reason, ..suspect }]
        }
    }
}

/// Operators of foreign domains come from libraries.
fn advice(suspect: &UnsupportedOperator, operators: &[PathBuf]) -> &'static str {
    let domain = suspect.domain.as_str();
    let foreign = !is_standard(domain) && domain != "ai.onnx.ml" && !OWN.contains(&domain);
    if !foreign || !operators.is_empty() {
        return "";
    }
    "; where a library has it, name that by `custom_operators` under [onnxruntime] in model.toml, and allow it by \
     --custom-operators"
}

/// A function of the file with a standard operator's name: the library runs the standard operator and says nothing.
fn shadowed(model: &ModelProto) -> Option<UnsupportedOperator> {
    let known = |name: &str| STANDARD.contains(&name);
    let function = model.functions.iter().find(|function| is_standard(&function.domain) && known(&function.name))?;
    let reason = "the file defines a function of this name, and onnxruntime would run the standard operator; \
                  rename the function";
    Some(report(&function.name, "", reason))
}

/// What changes the model as it runs: each answer would depend on the requests before.
fn trained_node(graph: &GraphProto) -> Option<UnsupportedOperator> {
    let trains = |node: &&NodeProto| {
        let attributes = &mut node.attribute.iter();
        is_standard(&node.domain)
            && node.op_type == "BatchNormalization"
            && attributes.any(|attribute| attribute.name == "training_mode" && attribute.i.unwrap_or_default() != 0)
    };
    let found = graph.node.iter().find(trains).map(|node| {
        report(
            "BatchNormalization",
            &node.name,
            "in training mode it changes the model with each request; export it for inference",
        )
    });
    found.or_else(|| graph.node.iter().flat_map(subgraphs).find_map(trained_node))
}

/// The first thing in a model that this library may not know.
fn suspect(model: &ModelProto) -> Option<UnsupportedOperator> {
    let unknown = model.graph.as_ref().and_then(|graph| unknown_operator(graph, model));
    let newer = model.opset_import.iter().find(|set| {
        let sure = if set.domain == "ai.onnx.ml" { SURE_ML_OPSET } else { SURE_OPSET };
        (is_standard(&set.domain) || set.domain == "ai.onnx.ml") && set.version > sure
    });
    let newer = newer.map(|set| UnsupportedOperator { domain: set.domain.clone(), ..report("Operator set", "", "") });
    let format = (model.ir_version > SURE_IR).then(|| report("File format", "", ""));
    unknown.or(newer).or(format)
}

/// A recurrent layer whose rows come before its steps, which no library up to 1.32 runs.
fn is_batch_first(node: &NodeProto) -> bool {
    node.attribute.iter().any(|attribute| attribute.name == "layout" && attribute.i.is_some_and(|layout| layout != 0))
}

fn unknown_operator(graph: &GraphProto, model: &ModelProto) -> Option<UnsupportedOperator> {
    let is_function = |node: &NodeProto| {
        model.functions.iter().any(|function| function.domain == node.domain && function.name == node.op_type)
    };
    let is_known = |node: &NodeProto| match node.domain.as_str() {
        "ai.onnx.ml" => ML.contains(&node.op_type.as_str()),
        domain if is_standard(domain) => STANDARD.contains(&node.op_type.as_str()) && !is_batch_first(node),
        _ => false,
    };
    let all = graph.node.iter().filter(|node| !is_known(node) && !is_function(node));
    // A foreign operator is the likelier reason than one of the library's own.
    let worst = all.min_by_key(|node| OWN.contains(&node.domain.as_str()));
    let found = worst.map(|node| UnsupportedOperator {
        operator: node.op_type.clone(),
        domain: node.domain.clone(),
        node: node.name.clone(),
        reason: String::new(),
    });
    found.or_else(|| graph.node.iter().flat_map(subgraphs).find_map(|inner| unknown_operator(inner, model)))
}

/// Completes a signature by the outputs whose type or shape the file leaves open, as the library infers them, in the
/// file's order.
pub(crate) fn close_outputs(
    mut signature: Signature,
    open: &[String],
    session: &Session,
    graph: &GraphProto,
) -> Result<Signature, UnsupportedOperator> {
    for name in open {
        let outlet = session.outputs().iter().find(|outlet| outlet.name() == name);
        let spec = outlet.and_then(|outlet| inferred(name, outlet.dtype()));
        signature.outputs.push(spec.ok_or_else(|| {
            report("Output", name, "declares no type or no shape, and onnxruntime infers none that is served")
        })?);
    }
    let place = |name: &str| graph.output.iter().position(|output| output.name == name);
    signature.outputs.sort_by_key(|spec| place(&spec.name));
    Ok(signature)
}

fn inferred(name: &str, dtype: &ort::value::ValueType) -> Option<TensorSpec> {
    use corymb_core::{DType, Dim};
    use ort::value::{TensorElementType as Element, ValueType};
    let ValueType::Tensor { ty, shape, dimension_symbols } = dtype else { return None };
    let dtype = match ty {
        Element::Bool => DType::Bool,
        Element::Uint8 => DType::Uint8,
        Element::Uint16 => DType::Uint16,
        Element::Uint32 => DType::Uint32,
        Element::Uint64 => DType::Uint64,
        Element::Int8 => DType::Int8,
        Element::Int16 => DType::Int16,
        Element::Int32 => DType::Int32,
        Element::Int64 => DType::Int64,
        Element::Float16 => DType::Fp16,
        Element::Bfloat16 => DType::Bf16,
        Element::Float32 => DType::Fp32,
        Element::Float64 => DType::Fp64,
        Element::String => DType::Bytes,
        _ => return None,
    };
    let dims = shape.iter().enumerate().map(|(axis, &size)| match usize::try_from(size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) => match dimension_symbols.get(axis) {
            // Names that the library made up say nothing.
            Some(symbol) if !symbol.is_empty() && !symbol.starts_with("unk__") => Dim::Symbol(symbol.as_str().into()),
            _ => Dim::Unknown,
        },
    });
    Some(TensorSpec::new(name, dtype, dims.collect()))
}
