//! A V2 inference request: the Open Inference Protocol's JSON, with Triton's binary data beside it.
//!
//! The format is the protocol's `inference_rest.md`; the rules beyond it are:
//! * members may come in any order; unknown ones are ignored, a known one given twice is an error, `null` is absence;
//! * `data` may be flat or nested: nested lists must be regular, but only the number of elements is held against `shape`;
//! * FP16 and BF16 are numbers; NaN, Infinity and -Infinity are bare words; BOOL may be 0 and 1;
//! * BYTES elements are texts, `{"b64": "…"}`, or base64 where the input's parameter `content_type` is `base64`.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Code, DType, Error, Parameters, Signature, SignatureError, Tensor, Tensors, element_count};
use jiter::{Jiter, NumberInt, Peek};

use super::column::{Column, Source};
use super::fault::{Fault, found, malformed};
use super::text::{decode_base64, excerpt};
use super::v2_parameters::{InputParameters, OutputParameters, RequestParameters};
use crate::binary;

/// A request as read.
#[derive(Debug)]
pub(crate) struct InferRequest {
    pub(crate) inputs: Tensors,
    /// Those of the server taken out.
    pub(crate) parameters: Parameters,
    /// How long the caller waits.
    pub(crate) timeout: Option<Duration>,
    pub(crate) ask: Ask,
}

/// What the answer needs to know of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ask {
    /// Echoed; empty where none was given.
    pub(crate) id: String,
    /// Empty for all.
    pub(crate) outputs: Vec<AskedOutput>,
    /// Whether outputs are binary that do not say it themselves.
    pub(crate) binary: bool,
}

/// An output that was asked for by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AskedOutput {
    pub(crate) name: String,
    pub(crate) binary: Option<bool>,
}

/// Reads a request. `binary` is what follows the JSON, empty for a request of JSON alone.
pub(crate) fn decode(signature: &Signature, json: &Bytes, binary: &Bytes) -> Result<InferRequest, Error> {
    let mut reader = Reader {
        signature,
        body: json,
        json: Jiter::new(json).with_allow_inf_nan(),
        source: Source::new(json),
        id: None,
        parameters: None,
        inputs: None,
        outputs: None,
    };
    reader.request()?;
    let drafts = reader.inputs.ok_or_else(|| invalid("`inputs` is missing"))?;
    let mut inputs = Tensors::new();
    let mut rest = binary.clone();
    for draft in drafts {
        let name = draft.name.clone();
        let tensor = draft.finish(&mut rest).map_err(|error| at_input(&name, error))?;
        inputs.push(name, tensor);
    }
    if !rest.is_empty() {
        let (given, expected) = (binary.len(), binary.len() - rest.len());
        let message = format!("{given} bytes of binary data follow the JSON; the inputs take {expected}");
        return Err(invalid(message));
    }
    let parameters = reader.parameters.unwrap_or_default();
    Ok(InferRequest {
        inputs,
        timeout: parameters.timeout,
        ask: Ask {
            id: reader.id.unwrap_or_default(),
            outputs: reader.outputs.unwrap_or_default(),
            binary: parameters.binary_data_output,
        },
        parameters: parameters.others,
    })
}

fn at_input(name: &str, error: Error) -> Error {
    Error { message: format!("input '{name}': {}", error.message), ..error }
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

enum Field {
    Name,
    Datatype,
    Shape,
    Parameters,
    Data,
    Other,
}

impl Field {
    fn of(key: &str) -> Self {
        match key {
            "name" => Self::Name,
            "datatype" => Self::Datatype,
            "shape" => Self::Shape,
            "parameters" => Self::Parameters,
            "data" => Self::Data,
            _ => Self::Other,
        }
    }
}

struct Reader<'a> {
    signature: &'a Signature,
    body: &'a Bytes,
    json: Jiter<'a>,
    source: Source<'a>,
    id: Option<String>,
    parameters: Option<RequestParameters>,
    inputs: Option<Vec<Input>>,
    outputs: Option<Vec<AskedOutput>>,
}

/// An input while its members come in.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    datatype: Option<DType>,
    shape: Option<Vec<usize>>,
    parameters: Option<InputParameters>,
    data: Option<Data>,
}

#[expect(clippy::large_enum_variant, reason = "one per input, and the large one is the usual one")]
enum Data {
    Read(Column),
    /// Where `data` lies that came before its `datatype`: read once that is known.
    Later(Range<usize>),
}

/// An input whose members are all there; its binary data may be still to come.
struct Input {
    name: String,
    datatype: DType,
    shape: Vec<usize>,
    parameters: InputParameters,
    data: Option<Column>,
}

impl Reader<'_> {
    fn request(&mut self) -> Result<(), Error> {
        let body = self.body;
        let mut member =
            self.json.next_object().map(|key| key.map(Member::of)).map_err(|error| malformed(&error, body))?;
        while let Some(known) = member {
            match known {
                Member::Id => {
                    let id = text(&mut self.json, "id").map_err(|fault| fault.into_error("request", body))?;
                    once(&mut self.id, id, "id").map_err(|fault| fault.into_error("request", body))?;
                }
                Member::Parameters => RequestParameters::read(&mut self.json)
                    .and_then(|parameters| once(&mut self.parameters, Some(parameters), "parameters"))
                    .map_err(|fault| fault.into_error("request", body))?,
                Member::Inputs => {
                    let inputs = self.inputs()?;
                    once(&mut self.inputs, inputs, "inputs").map_err(|fault| fault.into_error("request", body))?;
                }
                Member::Outputs => {
                    let outputs = self.outputs()?;
                    once(&mut self.outputs, outputs, "outputs").map_err(|fault| fault.into_error("request", body))?;
                }
                Member::Other => self.json.next_skip().map_err(|error| malformed(&error, body))?,
            }
            member = self.json.next_key().map(|key| key.map(Member::of)).map_err(|error| malformed(&error, body))?;
        }
        self.json.finish().map_err(|error| malformed(&error, body))
    }

    fn inputs(&mut self) -> Result<Option<Vec<Input>>, Error> {
        let body = self.body;
        let Some(mut next) = list(&mut self.json, "inputs").map_err(|fault| fault.into_error("request", body))? else {
            return Ok(None);
        };
        let mut inputs: Vec<Input> = Vec::new();
        while let Some(peek) = next {
            let mut draft = Draft::default();
            let input = self.input(peek, &mut draft);
            let input = input.map_err(|fault| {
                let place = draft.name.as_ref().map(|name| format!("input '{}'", excerpt(name)));
                fault.into_error(&place.unwrap_or_else(|| format!("inputs[{}]", inputs.len())), body)
            })?;
            // Checked here, and not by the engine alone, so that a list can be no longer than the signature's.
            self.known("input", self.signature.inputs.iter().map(|spec| &spec.name), &input.name)?;
            if inputs.iter().any(|earlier| earlier.name == input.name) {
                return Err(SignatureError::Twice(input.name).into());
            }
            inputs.push(input);
            next = self.json.array_step().map_err(|error| malformed(&error, body))?;
        }
        Ok(Some(inputs))
    }

    fn known<'n>(
        &self,
        role: &'static str,
        names: impl Iterator<Item = &'n String> + Clone,
        name: &str,
    ) -> Result<(), Error> {
        if names.clone().any(|known| known == name) {
            return Ok(());
        }
        let names: Vec<_> = names.map(|known| format!("'{known}'")).collect();
        let expected = if names.len() == 1 { names.concat() } else { format!("one of {}", names.join(", ")) };
        Err(SignatureError::Unknown { role, name: excerpt(name), expected }.into())
    }

    fn input(&mut self, peek: Peek, draft: &mut Draft) -> Result<Input, Fault> {
        if peek != Peek::Object {
            return Err(unexpected(&mut self.json, peek, "an object"));
        }
        let json = &mut self.json;
        let mut field = json.known_object()?.map(Field::of);
        while let Some(known) = field {
            match known {
                Field::Name => once(&mut draft.name, text(json, "name")?, "name")?,
                Field::Datatype => {
                    let datatype = text(json, "datatype")?.map(|name| datatype(&name)).transpose()?;
                    once(&mut draft.datatype, datatype, "datatype")?;
                }
                Field::Shape => once(&mut draft.shape, shape(json)?, "shape")?,
                Field::Parameters => {
                    once(&mut draft.parameters, Some(InputParameters::read(json)?), "parameters")?;
                }
                Field::Data => {
                    let data = data(json, draft, &mut self.source)?;
                    once(&mut draft.data, data, "data")?;
                }
                Field::Other => json.next_skip()?,
            }
            field = json.next_key()?.map(Field::of);
        }
        let missing = |member: &str| Fault::new(format!("`{member}` is missing"));
        let name = draft.name.clone().ok_or_else(|| missing("name"))?;
        let datatype = draft.datatype.ok_or_else(|| missing("datatype"))?;
        let shape = draft.shape.take().ok_or_else(|| missing("shape"))?;
        let data = match draft.data.take() {
            None => None,
            Some(Data::Read(column)) => Some(column),
            Some(Data::Later(range)) => {
                let start = range.start;
                let mut json = Jiter::new(&self.body[range]).with_allow_inf_nan();
                let mut column = Column::new(datatype, expected_elements(self.body.len() - start, Some(&shape))?);
                let peek = json.peek()?;
                column.read_all(&mut json, peek, &mut self.source).map_err(|fault| fault.shifted(start))?;
                Some(column)
            }
        };
        Ok(Input { name, datatype, shape, parameters: draft.parameters.take().unwrap_or_default(), data })
    }

    fn outputs(&mut self) -> Result<Option<Vec<AskedOutput>>, Error> {
        let body = self.body;
        let Some(mut next) = list(&mut self.json, "outputs").map_err(|fault| fault.into_error("request", body))? else {
            return Ok(None);
        };
        let mut outputs: Vec<AskedOutput> = Vec::new();
        while let Some(peek) = next {
            let place = || format!("outputs[{}]", outputs.len());
            let output = self.output(peek).map_err(|fault| fault.into_error(&place(), body))?;
            self.known("output", self.signature.outputs.iter().map(|spec| &spec.name), &output.name)?;
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
        if peek != Peek::Object {
            return Err(unexpected(&mut self.json, peek, "an object"));
        }
        let json = &mut self.json;
        let (mut name, mut parameters) = (None, None);
        let mut field = json.known_object()?.map(Field::of);
        while let Some(known) = field {
            match known {
                Field::Name => once(&mut name, text(json, "name")?, "name")?,
                Field::Parameters => once(&mut parameters, Some(OutputParameters::read(json)?), "parameters")?,
                _ => json.next_skip()?,
            }
            field = json.next_key()?.map(Field::of);
        }
        let name = name.ok_or_else(|| Fault::new("`name` is missing"))?;
        let parameters: OutputParameters = parameters.unwrap_or_default();
        Ok(AskedOutput { name, binary: parameters.binary_data })
    }
}

impl Input {
    /// Takes this input's bytes off the front of `rest` where it has its data there.
    fn finish(self, rest: &mut Bytes) -> Result<Tensor, Error> {
        match (self.data, self.parameters.binary_data_size) {
            (Some(_), Some(_)) => Err(invalid("has both `data` and the parameter `binary_data_size`")),
            (None, None) => Err(invalid("has neither `data` nor the parameter `binary_data_size`")),
            (Some(mut column), None) => {
                if self.parameters.base64 {
                    column
                        .map_elements(decode_base64)
                        .map_err(|(index, what)| invalid(format!("element {index} of `data` {what}")))?;
                }
                Ok(column.into_shape(self.shape)?)
            }
            (None, Some(size)) if size > rest.len() => {
                let message = format!("takes {size} bytes of binary data; {} are left", rest.len());
                Err(invalid(message))
            }
            (None, Some(size)) => binary::tensor(self.datatype, self.shape, &rest.split_to(size)),
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: Option<T>, member: &str) -> Result<(), Fault> {
    if slot.is_some() {
        return Err(Fault::new(format!("`{member}` is given twice")));
    }
    *slot = value;
    Ok(())
}

fn text(json: &mut Jiter<'_>, member: &str) -> Result<Option<String>, Fault> {
    match json.peek()? {
        Peek::Null => json.known_null().map(|()| None).map_err(Fault::from),
        Peek::String => Ok(Some(json.known_str()?.to_owned())),
        other => Err(unexpected(json, other, "a text").of(member)),
    }
}

fn list(json: &mut Jiter<'_>, member: &str) -> Result<Option<Option<Peek>>, Fault> {
    match json.peek()? {
        Peek::Null => json.known_null().map(|()| None).map_err(Fault::from),
        Peek::Array => Ok(Some(json.known_array()?)),
        other => Err(unexpected(json, other, "a list").of(member)),
    }
}

fn unexpected(json: &mut Jiter<'_>, peek: Peek, expected: &str) -> Fault {
    match found(peek) {
        Some(found) => Fault::new(format!("is {found}; expected {expected}")),
        None => json.known_skip(peek).err().map_or_else(|| Fault::new("is malformed"), Fault::from),
    }
}

fn datatype(name: &str) -> Result<DType, Fault> {
    DType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        Fault::new(format!("datatype '{}' is unknown; expected one of {}", excerpt(name), names.join(", ")))
    })
}

fn shape(json: &mut Jiter<'_>) -> Result<Option<Vec<usize>>, Fault> {
    let Some(mut next) = list(json, "shape")? else { return Ok(None) };
    let mut shape = Vec::new();
    while let Some(peek) = next {
        if shape.len() == corymb_core::MAX_RANK {
            let what = format!("`shape` has more than {} dimensions", corymb_core::MAX_RANK);
            return Err(Fault::new(what));
        }
        let start = json.current_index();
        let size = match json.known_int(peek) {
            Ok(NumberInt::Int(size)) => usize::try_from(size).ok(),
            Ok(NumberInt::BigInt(size)) => usize::try_from(&size).ok(),
            Err(_) => return Err(unexpected(json, peek, "whole numbers").of("shape")),
        };
        shape.push(size.ok_or_else(|| {
            let size = String::from_utf8_lossy(json.slice_to_current(start));
            Fault::new(format!("`shape` has {}, which is no size of a dimension", excerpt(&size)))
        })?);
        next = json.array_step()?;
    }
    Ok(Some(shape))
}

fn data(json: &mut Jiter<'_>, draft: &Draft, source: &mut Source<'_>) -> Result<Option<Data>, Fault> {
    let peek = json.peek()?;
    if peek == Peek::Null {
        json.known_null()?;
        return Ok(None);
    }
    let start = json.current_index();
    let Some(datatype) = draft.datatype else {
        json.known_skip(peek)?;
        return Ok(Some(Data::Later(start..json.current_index())));
    };
    let left = source.body.len() - start;
    let mut column = Column::new(datatype, expected_elements(left, draft.shape.as_deref())?);
    column.read_all(json, peek, source)?;
    Ok(Some(Data::Read(column)))
}

/// How many elements to make room for: what the shape says, but no more than `bytes` of JSON can hold.
fn expected_elements(bytes: usize, shape: Option<&[usize]>) -> Result<usize, Fault> {
    match shape {
        None => Ok((bytes / 8).min(16 * 1024)),
        Some(shape) => {
            let count = element_count(shape).map_err(|error| Fault::from(Error::from(error)))?;
            Ok(count.min(bytes / 2 + 1))
        }
    }
}

#[cfg(test)]
mod tests;
