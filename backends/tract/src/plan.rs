//! From a graph to something that runs: parse, fix the input shapes, declutter, optimise.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use corymb_core::{DType, Dim, TensorSpec};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::tract_core::internal::{
    DatumType, IntoArcTensor as _, IntoTValue as _, OutletId, SymbolValues, TDim, TValue, TVec, Tensor, TractError,
    TractResult, TypedFact, TypedModel, TypedSimplePlan, bail, format_err,
};
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::optim::Optimizer;
use tract_onnx::tract_hir::infer::{Factoid as _, InferenceFact, InferenceModel};

use crate::explain::refuse;
use crate::memory::{self, Need};
use crate::ops;
use crate::simplify::SYMBOL_PREFIX;
use crate::window::Window;
use crate::{stay, sums};

/// A graph as tract reads it.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) model: InferenceModel,
    /// The values that the file names. Equal constants are one value with several names.
    pub(crate) values: HashMap<String, OutletId>,
}

impl Parsed {
    /// The constant of that name.
    pub(crate) fn constant(&self, name: &str) -> Option<Arc<Tensor>> {
        let outlet = self.values.get(name)?;
        self.model.node(outlet.node).op_as::<Const>().map(|constant| Arc::clone(constant.val()))
    }
}

/// Parses a simplified graph, with the constants that were taken out of it; external data lies in `folder`.
pub(crate) fn parse(
    proto: &ModelProto,
    constants: Vec<(String, Tensor)>,
    folder: Option<&Path>,
    run_bytes: u64,
) -> TractResult<Parsed> {
    // An embedded model has no folder and no external data; tract says so where some is named.
    let folder = folder.map(|folder| folder.to_str().ok_or_else(|| format_err!("the folder's name is not UTF-8")));
    let mut parsed = ops::reader().with_ignore_value_info(true).parse(proto, folder.transpose()?)?;
    // A name that nothing makes has become an input.
    for (name, tensor) in constants {
        let Some(&outlet) = parsed.outlets_by_name.get(&name) else { continue };
        set_constant(&mut parsed.model, outlet, tensor)?;
        parsed.unresolved_inputs.retain(|unresolved| *unresolved != name);
    }
    // Of an input that is an output, too, tract forgets what is declared.
    let graph = proto.graph.as_ref();
    let outputs: Vec<&str> = graph.iter().flat_map(|graph| &graph.output).map(|output| output.name.as_str()).collect();
    let inputs = graph.iter().flat_map(|graph| &graph.input);
    for input in inputs.filter(|input| outputs.contains(&input.name.as_str())) {
        if let (Some(&outlet), Some(dtype)) = (parsed.outlets_by_name.get(&input.name), declared_type(input)) {
            let fact = parsed.model.outlet_fact(outlet)?.clone().with_datum_type(dtype);
            parsed.model.set_outlet_fact(outlet, fact)?;
        }
    }
    let windows = graph.map(Window::all).unwrap_or_default();
    match parsed.unresolved_inputs.first() {
        Some(name) => refuse(format!("uses '{name}', which nothing makes")),
        None => {
            memory::bound(&mut parsed.model, run_bytes, &windows);
            Ok(Parsed { model: parsed.model, values: parsed.outlets_by_name })
        }
    }
}

/// The element type that is declared of a value; none where there is none, or none of tract's.
pub(crate) fn declared_type(value: &ValueInfoProto) -> Option<DatumType> {
    let TypeValue::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    DataType::try_from(tensor.elem_type).ok()?.try_into().ok()
}

/// Makes constants of inputs, each by its place among them.
pub(crate) fn fix_values(model: &mut InferenceModel, values: Vec<(usize, Tensor)>) -> TractResult<()> {
    let inputs = model.input_outlets()?.to_vec();
    for (index, tensor) in values {
        let Some(&outlet) = inputs.get(index) else { bail!("the graph has no input {index}") };
        set_constant(model, outlet, tensor)?;
    }
    Ok(())
}

/// A tensor of `spec`'s type in which every element is `value`.
pub(crate) fn filled(spec: &TensorSpec, shape: &[usize], value: i64) -> TractResult<Tensor> {
    let dtype = datum_type(spec.dtype).ok_or_else(|| format_err!("{} is not a type of tract's", spec.dtype))?;
    let count = shape.iter().product();
    Ok(Tensor::from_shape(shape, &vec![value; count])?.cast_to_dt(dtype)?.into_owned())
}

fn set_constant(model: &mut InferenceModel, outlet: OutletId, tensor: Tensor) -> TractResult<()> {
    let tensor = tensor.into_arc_tensor();
    let fact = TypedFact::try_from(Arc::clone(&tensor))?;
    let node = model.node_mut(outlet.node);
    node.op = Const::new(tensor)?.into();
    node.outputs[0].fact = fact.into();
    model.inputs.retain(|input| *input != outlet);
    Ok(())
}

/// Gives the inputs of `model`, in their order, these types and shapes.
pub(crate) fn fix_inputs<'a>(
    model: &mut InferenceModel,
    inputs: impl IntoIterator<Item = (&'a TensorSpec, &'a [usize])>,
) -> TractResult<()> {
    for (index, (spec, shape)) in inputs.into_iter().enumerate() {
        let dtype = datum_type(spec.dtype).ok_or_else(|| format_err!("{} is not a type of tract's", spec.dtype))?;
        model.set_input_fact(index, InferenceFact::dt_shape(dtype, shape))?;
    }
    Ok(())
}

/// Whether a value that is given or computed of such has no elements. tract takes it for a constant, whatever it follows from.
pub(crate) fn is_somewhere_empty(model: &TypedModel) -> bool {
    let is_open = |outlet: &OutletId| model.outlet_fact(*outlet).is_ok_and(|fact| fact.konst.is_none());
    let mut given = model.nodes().iter().filter(|node| node.op_is::<TypedSource>() || node.inputs.iter().any(is_open));
    given.any(|node| node.outputs.iter().any(|output| output.fact.shape.iter().any(|dim| *dim == TDim::Val(0))))
}

/// A plan for the shapes that the inputs of `model` have. Optimised where tract can; as it stands where its optimiser
/// fails, which it does on some quantised graphs that run well without it.
pub(crate) fn compile(typed: TypedModel, name: &str, run_bytes: u64) -> TractResult<Arc<TypedSimplePlan>> {
    // With open dimensions this says only what is fixed already; each request is looked at then.
    Need::of(&typed, &SymbolValues::default())?.check(run_bytes)?;
    // Weights are shared between the two: the copy is of the nodes.
    let optimised = optimise(typed.clone()).and_then(TypedSimplePlan::new);
    match optimised.and_then(|plan| if has_scan(&typed) { tried(plan) } else { Ok(plan) }) {
        Ok(plan) => Ok(plan),
        Err(error) => {
            tracing::debug!(model = name, error = %error.root_cause(), "tract runs the model unoptimised");
            TypedSimplePlan::new(typed)
        }
    }
}

fn has_scan(model: &TypedModel) -> bool {
    model.nodes().iter().any(|node| node.op_is::<Scan>())
}

/// The plan, if it can run at all: of some recurrent layers tract's optimiser makes one that fails on every input.
/// Zeros tell, where all dimensions are fixed.
fn tried(plan: Arc<TypedSimplePlan>) -> TractResult<Arc<TypedSimplePlan>> {
    let model = plan.model();
    let zeros = |outlet: &OutletId| {
        let fact = model.outlet_fact(*outlet).ok()?;
        Some(Tensor::zero_dt(fact.datum_type, fact.shape.as_concrete()?).ok()?.into_tvalue())
    };
    if let Some(inputs) = model.input_outlets()?.iter().map(zeros).collect::<Option<TVec<TValue>>>() {
        catch_unwind(AssertUnwindSafe(|| plan.run(inputs)))
            .unwrap_or_else(|_| Err(TractError::msg("tract panicked")))?;
    }
    Ok(plan)
}

fn optimise(mut model: TypedModel) -> TractResult<TypedModel> {
    stay::hold(&mut model)?;
    sums::widen(&mut model)?;
    let mut declutter = Optimizer::declutter();
    // Half of decluttering time goes into moving axes, which pays only where a transposition could vanish.
    let moves_axes = |op: &AxisOp| matches!(op, AxisOp::Move(..) | AxisOp::Reshape(..));
    if !model.nodes().iter().any(|node| node.op_as::<AxisOp>().is_some_and(moves_axes)) {
        declutter.passes.retain(|pass| format!("{pass:?}") != "ChangeAxes");
    }
    declutter.optimize(&mut model)?;
    model.optimize()?;
    Ok(model)
}

/// What tract infers of the output `name`: its dtype and dimensions. `symbols` are the declared names by number.
pub(crate) fn inferred_output(model: &InferenceModel, name: &str, symbols: &[Option<String>]) -> Option<TensorSpec> {
    let outlets = model.output_outlets().ok()?;
    let outlet = outlets.iter().find(|outlet| model.outlet_label(**outlet) == Some(name))?;
    let fact = model.outlet_fact(*outlet).ok()?;
    let dtype = dtype(fact.datum_type.concretize()?)?;
    let shape = fact.shape.concretize()?;
    let dims = shape.iter().map(|dim| match dim.to_i64().ok().and_then(|size| usize::try_from(size).ok()) {
        Some(size) => Dim::Fixed(size),
        None => {
            let text = dim.to_string();
            let index = text.strip_prefix(SYMBOL_PREFIX).and_then(|index| index.parse::<usize>().ok());
            match index.and_then(|index| symbols.get(index)?.as_deref()) {
                Some(symbol) => Dim::Symbol(symbol.into()),
                None => Dim::Unknown,
            }
        }
    });
    Some(TensorSpec::new(name, dtype, dims.collect()))
}

/// tract's name for a dtype; none for those that its ONNX reader does not know.
pub(crate) fn datum_type(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::Bool => DatumType::Bool,
        DType::Uint8 => DatumType::U8,
        DType::Uint16 => DatumType::U16,
        DType::Uint32 => DatumType::U32,
        DType::Uint64 => DatumType::U64,
        DType::Int8 => DatumType::I8,
        DType::Int16 => DatumType::I16,
        DType::Int32 => DatumType::I32,
        DType::Int64 => DatumType::I64,
        DType::Fp16 => DatumType::F16,
        DType::Fp32 => DatumType::F32,
        DType::Fp64 => DatumType::F64,
        DType::Bf16 | DType::Bytes => return None,
    })
}

fn dtype(datum_type: DatumType) -> Option<DType> {
    if datum_type == DatumType::TDim {
        return Some(DType::Int64);
    }
    DType::ALL.into_iter().find(|dtype| self::datum_type(*dtype) == Some(datum_type))
}

#[cfg(test)]
mod tests {
    use corymb_core::{FileSource, ModelFiles};
    use tract_onnx::prelude::Framework as _;
    use tract_onnx::tract_core::internal::tvec;

    use tract_onnx::tract_hir::infer::InferenceModelExt as _;

    use super::*;
    use crate::file::OnnxFile;
    use crate::signature::declared;
    use crate::simplify::simplify;

    /// The network as served and as tract reads it by itself give the same scores, bit for bit.
    #[test]
    fn simplifying_changes_no_bit() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/image.onnx");
        let files = ModelFiles { model: FileSource::Path(path.clone()) };
        let mut file = OnnxFile::read(&files).expect("a model");
        let signature = declared(&file.proto).signature;
        let nodes = file.graph().node.len();
        let constants = simplify(&mut file.proto, &[]).constants;
        assert_eq!((constants.len(), file.graph().node.len()), (1, nodes - 1), "the Cast is folded");
        let simplified = parse(&file.proto, constants, None, corymb_core::RUN_BYTES).expect("parsed").model;
        let plain = tract_onnx::onnx().model_for_path(path).expect("parsed");

        let shape = [2, 3, 16, 16];
        let elements: Vec<f32> = (0..shape.iter().product()).map(|index: usize| (index as f32 * 0.21).cos()).collect();
        let pixels = Tensor::from_shape(&shape, &elements).expect("a tensor").into_tvalue();
        let scores = [simplified, plain].map(|mut graph| {
            fix_inputs(&mut graph, [(&signature.inputs[0], &shape[..])]).expect("fixed");
            let plan =
                compile(graph.into_typed().expect("typed"), "image.onnx", corymb_core::RUN_BYTES).expect("a plan");
            plan.run(tvec![pixels.clone()]).expect("a run").remove(0)
        });
        assert_eq!(scores[0].shape(), [2, 6]);
        assert_eq!(scores[0].as_bytes(), scores[1].as_bytes());
    }
}
