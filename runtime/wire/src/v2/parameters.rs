//! The `parameters` objects of a V2 document: of the request, of a tensor, of an output that is asked for.

use std::time::Duration;

use corymb_core::{Parameters, Value};
use jiter::{Jiter, NumberAny, NumberInt, Peek};

use crate::json::fault::{Fault, found};
use crate::json::text::excerpt;
use crate::limits::Limits;
use crate::parameters::{Reserved, reserved};

/// Of the request.
#[derive(Debug, Default)]
pub(super) struct RequestParameters {
    /// For the model.
    pub(super) others: Parameters,
    pub(super) timeout: Option<Duration>,
    pub(super) priority: Option<u64>,
    pub(super) binary_data_output: bool,
}

/// Of a tensor.
#[derive(Debug, Default)]
pub(super) struct TensorParameters {
    /// Bytes of the binary part that are this tensor's.
    pub(super) binary_data_size: Option<usize>,
    /// Whether BYTES elements are base64: `"content_type": "base64"`, MLServer's word.
    pub(super) base64: bool,
}

/// Of an output.
#[derive(Debug, Default)]
pub(super) struct OutputParameters {
    pub(super) binary_data: Option<bool>,
}

impl RequestParameters {
    pub(super) fn read(json: &mut Jiter<'_>, limits: &Limits) -> Result<Self, Fault> {
        let mut parameters = Self::default();
        for_each(json, limits, |name, value| {
            match reserved(&name, &value)? {
                None => parameters.others.set(name, value),
                Some(Reserved::Timeout(timeout)) => parameters.timeout = timeout,
                Some(Reserved::Priority(priority)) => parameters.priority = Some(priority),
                Some(Reserved::BinaryDataOutput(wanted)) => parameters.binary_data_output = wanted,
                Some(Reserved::Idle) => {}
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}

impl TensorParameters {
    pub(super) fn read(json: &mut Jiter<'_>, limits: &Limits) -> Result<Self, Fault> {
        let mut parameters = Self::default();
        for_each(json, limits, |name, value| {
            match (name.as_str(), value) {
                ("binary_data_size", Value::Int64(size)) if size >= 0 => {
                    parameters.binary_data_size = usize::try_from(size).ok();
                }
                ("binary_data_size", _) => {
                    return Err(Fault::new("parameter 'binary_data_size' must be a number of bytes"));
                }
                ("content_type", Value::Text(content_type)) => parameters.base64 = content_type == "base64",
                (name, value) if name.starts_with("shared_memory_") => {
                    reserved(name, &value)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}

impl OutputParameters {
    pub(super) fn read(json: &mut Jiter<'_>, limits: &Limits) -> Result<Self, Fault> {
        let mut parameters = Self::default();
        for_each(json, limits, |name, value| {
            match (name.as_str(), value) {
                ("binary_data", Value::Bool(wanted)) => parameters.binary_data = Some(wanted),
                ("binary_data", _) => return Err(Fault::new("parameter 'binary_data' must be true or false")),
                // Zero classes is Triton's way to ask for none.
                ("classification", Value::Int64(0)) => {}
                (name, value) if name == "classification" || name.starts_with("shared_memory_") => {
                    reserved(name, &value)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}

fn for_each(
    json: &mut Jiter<'_>,
    limits: &Limits,
    mut take: impl FnMut(String, Value) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match json.peek()? {
        Peek::Null => return Ok(json.known_null()?),
        Peek::Object => {}
        other => {
            let found = found(other).unwrap_or("malformed");
            return Err(Fault::new(format!("`parameters` is {found}; expected an object")));
        }
    }
    let mut name = json.known_object()?.map(str::to_owned);
    let mut count = 0;
    while let Some(known) = name {
        count += 1;
        if count > limits.parameters {
            return Err(Fault::new(format!("more than {} parameters", limits.parameters)));
        }
        if let Some(value) = read_value(json, &known)? {
            take(known, value)?;
        }
        name = json.next_key()?.map(str::to_owned);
    }
    Ok(())
}

/// None for null, which says as much as leaving it out.
fn read_value(json: &mut Jiter<'_>, name: &str) -> Result<Option<Value>, Fault> {
    let peek = json.peek()?;
    Ok(Some(match peek {
        Peek::Null => {
            json.known_null()?;
            return Ok(None);
        }
        Peek::True | Peek::False => Value::Bool(json.known_bool(peek)?),
        Peek::String => Value::Text(json.known_str()?.to_owned()),
        Peek::Array | Peek::Object => {
            let (name, found) = (excerpt(name), found(peek).unwrap_or_default());
            let what = format!("parameter '{name}' is {found}; expected a text, a number or a boolean");
            return Err(Fault::new(what));
        }
        _ => match json.known_number(peek)? {
            NumberAny::Int(NumberInt::Int(value)) => Value::Int64(value),
            // The parser calls everything big that it did not fit into its first 18 digits.
            NumberAny::Int(NumberInt::BigInt(value)) => match (i64::try_from(&value), u64::try_from(&value)) {
                (Ok(value), _) => Value::Int64(value),
                (_, Ok(value)) => Value::Uint64(value),
                _ => Value::Double(NumberInt::BigInt(value).into()),
            },
            NumberAny::Float(value) => Value::Double(value),
        },
    }))
}
