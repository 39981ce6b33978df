//! A V2 inference request: the Open Inference Protocol's JSON, with Triton's binary data beside it.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Code, Error, Signature, SignatureError, Tensors};
use jiter::{Jiter, Peek};

use super::member::{list, once, text, unexpected};
use super::parameters::{OutputParameters, RequestParameters};
use super::tensor::{self, Declared};
use super::{Ask, AskedOutput};
use crate::decoded::Decoded;
use crate::json::column::Source;
use crate::json::fault::{Fault, malformed};
use crate::json::text::excerpt;
use crate::limits::{Budget, Limits};

/// Reads a request. `binary` is what follows the JSON, empty for a request of JSON alone.
pub(super) fn read(
    signature: &Signature,
    json: &Bytes,
    binary: &Bytes,
    limits: &Limits,
    budget: &mut dyn Budget,
) -> Result<Decoded<Ask>, Error> {
    let mut reader = Reader {
        signature,
        json: Jiter::new(json).with_allow_inf_nan(),
        source: Source::new(json, limits, budget),
        id: None,
        parameters: None,
        inputs: None,
        outputs: None,
    };
    reader.request()?;
    let Reader { mut source, id, parameters, inputs, outputs, .. } = reader;
    let declared = inputs.ok_or_else(|| invalid("`inputs` is missing"))?;
    let inputs = tensors(declared, binary, "input", &mut source)?;
    source.ledger.settle()?;
    let parameters = parameters.unwrap_or_default();
    let ask =
        Ask { id: id.unwrap_or_default(), outputs: outputs.unwrap_or_default(), binary: parameters.binary_data_output };
    Ok(Decoded {
        id: ask.id.clone(),
        inputs,
        parameters: parameters.others,
        outputs: ask.outputs.iter().map(|output| output.name.clone()).collect(),
        timeout: parameters.timeout,
        priority: parameters.priority,
        ask,
    })
}

/// How long a request says that its caller waits, before anything is known of its model. What is wrong with it is found when it is read.
pub(super) fn timeout(json: &Bytes, limits: &Limits) -> Option<Duration> {
    let mut reader = Jiter::new(json).with_allow_inf_nan();
    let mut key = reader.next_object().ok()?.map(Member::of);
    while let Some(known) = key {
        match known {
            Member::Parameters => return RequestParameters::read(&mut reader, limits).ok()?.timeout,
            _ => reader.next_skip().ok()?,
        }
        key = reader.next_key().ok()?.map(Member::of);
    }
    None
}

/// Gives each tensor its part of the binary data, all of which must belong to one.
pub(super) fn tensors(
    mut declared: Vec<Declared>,
    binary: &Bytes,
    role: &str,
    source: &mut Source<'_>,
) -> Result<Tensors, Error> {
    let mut tensors = Tensors::new();
    let mut rest = binary.clone();
    // In place: a declared tensor is large.
    for one in &mut declared {
        let tensor = one.finish(&mut rest, source);
        let at = |error: Error| Error { message: format!("{role} '{}': {}", one.name, error.message), ..error };
        let tensor = tensor.map_err(at)?;
        tensors.push(std::mem::take(&mut one.name), tensor);
    }
    if !rest.is_empty() {
        let (given, expected) = (binary.len(), binary.len() - rest.len());
        let message = format!("{given} bytes of binary data follow the JSON; the {role}s take {expected}");
        return Err(invalid(message));
    }
    Ok(tensors)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

enum Member {
    Id,
    Parameters,
    Inputs,
    Outputs,
    Other,
}

impl Member {
    fn of(key: &str) -> Self {
        match key {
            "id" => Self::Id,
            "parameters" => Self::Parameters,
            "inputs" => Self::Inputs,
            "outputs" => Self::Outputs,
            _ => Self::Other,
        }
    }
}

enum OutputMember {
    Name,
    Parameters,
    Other,
}

impl OutputMember {
    fn of(key: &str) -> Self {
        match key {
            "name" => Self::Name,
            "parameters" => Self::Parameters,
            _ => Self::Other,
        }
    }
}

struct Reader<'a> {
    signature: &'a Signature,
    json: Jiter<'a>,
    source: Source<'a>,
    id: Option<String>,
    parameters: Option<RequestParameters>,
    inputs: Option<Vec<Declared>>,
    outputs: Option<Vec<AskedOutput>>,
}

impl Reader<'_> {
    fn request(&mut self) -> Result<(), Error> {
        let body = self.source.body;
        let at_request = |fault: Fault| fault.into_error("request", body);
        let mut member =
            self.json.next_object().map(|key| key.map(Member::of)).map_err(|error| malformed(&error, body))?;
        while let Some(known) = member {
            match known {
                Member::Id => {
                    let id = text(&mut self.json, "id").map_err(at_request)?;
                    once(&mut self.id, id, "id").map_err(at_request)?;
                }
                Member::Parameters => RequestParameters::read(&mut self.json, self.source.ledger.limits)
                    .and_then(|parameters| once(&mut self.parameters, Some(parameters), "parameters"))
                    .map_err(at_request)?,
                Member::Inputs => {
                    let inputs = self.inputs()?;
                    once(&mut self.inputs, inputs, "inputs").map_err(at_request)?;
                }
                Member::Outputs => {
                    let outputs = self.outputs()?;
                    once(&mut self.outputs, outputs, "outputs").map_err(at_request)?;
                }
                Member::Other => self.json.next_skip().map_err(|error| malformed(&error, body))?,
            }
            member = self.json.next_key().map(|key| key.map(Member::of)).map_err(|error| malformed(&error, body))?;
        }
        self.json.finish().map_err(|error| malformed(&error, body))
    }

    fn inputs(&mut self) -> Result<Option<Vec<Declared>>, Error> {
        let body = self.source.body;
        let Some(mut next) = list(&mut self.json, "inputs").map_err(|fault| fault.into_error("request", body))? else {
            return Ok(None);
        };
        let mut inputs: Vec<Declared> = Vec::new();
        while let Some(peek) = next {
            let input = tensor::read(&mut self.json, peek, ("inputs", inputs.len()), "input", &mut self.source)?;
            // Checked here, and not by the engine alone, so that a list can be no longer than the signature's.
            known("input", self.signature.inputs.iter().map(|spec| &spec.name), &input.name)?;
            if inputs.iter().any(|earlier| earlier.name == input.name) {
                return Err(SignatureError::Twice(input.name).into());
            }
            inputs.push(input);
            next = self.json.array_step().map_err(|error| malformed(&error, body))?;
        }
        Ok(Some(inputs))
    }

    fn outputs(&mut self) -> Result<Option<Vec<AskedOutput>>, Error> {
        let body = self.source.body;
        let Some(mut next) = list(&mut self.json, "outputs").map_err(|fault| fault.into_error("request", body))? else {
            return Ok(None);
        };
        let mut outputs: Vec<AskedOutput> = Vec::new();
        while let Some(peek) = next {
            let place = || format!("outputs[{}]", outputs.len());
            let output = self.output(peek).map_err(|fault| fault.into_error(&place(), body))?;
            known("output", self.signature.outputs.iter().map(|spec| &spec.name), &output.name)?;
            // A short request could else ask for a long output many times over.
            if outputs.iter().any(|earlier| earlier.name == output.name) {
                return Err(invalid(format!("output '{}' is asked for twice", output.name)));
            }
            outputs.push(output);
            next = self.json.array_step().map_err(|error| malformed(&error, body))?;
        }
        Ok(Some(outputs))
    }

    fn output(&mut self, peek: Peek) -> Result<AskedOutput, Fault> {
        let json = &mut self.json;
        if peek != Peek::Object {
            return Err(unexpected(json, peek, "an object"));
        }
        let (mut name, mut parameters) = (None, None);
        let mut member = json.known_object()?.map(OutputMember::of);
        while let Some(known) = member {
            match known {
                OutputMember::Name => once(&mut name, text(json, "name")?, "name")?,
                OutputMember::Parameters => {
                    let read = OutputParameters::read(json, self.source.ledger.limits)?;
                    once(&mut parameters, Some(read), "parameters")?;
                }
                OutputMember::Other => json.next_skip()?,
            }
            member = json.next_key()?.map(OutputMember::of);
        }
        let name = name.ok_or_else(|| Fault::new("`name` is missing"))?;
        let parameters: OutputParameters = parameters.unwrap_or_default();
        Ok(AskedOutput { name, binary: parameters.binary_data })
    }
}

fn known<'n>(role: &'static str, names: impl Iterator<Item = &'n String> + Clone, name: &str) -> Result<(), Error> {
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<_> = names.map(|known| format!("'{known}'")).collect();
    let expected = if names.len() == 1 { names.concat() } else { format!("one of {}", names.join(", ")) };
    Err(SignatureError::Unknown { role, name: excerpt(name), expected }.into())
}
