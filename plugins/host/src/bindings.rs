//! The contract as Rust: generated once, for the widest world, and the words of the two sides translated.

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated from the contract"
)]
mod generated {
    wasmtime::component::bindgen!({
        world: "orchestrator",
        path: "../wit",
        imports: { default: trappable, "corymb:plugin/inference": async | trappable },
        exports: { default: async },
        with: { "corymb:plugin/tensors.tensor": crate::host_tensor::HostTensor },
    });
}

pub(crate) use generated::corymb::plugin::tensors::NamedTensor;
pub(crate) use generated::corymb::plugin::types::{Description, Dtype, Error, ErrorCode, Model, TensorSpec};
pub(crate) use generated::corymb::plugin::{images, inference, logging, metrics, types};
pub(crate) use generated::exports::corymb::plugin::transform::{Carry, Parameter, Request, Response, Step, Value};
pub(crate) use generated::{Orchestrator, OrchestratorPre};

use corymb_core::{Code, DType, Dim, Parameters, Signature};

use crate::limits::{MAX_MESSAGE, cut};

/// An error that the guest gets to see.
pub(crate) fn refusal(code: ErrorCode, message: impl Into<String>) -> Error {
    Error { code, message: message.into(), details: None }
}

/// The server's dtype; the name of one that the server does not know.
pub(crate) fn dtype_of(dtype: &Dtype) -> Result<DType, &str> {
    Ok(match dtype {
        Dtype::Bool => DType::Bool,
        Dtype::Uint8 => DType::Uint8,
        Dtype::Uint16 => DType::Uint16,
        Dtype::Uint32 => DType::Uint32,
        Dtype::Uint64 => DType::Uint64,
        Dtype::Int8 => DType::Int8,
        Dtype::Int16 => DType::Int16,
        Dtype::Int32 => DType::Int32,
        Dtype::Int64 => DType::Int64,
        Dtype::Fp16 => DType::Fp16,
        Dtype::Bf16 => DType::Bf16,
        Dtype::Fp32 => DType::Fp32,
        Dtype::Fp64 => DType::Fp64,
        Dtype::Bytes => DType::Bytes,
        Dtype::Other(name) => return Err(name),
    })
}

pub(crate) fn dtype_to(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::Bool,
        DType::Uint8 => Dtype::Uint8,
        DType::Uint16 => Dtype::Uint16,
        DType::Uint32 => Dtype::Uint32,
        DType::Uint64 => Dtype::Uint64,
        DType::Int8 => Dtype::Int8,
        DType::Int16 => Dtype::Int16,
        DType::Int32 => Dtype::Int32,
        DType::Int64 => Dtype::Int64,
        DType::Fp16 => Dtype::Fp16,
        DType::Bf16 => Dtype::Bf16,
        DType::Fp32 => Dtype::Fp32,
        DType::Fp64 => Dtype::Fp64,
        DType::Bytes => Dtype::Bytes,
    }
}

/// A plugin's own error as callers see it.
pub(crate) fn error_of(error: Error) -> corymb_core::Error {
    let code = match error.code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::TooLarge => Code::TooLarge,
        ErrorCode::UnsupportedMediaType => Code::UnsupportedMediaType,
        ErrorCode::Overloaded => Code::Overloaded,
        ErrorCode::Internal => Code::Internal,
        ErrorCode::Unimplemented => Code::Unimplemented,
        ErrorCode::Unavailable => Code::NotReady,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
    };
    let message = cut(error.message, MAX_MESSAGE);
    let details = error.details.map(|details| cut(details, MAX_MESSAGE));
    corymb_core::Error { code, message, details, retry_after: None }
}

/// The contract's word for a failure of another model, or of the host's codec.
pub(crate) fn code_to(code: Code) -> ErrorCode {
    match code {
        Code::InvalidArgument | Code::AlreadyExists => ErrorCode::InvalidArgument,
        Code::Unauthenticated => ErrorCode::Unauthenticated,
        Code::PermissionDenied => ErrorCode::PermissionDenied,
        Code::NotFound => ErrorCode::NotFound,
        Code::TooLarge => ErrorCode::TooLarge,
        Code::UnsupportedMediaType => ErrorCode::UnsupportedMediaType,
        Code::Overloaded => ErrorCode::Overloaded,
        Code::Internal => ErrorCode::Internal,
        Code::Unimplemented => ErrorCode::Unimplemented,
        Code::NotReady | Code::Draining | Code::Cancelled => ErrorCode::Unavailable,
        Code::DeadlineExceeded => ErrorCode::DeadlineExceeded,
    }
}

/// A model as a plugin sees it: symbols become dynamic dimensions, as does a size beyond `u32`.
pub(crate) fn model_to(name: &str, version: &str, signature: &Signature) -> Model {
    let spec = |spec: &corymb_core::TensorSpec| TensorSpec {
        name: spec.name.clone(),
        dtype: dtype_to(spec.dtype),
        shape: spec.shape.iter().map(|dim| dim.fixed().and_then(|size| u32::try_from(size).ok())).collect(),
        optional: spec.optional,
        media_type: spec.media_type.clone(),
    };
    Model {
        name: name.to_owned(),
        version: version.to_owned(),
        inputs: signature.inputs.iter().map(spec).collect(),
        outputs: signature.outputs.iter().map(spec).collect(),
    }
}

/// A declared tensor as the server knows it; the name of a dtype that it does not know.
pub(crate) fn spec_of(spec: TensorSpec) -> Result<corymb_core::TensorSpec, String> {
    let dtype = dtype_of(&spec.dtype).map_err(str::to_owned)?;
    let dim = |size: &Option<u32>| size.map_or(Dim::Unknown, |size| Dim::Fixed(size as usize));
    Ok(corymb_core::TensorSpec {
        name: spec.name,
        dtype,
        shape: spec.shape.iter().map(dim).collect(),
        optional: spec.optional,
        media_type: spec.media_type,
    })
}

pub(crate) fn parameters_to(parameters: &Parameters) -> Vec<Parameter> {
    let value = |value: &corymb_core::Value| match value {
        corymb_core::Value::Bool(value) => Value::Boolean(*value),
        corymb_core::Value::Int64(value) => Value::Int64(*value),
        corymb_core::Value::Uint64(value) => Value::Uint64(*value),
        corymb_core::Value::Double(value) => Value::Double(*value),
        corymb_core::Value::Text(value) => Value::Text(value.clone()),
    };
    parameters.iter().map(|(name, given)| Parameter { name: name.to_owned(), value: value(given) }).collect()
}

pub(crate) fn parameters_of(parameters: Vec<Parameter>) -> Parameters {
    let value = |value| match value {
        Value::Boolean(value) => corymb_core::Value::Bool(value),
        Value::Int64(value) => corymb_core::Value::Int64(value),
        Value::Uint64(value) => corymb_core::Value::Uint64(value),
        Value::Double(value) => corymb_core::Value::Double(value),
        Value::Text(value) => corymb_core::Value::Text(value),
    };
    parameters.into_iter().map(|parameter| (parameter.name, value(parameter.value))).collect()
}

/// Bytes of a parameter's name and text.
pub(crate) fn parameter_len(parameter: &Parameter) -> usize {
    let text = match &parameter.value {
        Value::Text(text) => text.len(),
        _ => 0,
    };
    parameter.name.len() + text
}
