//! One tensor of a V2 document while its members come in: inputs of a request, and outputs of an answer.

use std::ops::Range;

use bytes::Bytes;
use corymb_core::{Code, DType, Error, Tensor, element_count};
use jiter::{Jiter, NumberInt, Peek};

use super::member::{list, once, text, unexpected};
use super::parameters::TensorParameters;
use crate::json::column::{Column, Source};
use crate::json::fault::Fault;
use crate::json::text::excerpt;
use crate::raw;

/// A tensor whose members are all there; its binary data may be still to come.
pub(super) struct Declared {
    pub(super) name: String,
    dtype: DType,
    shape: Vec<usize>,
    parameters: TensorParameters,
    data: Option<Column>,
}

#[derive(Default)]
struct Draft {
    name: Option<String>,
    dtype: Option<DType>,
    shape: Option<Vec<usize>>,
    parameters: Option<TensorParameters>,
    data: Option<Data>,
}

enum Data {
    Read(Column),
    /// Where `data` lies that came before its `datatype`: read once that is known.
    Later(Range<usize>),
}

/// Reads the object at which `json` stands, the `index`-th of `list`.
pub(super) fn read(
    json: &mut Jiter<'_>,
    peek: Peek,
    (list, index): (&str, usize),
    role: &str,
    source: &mut Source<'_>,
) -> Result<Declared, Error> {
    let mut draft = Draft::default();
    draft.read(json, peek, source).and_then(|()| draft.finish(source)).map_err(|fault| {
        let place = draft.name.as_ref().map(|name| format!("{role} '{}'", excerpt(name)));
        fault.into_error(&place.unwrap_or_else(|| format!("{list}[{index}]")), source.body)
    })
}

impl Draft {
    fn read(&mut self, json: &mut Jiter<'_>, peek: Peek, source: &mut Source<'_>) -> Result<(), Fault> {
        if peek != Peek::Object {
            return Err(unexpected(json, peek, "an object"));
        }
        let mut member = json.known_object()?.map(Member::of);
        while let Some(known) = member {
            match known {
                Member::Name => once(&mut self.name, text(json, "name")?, "name")?,
                Member::Datatype => {
                    let dtype = text(json, "datatype")?.map(|name| datatype(&name)).transpose()?;
                    once(&mut self.dtype, dtype, "datatype")?;
                }
                Member::Shape => once(&mut self.shape, shape(json)?, "shape")?,
                Member::Parameters => {
                    let parameters = TensorParameters::read(json, source.ledger.limits)?;
                    once(&mut self.parameters, Some(parameters), "parameters")?;
                }
                Member::Data => {
                    let data = self.data(json, source)?;
                    once(&mut self.data, data, "data")?;
                }
                Member::Other => json.next_skip()?,
            }
            member = json.next_key()?.map(Member::of);
        }
        Ok(())
    }

    fn data(&self, json: &mut Jiter<'_>, source: &mut Source<'_>) -> Result<Option<Data>, Fault> {
        let peek = json.peek()?;
        if peek == Peek::Null {
            json.known_null()?;
            return Ok(None);
        }
        let start = json.current_index();
        let Some(dtype) = self.dtype else {
            json.known_skip(peek)?;
            return Ok(Some(Data::Later(start..json.current_index())));
        };
        let expected = expected_elements(source.body.len() - start, self.shape.as_deref())?;
        let mut column = Column::new(dtype, expected, &mut source.ledger)?;
        column.read_all(json, peek, source)?;
        Ok(Some(Data::Read(column)))
    }

    fn finish(&mut self, source: &mut Source<'_>) -> Result<Declared, Fault> {
        let missing = |member: &str| Fault::new(format!("`{member}` is missing"));
        if self.name.is_none() {
            return Err(missing("name"));
        }
        let dtype = self.dtype.ok_or_else(|| missing("datatype"))?;
        let shape = self.shape.take().ok_or_else(|| missing("shape"))?;
        let data = match self.data.take() {
            None => None,
            Some(Data::Read(column)) => Some(column),
            Some(Data::Later(range)) => {
                let start = range.start;
                let mut json = Jiter::new(&source.body[range]).with_allow_inf_nan();
                let expected = expected_elements(source.body.len() - start, Some(&shape))?;
                let mut column = Column::new(dtype, expected, &mut source.ledger)?;
                let peek = json.peek()?;
                column.read_all(&mut json, peek, source).map_err(|fault| fault.shifted(start))?;
                Some(column)
            }
        };
        let name = self.name.take().unwrap_or_default();
        Ok(Declared { name, dtype, shape, parameters: self.parameters.take().unwrap_or_default(), data })
    }
}

impl Declared {
    /// The tensor. It takes its bytes off the front of `rest` where it has its data there.
    pub(super) fn finish(&mut self, rest: &mut Bytes, source: &mut Source<'_>) -> Result<Tensor, Error> {
        let shape = std::mem::take(&mut self.shape);
        match (self.data.take(), self.parameters.binary_data_size) {
            (Some(_), Some(_)) => Err(invalid("has both `data` and the parameter `binary_data_size`")),
            (None, None) => Err(invalid("has neither `data` nor the parameter `binary_data_size`")),
            (Some(mut column), None) => {
                if self.parameters.base64 {
                    column.undo_base64(&mut source.ledger)?;
                }
                Ok(column.into_shape(shape)?)
            }
            (None, Some(size)) if size > rest.len() => {
                let message = format!("takes {size} bytes of binary data; {} are left", rest.len());
                Err(invalid(message))
            }
            (None, Some(size)) => raw::tensor(self.dtype, shape, &rest.split_to(size), &mut source.ledger),
        }
    }
}

enum Member {
    Name,
    Datatype,
    Shape,
    Parameters,
    Data,
    Other,
}

impl Member {
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

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}
