//! The client's side of gRPC: tensors as a request, and an answer's tensors.

use bytes::Bytes;
use corymb_core::{Code, DType, Error, Parameters, Response, Tensors, Value};
use corymb_proto::inference::infer_parameter::ParameterChoice;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use corymb_proto::inference::{ModelInferRequest, ModelInferResponse};

use crate::limits::{Budget, Ledger, Limits};
use crate::raw;

/// A request with raw contents.
#[must_use]
pub fn request(model: &str, inputs: &Tensors) -> ModelInferRequest {
    let size = |size: &usize| i64::try_from(*size).unwrap_or(i64::MAX);
    let declared = inputs.iter().map(|(name, tensor)| InferInputTensor {
        name: name.to_owned(),
        datatype: tensor.dtype().name().to_owned(),
        shape: tensor.shape().iter().map(size).collect(),
        ..InferInputTensor::default()
    });
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: declared.collect(),
        raw_input_contents: inputs.iter().map(|(_, tensor)| raw::contents(tensor)).collect(),
        ..ModelInferRequest::default()
    }
}

/// The answer as tensors. Only raw contents are read, which is how this server and Triton answer.
///
/// # Errors
/// [`Code::InvalidArgument`] names the output that does not hold what it declares.
pub fn response(answer: ModelInferResponse, limits: &Limits, budget: &mut dyn Budget) -> Result<Response, Error> {
    let mut ledger = Ledger::new(limits, budget);
    let invalid = |message: String| Error::new(Code::InvalidArgument, message);
    if answer.raw_output_contents.len() != answer.outputs.len() {
        let (given, expected) = (answer.raw_output_contents.len(), answer.outputs.len());
        return Err(invalid(format!(
            "raw_output_contents has {given} entries; expected {expected}, one for each output"
        )));
    }
    let mut outputs = Tensors::new();
    for (output, data) in answer.outputs.into_iter().zip(answer.raw_output_contents) {
        let at = |what: String| invalid(format!("output '{}': {what}", output.name));
        let dtype = DType::from_name(&output.datatype);
        let dtype = dtype.ok_or_else(|| at(format!("unknown datatype '{}'", output.datatype)))?;
        let shape: Result<Vec<usize>, _> = output.shape.iter().map(|size| usize::try_from(*size)).collect();
        let shape = shape.map_err(|_negative| at(format!("shape {:?} is not one of sizes", output.shape)))?;
        let data: Bytes = data;
        let tensor = raw::tensor(dtype, shape, &data, &mut ledger);
        outputs
            .push(output.name.clone(), tensor.map_err(|error| Error { message: at(error.message).message, ..error })?);
    }
    ledger.settle()?;
    let parameters =
        answer.parameters.into_iter().filter_map(|(name, value)| Some((name, plain(value.parameter_choice?))));
    Ok(Response {
        id: answer.id,
        model: answer.model_name,
        version: answer.model_version,
        parameters: parameters.collect::<Parameters>(),
        outputs,
    })
}

fn plain(choice: ParameterChoice) -> Value {
    match choice {
        ParameterChoice::BoolParam(value) => Value::Bool(value),
        ParameterChoice::Int64Param(value) => Value::Int64(value),
        ParameterChoice::StringParam(value) => Value::Text(value),
        ParameterChoice::DoubleParam(value) => Value::Double(value),
        ParameterChoice::Uint64Param(value) => Value::Uint64(value),
    }
}
