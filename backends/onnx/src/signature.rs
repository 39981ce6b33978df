//! The signature that a graph declares.

use std::collections::HashSet;

use corymb_core::{DType, Dim, MAX_RANK, Signature, TensorSpec, UnsupportedOperator};

use crate::file::constants;
use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::type_proto::Value as TypeValue;
use crate::proto::{ModelProto, ValueInfoProto, elem};

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

impl Declared {
    /// Adds what a file says of an input, of which an initializer of the same name is the default.
    pub fn add_input(
        &mut self,
        name: &str,
        spec: Result<Option<TensorSpec>, String>,
        ir_version: i64,
        has_default: bool,
    ) {
        if has_default && ir_version < DEFAULTS_SINCE_IR {
            return;
        }
        match spec {
            Ok(Some(spec)) => self.signature.inputs.push(TensorSpec { optional: has_default, ..spec }),
            Ok(None) => self.unsupported.push(report("Input", name, "declares no type or no shape")),
            Err(reason) => self.unsupported.push(report("Input", name, &reason)),
        }
    }

    /// Adds what a file says of an output.
    pub fn add_output(&mut self, name: &str, spec: Result<Option<TensorSpec>, String>) {
        match spec {
            Ok(Some(spec)) => self.signature.outputs.push(spec),
            Ok(None) => self.open.push(name.to_owned()),
            Err(reason) => self.unsupported.push(report("Output", name, &reason)),
        }
    }
}

/// Reads the declared inputs and outputs.
#[must_use]
pub fn declared(model: &ModelProto) -> Declared {
    let mut declared = Declared::default();
    let Some(graph) = &model.graph else { return declared };
    let constants: HashSet<&str> = constants(graph).collect();
    for input in &graph.input {
        declared.add_input(&input.name, spec(input), model.ir_version, constants.contains(input.name.as_str()));
    }
    for output in &graph.output {
        let maker = || graph.node.iter().find(|node| node.output.contains(&output.name));
        let spec = spec(output).map_err(|reason| {
            let is_map = maker().is_some_and(|node| node.op_type == "ZipMap");
            if is_map { reason + "; convert the model again with the option zipmap=False" } else { reason }
        });
        declared.add_output(&output.name, spec);
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
        Some(TypeValue::TensorType(tensor)) => tensor,
        Some(other) => {
            let kind = match other {
                TypeValue::SequenceType(_) => "a sequence",
                TypeValue::MapType(_) => "a map",
                TypeValue::OptionalType(_) => "an optional value",
                TypeValue::SparseTensorType(_) => "a sparse tensor",
                TypeValue::TensorType(_) | TypeValue::OpaqueType(_) => "an opaque value",
            };
            return Err(format!("is {kind}; only tensors are served"));
        }
    };
    let dims = tensor.shape.as_ref().map(|shape| {
        let dims = shape.dim.iter().map(|declared| match &declared.value {
            Some(DimValue::DimValue(size)) => dim(Some(*size), ""),
            Some(DimValue::DimParam(symbol)) => dim(None, symbol),
            None => Dim::Unknown,
        });
        dims.collect()
    });
    tensor_spec(&value.name, tensor.elem_type, dims)
}

/// A dimension with a size or a symbol, an empty one where the file names none.
#[must_use]
pub fn dim(size: Option<i64>, symbol: &str) -> Dim {
    match (size, symbol) {
        (Some(size), _) => usize::try_from(size).map_or(Dim::Unknown, Dim::Fixed),
        (None, "" | "?") => Dim::Unknown,
        (None, symbol) => Dim::Symbol(symbol.into()),
    }
}

/// A declared tensor; none where its type (0 in the file) or its rank is left open.
///
/// # Errors
/// Why no tensor of ours can stand for it, to stand behind its name.
pub fn tensor_spec(name: &str, elem_type: i32, dims: Option<Vec<Dim>>) -> Result<Option<TensorSpec>, String> {
    if elem_type == 0 {
        return Ok(None);
    }
    let unserved = || format!("has the element type {}, which is not served", elem::name(elem_type));
    let dtype = dtype(elem_type).ok_or_else(unserved)?;
    let Some(dims) = dims else { return Ok(None) };
    if dims.len() > MAX_RANK {
        return Err(format!("has {} dimensions; at most {MAX_RANK} are served", dims.len()));
    }
    Ok(Some(TensorSpec::new(name, dtype, dims)))
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
