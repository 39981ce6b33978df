//! `ModelInferRequest`, read straight from the wire into tensors.
//!
//! Nothing is built in between: packed floats and raw contents are used in place, integers are written once into the
//! tensor's own buffer. So a message cannot claim many times its size in memory, as it could by way of a generated
//! type with its lists of lists; what still grows (a BYTES element takes more than its two bytes on the wire, an INT64
//! up to eight times) is held by the permit before it is allocated.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Buffer, DType, Parameters, Request, Tensor, TensorError, Tensors, Value, element_count};
use corymb_engine::Permit;
use corymb_proto::inference::InferParameter;
use corymb_proto::inference::infer_parameter::ParameterChoice;
use prost::Message;

use super::metadata::version;
use super::wire::{Field, Fields, data, malformed, packed_varints, text};
use crate::binary;
use crate::parameters::{Reserved, reserved};
use crate::status::ServerError;

/// Inputs, outputs, raw contents and parameters, of each: more than any model has.
const MAX_ENTRIES: usize = 4096;

/// A request as far as it could be understood.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) model: String,
    pub(super) version: Option<String>,
    pub(super) id: String,
    /// How long the caller waits, by its parameter.
    pub(super) timeout: Option<Duration>,
    /// Apart, so that a refusal counts for the model that was asked.
    pub(super) request: Result<Request, ServerError>,
}

/// Reads a message. The request's deadline, and its parameters from headers, are the caller's to set.
pub(super) fn decode(message: Bytes, permit: &mut Permit) -> Result<Decoded, ServerError> {
    let message = Parts::read(message)?;
    let (model, id) = (message.model.clone(), message.id.clone());
    let version = version(&message.version).map(str::to_owned);
    let mut timeout = None;
    let request = message.into_request(permit, &mut timeout);
    Ok(Decoded { model, version, id, timeout, request })
}

/// The message's own fields.
#[derive(Debug, Default)]
struct Parts {
    model: String,
    version: String,
    id: String,
    parameters: Parameters,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    raw: Vec<Bytes>,
}

#[derive(Debug, Default)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    parameters: Parameters,
    /// The messages of its typed contents; protobuf allows a message to come in parts.
    contents: Vec<Bytes>,
}

#[derive(Debug, Default)]
struct Output {
    name: String,
    parameters: Parameters,
}

fn room<T>(list: &[T], what: &str) -> Result<(), ServerError> {
    if list.len() < MAX_ENTRIES { Ok(()) } else { Err(ServerError::invalid(format!("more than {MAX_ENTRIES} {what}"))) }
}

impl Parts {
    fn read(message: Bytes) -> Result<Self, ServerError> {
        let mut parts = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => parts.model = text(field, "model_name")?,
                2 => parts.version = text(field, "model_version")?,
                3 => parts.id = text(field, "id")?,
                4 => read_parameter(&mut parts.parameters, field)?,
                5 => {
                    room(&parts.inputs, "inputs")?;
                    parts.inputs.push(Input::read(data(field, "inputs")?)?);
                }
                6 => {
                    room(&parts.outputs, "outputs")?;
                    parts.outputs.push(Output::read(data(field, "outputs")?)?);
                }
                7 => {
                    room(&parts.raw, "raw_input_contents")?;
                    parts.raw.push(data(field, "raw_input_contents")?);
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    fn into_request(self, permit: &mut Permit, timeout: &mut Option<Duration>) -> Result<Request, ServerError> {
        let mut parameters = Parameters::new();
        for (name, value) in self.parameters.iter() {
            match reserved(name, value)? {
                Some(Reserved::Timeout(given)) => *timeout = given,
                // Answers are always raw here.
                Some(Reserved::BinaryDataOutput(_) | Reserved::Idle) => {}
                None => parameters.set(name, value.clone()),
            }
        }
        for (name, value) in self.outputs.iter().flat_map(|output| output.parameters.iter()) {
            reserved(name, value)?;
        }
        Ok(Request {
            inputs: tensors(&self.inputs, self.raw, permit)?,
            id: self.id,
            version: version(&self.version).map(str::to_owned),
            model: self.model,
            parameters,
            outputs: self.outputs.into_iter().map(|output| output.name).collect(),
            ..Request::default()
        })
    }
}

impl Input {
    fn read(message: Bytes) -> Result<Self, ServerError> {
        let mut input = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, field) => input.name = text(field, "an input's name")?,
                (2, field) => input.datatype = text(field, "an input's datatype")?,
                (3, Field::Data(packed)) => packed_varints(packed, |size| input.dimension(size))?,
                (3, Field::Varint(size)) => input.dimension(size)?,
                (4, field) => read_parameter(&mut input.parameters, field)?,
                (5, field) => {
                    room(&input.contents, "parts of an input's contents")?;
                    input.contents.push(data(field, "contents")?);
                }
                _ => {}
            }
        }
        Ok(input)
    }

    fn dimension(&mut self, size: u64) -> Result<(), ServerError> {
        room(&self.shape, "dimensions")?;
        self.shape.push(size.cast_signed());
        Ok(())
    }

    fn refuse(&self, what: impl std::fmt::Display) -> ServerError {
        ServerError::invalid(format!("input '{}': {what}", self.name))
    }

    fn shape(&self) -> Result<Vec<usize>, ServerError> {
        let size = |size: &i64| usize::try_from(*size);
        self.shape
            .iter()
            .map(size)
            .collect::<Result<_, _>>()
            .map_err(|_negative| self.refuse(format!("shape {:?} has a dimension that is not a size", self.shape)))
    }
}

impl Output {
    fn read(message: Bytes) -> Result<Self, ServerError> {
        let mut output = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => output.name = text(field, "an output's name")?,
                2 => read_parameter(&mut output.parameters, field)?,
                _ => {}
            }
        }
        Ok(output)
    }
}

/// One entry of a `map<string, InferParameter>`.
fn read_parameter(parameters: &mut Parameters, field: Field) -> Result<(), ServerError> {
    if parameters.iter().len() == MAX_ENTRIES {
        return Err(ServerError::invalid(format!("more than {MAX_ENTRIES} parameters")));
    }
    let (mut name, mut value) = (String::new(), InferParameter::default());
    let mut fields = Fields::of(data(field, "parameters")?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = text(field, "a parameter's name")?,
            2 => value.merge(data(field, "a parameter's value")?).map_err(malformed)?,
            _ => {}
        }
    }
    let value = match value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Value::Bool(value),
        Some(ParameterChoice::Int64Param(value)) => Value::Int64(value),
        Some(ParameterChoice::StringParam(value)) => Value::Text(value),
        Some(ParameterChoice::DoubleParam(value)) => Value::Double(value),
        Some(ParameterChoice::Uint64Param(value)) => Value::Uint64(value),
        None => return Err(ServerError::invalid(format!("parameter '{name}' has no value"))),
    };
    parameters.set(name, value);
    Ok(())
}

fn tensors(inputs: &[Input], raw: Vec<Bytes>, permit: &mut Permit) -> Result<Tensors, ServerError> {
    if !raw.is_empty() {
        if let Some(input) = inputs.iter().find(|input| input.contents.iter().any(|contents| !contents.is_empty())) {
            return Err(input.refuse("has contents, but the request has raw_input_contents too; expected one of them"));
        }
        if raw.len() != inputs.len() {
            let (given, expected) = (raw.len(), inputs.len());
            return Err(ServerError::invalid(format!(
                "raw_input_contents has {given} entries; expected {expected}, one for each input"
            )));
        }
    }
    let mut raw = raw.into_iter();
    let mut tensors = Tensors::new();
    for input in inputs {
        for (name, value) in input.parameters.iter() {
            reserved(name, value)?;
        }
        let dtype = DType::from_name(&input.datatype).ok_or_else(|| {
            let known = DType::ALL.map(DType::name).join(", ");
            input.refuse(format!("unknown datatype '{}'; expected one of {known}", input.datatype))
        })?;
        let shape = input.shape()?;
        let tensor = match raw.next() {
            Some(data) => raw_tensor(input, dtype, shape, &data, permit),
            None => typed_tensor(input, dtype, shape, permit),
        }?;
        tensors.push(input.name.clone(), tensor);
    }
    Ok(tensors)
}

/// What a BYTES element takes in memory beside its bytes.
const ELEMENT: usize = size_of::<Bytes>();

fn raw_tensor(
    input: &Input,
    dtype: DType,
    shape: Vec<usize>,
    data: &Bytes,
    permit: &mut Permit,
) -> Result<Tensor, ServerError> {
    if dtype == DType::Bytes {
        // Each element has four bytes of length, so the data bounds their number.
        let expected = element_count(&shape).map_err(|error| input.refuse(error))?;
        permit.reserve(expected.min(data.len() / 4) * ELEMENT)?;
    }
    binary::tensor(dtype, shape, data).map_err(|error| input.refuse(error))
}

fn typed_tensor(input: &Input, dtype: DType, shape: Vec<usize>, permit: &mut Permit) -> Result<Tensor, ServerError> {
    let expected = element_count(&shape).map_err(|error| input.refuse(error))?;
    let contents = Contents { input, dtype, expected, given: 0 };
    match dtype {
        DType::Bytes => contents.elements(shape, permit),
        DType::Fp32 => contents.floats::<4>(shape, permit),
        DType::Fp64 => contents.floats::<8>(shape, permit),
        DType::Bool => contents.varints(shape, permit, |bits| Some(u8::from(bits != 0))),
        // As protobuf has it: the value is the lower half of what stands on the wire, sign-extended to all of it.
        DType::Int8 => contents.varints(shape, permit, |bits| i8::try_from(bits as i32).ok()),
        DType::Int16 => contents.varints(shape, permit, |bits| i16::try_from(bits as i32).ok()),
        DType::Int32 => contents.varints(shape, permit, |bits| Some(bits as i32)),
        DType::Int64 => contents.varints(shape, permit, |bits| Some(bits.cast_signed())),
        DType::Uint8 => contents.varints(shape, permit, |bits| u8::try_from(bits as u32).ok()),
        DType::Uint16 => contents.varints(shape, permit, |bits| u16::try_from(bits as u32).ok()),
        DType::Uint32 => contents.varints(shape, permit, |bits| Some(bits as u32)),
        DType::Uint64 => contents.varints(shape, permit, Some),
        DType::Fp16 | DType::Bf16 if contents.bytes() == 0 && expected == 0 => {
            Ok(Tensor::from_wire(dtype, shape, Bytes::new())?)
        }
        DType::Fp16 | DType::Bf16 => {
            Err(input.refuse(format!("{dtype} has no typed contents; expected raw_input_contents")))
        }
    }
}

/// The number and name of the field that carries a dtype's elements.
fn field_of(dtype: DType) -> (u32, &'static str) {
    match dtype {
        DType::Bool => (1, "bool_contents"),
        DType::Int8 | DType::Int16 | DType::Int32 => (2, "int_contents"),
        DType::Int64 => (3, "int64_contents"),
        DType::Uint8 | DType::Uint16 | DType::Uint32 => (4, "uint_contents"),
        DType::Uint64 => (5, "uint64_contents"),
        DType::Fp32 => (6, "fp32_contents"),
        DType::Fp64 => (7, "fp64_contents"),
        DType::Bytes => (8, "bytes_contents"),
        DType::Fp16 | DType::Bf16 => (0, "raw_input_contents"),
    }
}

/// The typed contents of one input, and how many elements were seen.
#[derive(Debug)]
struct Contents<'a> {
    input: &'a Input,
    dtype: DType,
    expected: usize,
    given: usize,
}

impl Contents<'_> {
    /// On the wire, all together.
    fn bytes(&self) -> usize {
        self.input.contents.iter().map(Bytes::len).sum()
    }

    /// At most what is expected, and no more elements than the bytes could hold.
    fn capacity(&self, bytes_each: usize) -> usize {
        self.expected.min(self.bytes() / bytes_each)
    }

    /// Hands on each field that carries elements; another dtype's is an error.
    fn each(&mut self, mut take: impl FnMut(&mut Self, Field) -> Result<(), ServerError>) -> Result<(), ServerError> {
        let (number, name) = field_of(self.dtype);
        for part in &self.input.contents {
            let mut fields = Fields::of(part.clone());
            while let Some((given, field)) = fields.next()? {
                if given == number {
                    take(self, field)?;
                } else if (1..=8).contains(&given) && field != Field::Data(Bytes::new()) {
                    let message = format!("datatype {} takes {name}, but field {given} is filled", self.dtype);
                    return Err(self.input.refuse(message));
                }
            }
        }
        Ok(())
    }

    fn wrong_type(&self) -> ServerError {
        let (_, name) = field_of(self.dtype);
        malformed(format!("{name} has the wrong wire type"))
    }

    fn finish(&self, tensor: Result<Tensor, TensorError>) -> Result<Tensor, ServerError> {
        tensor.map_err(|error| self.input.refuse(error))
    }

    /// Refuses a count that differs; the elements beyond what was expected were counted but not kept.
    fn check_count(&self, shape: &[usize]) -> Result<(), ServerError> {
        if self.given == self.expected {
            return Ok(());
        }
        let (expected, given) = (self.expected, self.given);
        Err(self.input.refuse(TensorError::ElementCount { shape: shape.to_vec(), expected, given }))
    }

    fn varints<T: bytemuck::Pod>(
        mut self,
        shape: Vec<usize>,
        permit: &mut Permit,
        convert: impl Fn(u64) -> Option<T>,
    ) -> Result<Tensor, ServerError> {
        let bytes = self.capacity(1) * size_of::<T>();
        permit.reserve(bytes)?;
        let mut buffer = Buffer::with_capacity(bytes);
        let mut push = |contents: &mut Self, bits: u64| {
            if contents.given < contents.expected {
                let element = convert(bits).ok_or_else(|| {
                    let (value, dtype) = (bits.cast_signed(), contents.dtype);
                    contents.input.refuse(format!("element {} is {value}, which {dtype} cannot hold", contents.given))
                })?;
                buffer.push(element);
            }
            contents.given += 1;
            Ok(())
        };
        self.each(|contents, field| match field {
            Field::Varint(bits) => push(contents, bits),
            Field::Data(packed) => packed_varints(packed, |bits| push(contents, bits)),
            _ => Err(contents.wrong_type()),
        })?;
        self.check_count(&shape)?;
        self.finish(Tensor::from_buffer(self.dtype, shape, buffer))
    }

    /// Packed floats stand on the wire as they do in memory.
    fn floats<const SIZE: usize>(mut self, shape: Vec<usize>, permit: &mut Permit) -> Result<Tensor, ServerError> {
        let mut parts: Vec<Bytes> = Vec::new();
        let mut singles = Buffer::default();
        self.each(|contents, field| {
            match field {
                Field::Data(packed) if packed.len() % SIZE != 0 => return Err(contents.wrong_type()),
                Field::Data(packed) => {
                    room(&parts, "parts of an input's contents")?;
                    contents.given += packed.len() / SIZE;
                    parts.push(packed);
                }
                // One at a time, as old encoders write them: each has at least as many bytes on the wire as here.
                Field::Fixed32(bits) if SIZE == 4 => {
                    contents.given += 1;
                    singles.push(bits);
                }
                Field::Fixed64(bits) if SIZE == 8 => {
                    contents.given += 1;
                    singles.push(bits);
                }
                _ => return Err(contents.wrong_type()),
            }
            Ok(())
        })?;
        self.check_count(&shape)?;
        match (parts.as_slice(), singles.is_empty()) {
            // In place, or copied once where it is misaligned.
            ([only], true) => self.finish(Tensor::from_wire(self.dtype, shape, only.clone())),
            ([], _) => self.finish(Tensor::from_buffer(self.dtype, shape, singles)),
            (parts, true) => {
                let bytes = self.expected * SIZE;
                permit.reserve(bytes)?;
                let mut all = Buffer::with_capacity(bytes);
                for part in parts {
                    all.extend_from_slice::<u8>(part);
                }
                self.finish(Tensor::from_buffer(self.dtype, shape, all))
            }
            (_, false) => Err(self.input.refuse("packed and single elements are mixed")),
        }
    }

    fn elements(mut self, shape: Vec<usize>, permit: &mut Permit) -> Result<Tensor, ServerError> {
        // A key and a length are two bytes at least.
        let capacity = self.capacity(2);
        permit.reserve(capacity * ELEMENT)?;
        let mut elements = Vec::with_capacity(capacity);
        self.each(|contents, field| {
            let Field::Data(element) = field else { return Err(contents.wrong_type()) };
            if contents.given < contents.expected {
                elements.push(element);
            }
            contents.given += 1;
            Ok(())
        })?;
        self.check_count(&shape)?;
        self.finish(Tensor::from_elements(shape, elements))
    }
}

#[cfg(test)]
mod tests;
