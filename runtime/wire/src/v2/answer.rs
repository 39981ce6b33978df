//! A V2 inference response, as a client reads it.

use bytes::Bytes;
use corymb_core::{Code, Error, Response};
use jiter::Jiter;

use super::member::{list, once, text};
use super::parameters::RequestParameters;
use super::request::tensors;
use super::tensor;
use crate::json::column::Source;
use crate::json::fault::{Fault, malformed};
use crate::limits::{Budget, Limits};

/// Reads an answer. `binary` is what follows the JSON.
pub(super) fn read(json: &Bytes, binary: &Bytes, limits: &Limits, budget: &mut dyn Budget) -> Result<Response, Error> {
    let mut source = Source::new(json, limits, budget);
    let mut reader = Jiter::new(json).with_allow_inf_nan();
    let (mut id, mut model, mut version, mut parameters, mut outputs) = (None, None, None, None, None);
    let at_answer = |fault: Fault| fault.into_error("answer", json);
    let at_json = |error| malformed(&error, json);
    let mut member = reader.next_object().map(|key| key.map(str::to_owned)).map_err(at_json)?;
    while let Some(known) = member {
        match known.as_str() {
            "id" => once(&mut id, text(&mut reader, "id").map_err(at_answer)?, "id").map_err(at_answer)?,
            "model_name" => {
                let name = text(&mut reader, "model_name").map_err(at_answer)?;
                once(&mut model, name, "model_name").map_err(at_answer)?;
            }
            "model_version" => {
                let name = text(&mut reader, "model_version").map_err(at_answer)?;
                once(&mut version, name, "model_version").map_err(at_answer)?;
            }
            "parameters" => {
                let read = RequestParameters::read(&mut reader, limits).map_err(at_answer)?;
                once(&mut parameters, Some(read.others), "parameters").map_err(at_answer)?;
            }
            "outputs" => {
                let read = declared(&mut reader, &mut source)?;
                once(&mut outputs, Some(read), "outputs").map_err(at_answer)?;
            }
            _ => reader.next_skip().map_err(at_json)?,
        }
        member = reader.next_key().map(|key| key.map(str::to_owned)).map_err(at_json)?;
    }
    reader.finish().map_err(at_json)?;
    let outputs = outputs.ok_or_else(|| Error::new(Code::InvalidArgument, "`outputs` is missing"))?;
    let outputs = tensors(outputs, binary, "output", &mut source)?;
    source.ledger.settle()?;
    Ok(Response {
        id: id.unwrap_or_default(),
        model: model.unwrap_or_default(),
        version: version.unwrap_or_default(),
        parameters: parameters.unwrap_or_default(),
        outputs,
    })
}

fn declared(json: &mut Jiter<'_>, source: &mut Source<'_>) -> Result<Vec<tensor::Declared>, Error> {
    let body = source.body;
    let mut outputs = Vec::new();
    let mut next = list(json, "outputs").map_err(|fault| fault.into_error("answer", body))?.unwrap_or_default();
    while let Some(peek) = next {
        if outputs.len() == source.ledger.limits.entries {
            let message = format!("more than {} outputs", source.ledger.limits.entries);
            return Err(Error::new(Code::InvalidArgument, message));
        }
        outputs.push(tensor::read(json, peek, ("outputs", outputs.len()), "output", source)?);
        next = json.array_step().map_err(|error| malformed(&error, body))?;
    }
    Ok(outputs)
}
