//! The signature that a graph declares, and the rule by which its axis 0 counts as a batch.

use std::collections::HashSet;

use corymb_core::{DType, Dim, MAX_RANK, Signature, TensorSpec, UnsupportedOperator};

use crate::proto::{DimValue, ModelProto, TypeValue, ValueInfoProto, elem};

/// Since this version of the format an initializer that is also an input is a default, which a caller may replace.
/// Before it, every initializer had to be listed among the inputs, and all are constants.
const DEFAULTS_SINCE_IR: i64 = 4;

/// A declared signature, and what of it no tensor can stand for.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// In the file's order.
    pub signature: Signature,
    /// Inputs and outputs that are left out of it, with reasons.
    pub unsupported: Vec<UnsupportedOperator>,
    /// Outputs, by name, whose type or rank the file leaves open: inference has to tell.
    pub open: Vec<String>,
}

/// Reads the declared inputs and outputs.
#[must_use]
pub fn declared(model: &ModelProto) -> Declared {
    let mut declared = Declared::default();
    let Some(graph) = &model.graph else { return declared };
    let mut constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    constants.extend(graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())));
    for input in &graph.input {
        let optional = constants.contains(input.name.as_str());
        if optional && model.ir_version < DEFAULTS_SINCE_IR {
            continue;
        }
        match spec(input) {
            Ok(Some(spec)) => declared.signature.inputs.push(TensorSpec { optional, ..spec }),
            Ok(None) => declared.unsupported.push(report("Input", &input.name, "declares no type or no shape")),
            Err(reason) => declared.unsupported.push(report("Input", &input.name, &reason)),
        }
    }
    for output in &graph.output {
        match spec(output) {
            Ok(Some(spec)) => declared.signature.outputs.push(spec),
            Ok(None) => declared.open.push(output.name.clone()),
            Err(mut reason) => {
                let maker = graph.node.iter().find(|node| node.output.contains(&output.name));
                if maker.is_some_and(|node| node.op_type == "ZipMap") {
                    reason.push_str("; convert the model again with the option zipmap=False");
                }
                declared.unsupported.push(report("Output", &output.name, &reason));
            }
        }
    }
    declared
}

/// A report on something that is not a node.
#[must_use]
pub fn report(operator: &str, node: &str, reason: &str) -> UnsupportedOperator {
    let (operator, node, reason) = (operator.to_owned(), node.to_owned(), reason.to_owned());
    UnsupportedOperator { operator, domain: String::new(), node, reason }
}

/// None when type or rank are left open; an error when no tensor of ours can stand for it.
fn spec(value: &ValueInfoProto) -> Result<Option<TensorSpec>, String> {
    let tensor = match value.r#type.as_ref().and_then(|declared| declared.value.as_ref()) {
        None => return Ok(None),
        Some(TypeValue::Tensor(tensor)) => tensor,
        Some(other) => {
            let kind = match other {
                TypeValue::Sequence(_) => "a sequence",
                TypeValue::Map(_) => "a map",
                TypeValue::Optional(_) => "an optional value",
                TypeValue::SparseTensor(_) => "a sparse tensor",
                TypeValue::Tensor(_) | TypeValue::Opaque(_) => "an opaque value",
            };
            return Err(format!("is {kind}; only tensors are served"));
        }
    };
    if tensor.elem_type == 0 {
        return Ok(None);
    }
    let name = || elem::name(tensor.elem_type);
    let dtype =
        dtype(tensor.elem_type).ok_or_else(|| format!("has the element type {}, which is not served", name()))?;
    let Some(shape) = &tensor.shape else { return Ok(None) };
    if shape.dim.len() > MAX_RANK {
        return Err(format!("has {} dimensions; at most {MAX_RANK} are served", shape.dim.len()));
    }
    let dims = shape.dim.iter().map(|dim| match &dim.value {
        Some(DimValue::Size(size)) => usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed),
        Some(DimValue::Symbol(name)) if !name.is_empty() && name != "?" => Dim::Symbol(name.as_str().into()),
        _ => Dim::Unknown,
    });
    Ok(Some(TensorSpec::new(value.name.clone(), dtype, dims.collect())))
}

/// The dtype of an element type; none for those that no protocol of ours has a word for.
#[must_use]
pub fn dtype(elem_type: i32) -> Option<DType> {
    Some(match elem_type {
        elem::BOOL => DType::Bool,
        elem::UINT8 => DType::Uint8,
        elem::UINT16 => DType::Uint16,
        elem::UINT32 => DType::Uint32,
        elem::UINT64 => DType::Uint64,
        elem::INT8 => DType::Int8,
        elem::INT16 => DType::Int16,
        elem::INT32 => DType::Int32,
        elem::INT64 => DType::Int64,
        elem::FLOAT16 => DType::Fp16,
        elem::BFLOAT16 => DType::Bf16,
        elem::FLOAT => DType::Fp32,
        elem::DOUBLE => DType::Fp64,
        elem::STRING => DType::Bytes,
        _ => return None,
    })
}

/// Whether axis 0 of every input and output is one and the same dimension: named alike, or not named. Necessary for
/// rows to be independent, not sufficient: the graph may still mix them.
#[must_use]
pub fn batch_axis(signature: &Signature) -> bool {
    let mut name = None;
    let mut all = signature.required_inputs().chain(&signature.outputs);
    signature.required_inputs().next().is_some()
        && all.all(|spec| match spec.shape.first() {
            Some(Dim::Symbol(symbol)) => *name.get_or_insert(symbol) == symbol,
            Some(Dim::Unknown) => true,
            Some(Dim::Fixed(_)) | None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_axis_is_one_symbol_everywhere() {
        let (n, m) = (Dim::Symbol("N".into()), Dim::Symbol("M".into()));
        let specs = |shapes: &[&[Dim]]| -> Vec<TensorSpec> {
            shapes.iter().map(|shape| TensorSpec::new("x", DType::Fp32, shape.to_vec())).collect()
        };
        let batch = |inputs: &[&[Dim]], outputs: &[&[Dim]]| {
            batch_axis(&Signature { inputs: specs(inputs), outputs: specs(outputs) })
        };
        assert!(batch(&[&[n.clone(), Dim::Fixed(3)]], &[std::slice::from_ref(&n)]));
        assert!(batch(&[&[Dim::Unknown, Dim::Fixed(3)]], &[&[Dim::Unknown]]));
        assert!(!batch(&[std::slice::from_ref(&n), std::slice::from_ref(&m)], &[std::slice::from_ref(&n)]));
        assert!(!batch(&[std::slice::from_ref(&n)], &[&[]]));
        assert!(!batch(&[std::slice::from_ref(&n)], &[&[Dim::Fixed(1)]]));
        assert!(!batch(&[], &[&[n]]));
        assert!(!batch(&[&[m]], &[&[Dim::Symbol("2*M".into())]]));
    }
}
