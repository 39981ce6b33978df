//! The signature that a graph declares, and the rule by which its axis 0 counts as a batch.

use std::collections::HashSet;

use corymb_core::{DType, Dim, MAX_RANK, Signature, TensorSpec, UnsupportedOperator};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{ModelProto, ValueInfoProto};

/// Since this version of the format an initializer that is also an input is a default, which a caller may replace.
/// Before it, every initializer had to be listed among the inputs, and all are constants.
const DEFAULTS_SINCE_IR: i64 = 4;

/// A declared signature and what of it tract cannot take.
pub(crate) struct Declared {
    pub(crate) signature: Signature,
    pub(crate) unsupported: Vec<UnsupportedOperator>,
    /// Outputs, by name, whose type or rank the file leaves open: inference has to tell.
    pub(crate) open: Vec<String>,
}

/// Reads the declared inputs and outputs. Inputs or outputs that no tensor can stand for are left out and reported.
pub(crate) fn declared(proto: &ModelProto) -> Declared {
    let mut declared = Declared { signature: Signature::default(), unsupported: Vec::new(), open: Vec::new() };
    let Some(graph) = &proto.graph else { return declared };
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    for input in &graph.input {
        let optional = constants.contains(input.name.as_str());
        if optional && proto.ir_version < DEFAULTS_SINCE_IR {
            continue;
        }
        match spec(input) {
            Ok(Some(spec)) => {
                report_dtype(&spec, "Input", &mut declared.unsupported);
                declared.signature.inputs.push(TensorSpec { optional, ..spec });
            }
            Ok(None) => declared.unsupported.push(unsupported("Input", &input.name, "declares no type or no shape")),
            Err(reason) => declared.unsupported.push(unsupported("Input", &input.name, &reason)),
        }
    }
    for output in &graph.output {
        match spec(output) {
            Ok(Some(spec)) => {
                report_dtype(&spec, "Output", &mut declared.unsupported);
                declared.signature.outputs.push(spec);
            }
            Ok(None) => declared.open.push(output.name.clone()),
            Err(reason) => declared.unsupported.push(unsupported("Output", &output.name, &reason)),
        }
    }
    declared
}

/// A report on something that is not a node.
pub(crate) fn unsupported(operator: &str, node: &str, reason: &str) -> UnsupportedOperator {
    UnsupportedOperator {
        operator: operator.to_owned(),
        domain: String::new(),
        node: node.to_owned(),
        reason: reason.to_owned(),
    }
}

fn report_dtype(spec: &TensorSpec, role: &str, reports: &mut Vec<UnsupportedOperator>) {
    let reason = match spec.dtype {
        DType::Bytes => "holds text, and tract has no operators on text",
        DType::Bf16 => "is bfloat16, which tract does not read",
        _ => return,
    };
    reports.push(unsupported(role, &spec.name, reason));
}

/// None when type or rank are left open; an error when no tensor of ours can stand for it.
fn spec(value: &ValueInfoProto) -> Result<Option<TensorSpec>, String> {
    let Some(r#type) = &value.r#type else { return Ok(None) };
    // tract's protobuf types know tensors only: a sequence, a map or an optional decodes as no value at all.
    let Some(TypeValue::TensorType(tensor)) = &r#type.value else {
        return Err("is a sequence, a map or an optional value; only tensors are served".to_owned());
    };
    if tensor.elem_type == 0 {
        return Ok(None);
    }
    let dtype = dtype(tensor.elem_type)?;
    let Some(shape) = &tensor.shape else { return Ok(None) };
    if shape.dim.len() > MAX_RANK {
        return Err(format!("has {} dimensions; at most {MAX_RANK} are served", shape.dim.len()));
    }
    let dims = shape.dim.iter().map(|dim| match &dim.value {
        Some(DimValue::DimValue(size)) => usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed),
        Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => Dim::Symbol(name.as_str().into()),
        _ => Dim::Unknown,
    });
    Ok(Some(TensorSpec::new(value.name.clone(), dtype, dims.collect())))
}

fn dtype(onnx: i32) -> Result<DType, String> {
    let known = DataType::try_from(onnx).map_err(|_| format!("has the unknown element type {onnx}"))?;
    Ok(match known {
        DataType::Bool => DType::Bool,
        DataType::Uint8 => DType::Uint8,
        DataType::Uint16 => DType::Uint16,
        DataType::Uint32 => DType::Uint32,
        DataType::Uint64 => DType::Uint64,
        DataType::Int8 => DType::Int8,
        DataType::Int16 => DType::Int16,
        DataType::Int32 => DType::Int32,
        DataType::Int64 => DType::Int64,
        DataType::Float16 => DType::Fp16,
        DataType::Bfloat16 => DType::Bf16,
        DataType::Float => DType::Fp32,
        DataType::Double => DType::Fp64,
        DataType::String => DType::Bytes,
        other => return Err(format!("has the element type {}, which is not served", other.as_str_name())),
    })
}

/// Whether axis 0 of every input and output is one and the same dimension: named alike, or not named. Necessary for
/// rows to be independent, not sufficient: the graph may still mix them.
pub(crate) fn batch_axis(signature: &Signature) -> bool {
    let mut name = None;
    let mut all = signature.required_inputs().chain(&signature.outputs).peekable();
    all.peek().is_some()
        && signature.required_inputs().next().is_some()
        && all.all(|spec| match spec.shape.first() {
            Some(Dim::Symbol(symbol)) => *name.get_or_insert(symbol) == symbol,
            Some(Dim::Unknown) => true,
            Some(Dim::Fixed(_)) | None => false,
        })
}

/// The shapes of one row, where nothing but the batch is open: what a plan can be made for before any request.
pub(crate) fn shapes_of_one_row(signature: &Signature) -> Option<Vec<Option<Vec<usize>>>> {
    let batch = batch_axis(signature);
    let shapes = signature.inputs.iter().map(|spec| {
        if spec.optional {
            return Some(None);
        }
        let dims = spec.shape.iter().enumerate().map(|(axis, dim)| match dim.fixed() {
            None if axis == 0 && batch => Some(1),
            size => size,
        });
        Some(Some(dims.collect::<Option<Vec<_>>>()?))
    });
    shapes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp32(name: &str, shape: &[Dim]) -> TensorSpec {
        TensorSpec::new(name, DType::Fp32, shape.to_vec())
    }

    #[test]
    fn a_batch_axis_is_one_symbol_everywhere() {
        let (n, m) = (Dim::Symbol("N".into()), Dim::Symbol("M".into()));
        let batch = |inputs: &[&[Dim]], outputs: &[&[Dim]]| {
            batch_axis(&Signature {
                inputs: inputs.iter().map(|shape| fp32("x", shape)).collect(),
                outputs: outputs.iter().map(|shape| fp32("y", shape)).collect(),
            })
        };
        assert!(batch(&[&[n.clone(), Dim::Fixed(3)]], &[std::slice::from_ref(&n)]));
        assert!(batch(&[&[Dim::Unknown, Dim::Fixed(3)]], &[&[Dim::Unknown]]));
        assert!(!batch(&[std::slice::from_ref(&n), std::slice::from_ref(&m)], &[std::slice::from_ref(&n)]));
        assert!(!batch(&[std::slice::from_ref(&n)], &[&[]]));
        assert!(!batch(&[std::slice::from_ref(&n)], &[&[Dim::Fixed(1)]]));
        assert!(!batch(&[], &[&[n]]));
        assert!(!batch(&[&[m]], &[&[Dim::Symbol("2*M".into())]]));
    }

    #[test]
    fn one_row_needs_everything_else_fixed() {
        let (n, l) = (Dim::Symbol("N".into()), Dim::Symbol("L".into()));
        let output = vec![fp32("y", std::slice::from_ref(&n))];
        let row =
            |dims: &[Dim]| shapes_of_one_row(&Signature { inputs: vec![fp32("x", dims)], outputs: output.clone() });
        assert_eq!(row(&[n.clone(), Dim::Fixed(3)]), Some(vec![Some(vec![1, 3])]));
        assert_eq!(row(&[n, l]), None);
    }
}
