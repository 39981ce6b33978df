//! `ModelInferRequest`, read straight from the wire into tensors.
//!
//! Nothing is built in between: packed floats and raw contents are used in place, integers are written once into the
//! tensor's own buffer. So a message cannot claim many times its size in memory, as it could by way of a generated
//! type with its lists of lists; what still grows (a BYTES element takes more than its two bytes on the wire, an INT64
//! up to eight times) is asked of the budget before it is allocated.

use std::time::Duration;

use bytes::Bytes;
use corymb_core::{Buffer, Code, DType, Error, Parameters, Tensor, TensorError, Tensors, Value, element_count};
use corymb_proto::inference::InferParameter;
use corymb_proto::inference::infer_parameter::ParameterChoice;
use prost::Message;

use super::fields::{Field, Fields, data, malformed, packed_varints, text};
use crate::decoded::Decoded;
use crate::limits::{Budget, ELEMENT, Ledger, Limits};
use crate::parameters::{Reserved, reserved};
use crate::raw;

/// What a message says before its tensors: enough to find the model that decides about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Which model.
    pub model: String,
    /// Which version; none for the one that serves.
    pub version: Option<String>,
    /// The caller's own name for the request; empty where none was given.
    pub id: String,
    /// How long the caller waits, by its parameter.
    pub timeout: Option<Duration>,
}

/// Looks at a message's own fields, wherever they stand; what is in an input is passed over. The work is bounded by the
/// number of fields and the length of names, not by the size of the message.
///
/// # Errors
/// [`Code::InvalidArgument`] where this is not protobuf, has more fields than a request can have, or a longer name.
pub fn look(message: &Bytes, limits: &Limits) -> Result<Look, Error> {
    let mut look = Look::default();
    let mut fields = Fields::of(message.clone());
    let mut seen = 0;
    while let Some((number, field)) = fields.next()? {
        seen += 1;
        if seen > FIELDS * limits.entries {
            return Err(invalid(format!("the message has more than {} fields", FIELDS * limits.entries)));
        }
        match number {
            1 => look.model = name(field, "model_name")?,
            2 => look.version = Some(name(field, "model_version")?).filter(|version| !version.is_empty()),
            // A longer one is read with the rest, and stands in no refusal.
            3 if matches!(&field, Field::Data(id) if id.len() > NAME) => look.id.clear(),
            3 => look.id = text(field, "id")?,
            4 if matches!(&field, Field::Data(entry) if entry.len() <= NAME) => {
                let mut one = Parameters::new();
                read_parameter(&mut one, field, limits)?;
                let timeout = one.get("timeout").map(|value| reserved("timeout", value));
                // A wrong one is refused when the message is decoded, and then counts for the model.
                if let Some(Ok(Some(Reserved::Timeout(timeout)))) = timeout {
                    look.timeout = timeout;
                }
            }
            _ => {}
        }
    }
    Ok(look)
}

/// Kinds of fields of which a request may have as many as there are entries: parameters, inputs, outputs, raw contents; and
/// as many again for what stands once.
const FIELDS: usize = 5;

/// Bytes of a model's name, and of what else is copied by a look: no file's name is so long.
pub(super) const NAME: usize = 4096;

fn name(field: Field, what: &str) -> Result<String, Error> {
    match &field {
        Field::Data(data) if data.len() > NAME => {
            Err(invalid(format!("{what} has {} bytes; at most {NAME} are accepted", data.len())))
        }
        _ => text(field, what),
    }
}

/// Reads the tensors and parameters of a message.
///
/// # Errors
/// [`Code::InvalidArgument`] names the input, what was given and what was expected; [`Code::TooLarge`] and what `budget`
/// refuses.
pub fn decode(message: &Bytes, limits: &Limits, budget: &mut dyn Budget) -> Result<Decoded<()>, Error> {
    let mut ledger = Ledger::new(limits, budget);
    let decoded = Parts::read(message.clone(), limits)?.into_decoded(&mut ledger)?;
    ledger.settle()?;
    Ok(decoded)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

/// The message's own fields.
#[derive(Debug, Default)]
struct Parts {
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

fn room<T>(list: &[T], what: &str, limits: &Limits) -> Result<(), Error> {
    if list.len() < limits.entries { Ok(()) } else { Err(invalid(format!("more than {} {what}", limits.entries))) }
}

impl Parts {
    fn read(message: Bytes, limits: &Limits) -> Result<Self, Error> {
        let mut parts = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                3 => parts.id = text(field, "id")?,
                4 => read_parameter(&mut parts.parameters, field, limits)?,
                5 => {
                    room(&parts.inputs, "inputs", limits)?;
                    parts.inputs.push(Input::read(data(field, "inputs")?, limits)?);
                }
                6 => {
                    room(&parts.outputs, "outputs", limits)?;
                    parts.outputs.push(Output::read(data(field, "outputs")?, limits)?);
                }
                7 => {
                    room(&parts.raw, "raw_input_contents", limits)?;
                    parts.raw.push(data(field, "raw_input_contents")?);
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    fn into_decoded(self, ledger: &mut Ledger<'_>) -> Result<Decoded<()>, Error> {
        let (mut parameters, mut timeout, mut priority) = (Parameters::new(), None, None);
        for (name, value) in self.parameters.iter() {
            match reserved(name, value)? {
                Some(Reserved::Timeout(given)) => timeout = given,
                Some(Reserved::Priority(given)) => priority = Some(given),
                // Answers are always raw here.
                Some(Reserved::BinaryDataOutput(_) | Reserved::Idle) => {}
                None => parameters.set(name, value.clone()),
            }
        }
        for (name, value) in self.outputs.iter().flat_map(|output| output.parameters.iter()) {
            reserved(name, value)?;
        }
        Ok(Decoded {
            inputs: tensors(&self.inputs, self.raw, ledger)?,
            id: self.id,
            parameters,
            outputs: self.outputs.into_iter().map(|output| output.name).collect(),
            timeout,
            priority,
            ask: (),
        })
    }
}

impl Input {
    fn read(message: Bytes, limits: &Limits) -> Result<Self, Error> {
        let mut input = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, field) => input.name = text(field, "an input's name")?,
                (2, field) => input.datatype = text(field, "an input's datatype")?,
                (3, Field::Data(packed)) => packed_varints(packed, |size| input.dimension(size, limits))?,
                (3, Field::Varint(size)) => input.dimension(size, limits)?,
                (4, field) => read_parameter(&mut input.parameters, field, limits)?,
                (5, field) => {
                    room(&input.contents, "parts of an input's contents", limits)?;
                    input.contents.push(data(field, "contents")?);
                }
                _ => {}
            }
        }
        Ok(input)
    }

    fn dimension(&mut self, size: u64, limits: &Limits) -> Result<(), Error> {
        room(&self.shape, "dimensions", limits)?;
        self.shape.push(size.cast_signed());
        Ok(())
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Error {
        invalid(format!("input '{}': {what}", self.name))
    }

    fn at(&self, error: Error) -> Error {
        Error { message: format!("input '{}': {}", self.name, error.message), ..error }
    }

    fn shape(&self) -> Result<Vec<usize>, Error> {
        let size = |size: &i64| usize::try_from(*size);
        self.shape
            .iter()
            .map(size)
            .collect::<Result<_, _>>()
            .map_err(|_negative| self.refuse(format!("shape {:?} has a dimension that is not a size", self.shape)))
    }
}

impl Output {
    fn read(message: Bytes, limits: &Limits) -> Result<Self, Error> {
        let mut output = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => output.name = text(field, "an output's name")?,
                2 => read_parameter(&mut output.parameters, field, limits)?,
                _ => {}
            }
        }
        Ok(output)
    }
}

/// One entry of a `map<string, InferParameter>`.
fn read_parameter(parameters: &mut Parameters, field: Field, limits: &Limits) -> Result<(), Error> {
    if parameters.iter().len() == limits.parameters {
        return Err(invalid(format!("more than {} parameters", limits.parameters)));
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
        None => return Err(invalid(format!("parameter '{name}' has no value"))),
    };
    parameters.set(name, value);
    Ok(())
}

fn tensors(inputs: &[Input], raw: Vec<Bytes>, ledger: &mut Ledger<'_>) -> Result<Tensors, Error> {
    if !raw.is_empty() {
        if let Some(input) = inputs.iter().find(|input| input.contents.iter().any(|contents| !contents.is_empty())) {
            return Err(input.refuse("has contents, but the request has raw_input_contents too; expected one of them"));
        }
        if raw.len() != inputs.len() {
            let (given, expected) = (raw.len(), inputs.len());
            return Err(invalid(format!(
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
            Some(data) => raw::tensor(dtype, shape, &data, ledger).map_err(|error| input.at(error)),
            None => typed_tensor(input, dtype, shape, ledger),
        }?;
        tensors.push(input.name.clone(), tensor);
    }
    Ok(tensors)
}

fn typed_tensor(input: &Input, dtype: DType, shape: Vec<usize>, ledger: &mut Ledger<'_>) -> Result<Tensor, Error> {
    let expected = element_count(&shape).map_err(|error| input.refuse(error))?;
    let contents = Contents { input, dtype, expected, given: 0 };
    match dtype {
        DType::Bytes => contents.elements(shape, ledger),
        DType::Fp32 => contents.floats::<4>(shape, ledger),
        DType::Fp64 => contents.floats::<8>(shape, ledger),
        DType::Bool => contents.varints(shape, ledger, |bits| Some(u8::from(bits != 0))),
        // As protobuf has it: the value is the lower half of what stands on the wire, sign-extended to all of it.
        DType::Int8 => contents.varints(shape, ledger, |bits| i8::try_from(bits as i32).ok()),
        DType::Int16 => contents.varints(shape, ledger, |bits| i16::try_from(bits as i32).ok()),
        DType::Int32 => contents.varints(shape, ledger, |bits| Some(bits as i32)),
        DType::Int64 => contents.varints(shape, ledger, |bits| Some(bits.cast_signed())),
        DType::Uint8 => contents.varints(shape, ledger, |bits| u8::try_from(bits as u32).ok()),
        DType::Uint16 => contents.varints(shape, ledger, |bits| u16::try_from(bits as u32).ok()),
        DType::Uint32 => contents.varints(shape, ledger, |bits| Some(bits as u32)),
        DType::Uint64 => contents.varints(shape, ledger, Some),
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
    fn each(&mut self, mut take: impl FnMut(&mut Self, Field) -> Result<(), Error>) -> Result<(), Error> {
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

    fn wrong_type(&self) -> Error {
        let (_, name) = field_of(self.dtype);
        malformed(format!("{name} has the wrong wire type"))
    }

    fn finish(&self, tensor: Result<Tensor, TensorError>) -> Result<Tensor, Error> {
        tensor.map_err(|error| self.input.refuse(error))
    }

    /// Refuses a count that differs; the elements beyond what was expected were counted but not kept.
    fn check_count(&self, shape: &[usize]) -> Result<(), Error> {
        if self.given == self.expected {
            return Ok(());
        }
        let (expected, given) = (self.expected, self.given);
        Err(self.input.refuse(TensorError::ElementCount { shape: shape.to_vec(), expected, given }))
    }

    fn varints<T: bytemuck::Pod>(
        mut self,
        shape: Vec<usize>,
        ledger: &mut Ledger<'_>,
        convert: impl Fn(u64) -> Option<T>,
    ) -> Result<Tensor, Error> {
        let bytes = self.capacity(1) * size_of::<T>();
        ledger.take(bytes)?;
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
    fn floats<const SIZE: usize>(mut self, shape: Vec<usize>, ledger: &mut Ledger<'_>) -> Result<Tensor, Error> {
        let limits = ledger.limits;
        let mut parts: Vec<Bytes> = Vec::new();
        let mut singles = Buffer::default();
        self.each(|contents, field| {
            match field {
                Field::Data(packed) if packed.len() % SIZE != 0 => return Err(contents.wrong_type()),
                Field::Data(packed) => {
                    room(&parts, "parts of an input's contents", limits)?;
                    contents.given += packed.len() / SIZE;
                    parts.push(packed);
                }
                // One at a time, as old encoders write them: each has at least as many bytes on the wire as here.
                Field::Fixed32(bits) if SIZE == 4 => {
                    ledger.hold(SIZE)?;
                    contents.given += 1;
                    singles.push(bits);
                }
                Field::Fixed64(bits) if SIZE == 8 => {
                    ledger.hold(SIZE)?;
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
            ([only], true) => {
                if !only.as_ptr().addr().is_multiple_of(SIZE) {
                    ledger.hold(only.len())?;
                }
                self.finish(Tensor::from_wire(self.dtype, shape, only.clone()))
            }
            ([], _) => self.finish(Tensor::from_buffer(self.dtype, shape, singles)),
            (parts, true) => {
                let bytes = self.expected * SIZE;
                ledger.hold(bytes)?;
                let mut all = Buffer::with_capacity(bytes);
                for part in parts {
                    all.extend_from_slice::<u8>(part);
                }
                self.finish(Tensor::from_buffer(self.dtype, shape, all))
            }
            (_, false) => Err(self.input.refuse("packed and single elements are mixed")),
        }
    }

    fn elements(mut self, shape: Vec<usize>, ledger: &mut Ledger<'_>) -> Result<Tensor, Error> {
        let limits = ledger.limits;
        // A key and a length are two bytes at least.
        let capacity = self.capacity(2).min(limits.elements);
        ledger.take(capacity * ELEMENT)?;
        let mut elements = Vec::with_capacity(capacity);
        self.each(|contents, field| {
            let Field::Data(element) = field else { return Err(contents.wrong_type()) };
            if contents.given < contents.expected {
                limits.check_element(contents.given).map_err(|error| contents.input.at(error))?;
                elements.push(element);
            }
            contents.given += 1;
            Ok(())
        })?;
        self.check_count(&shape)?;
        self.finish(Tensor::from_elements(shape, elements))
    }
}
