//! V2's reserved parameters: those that speak to the server and not to the model.

use std::time::Duration;

use corymb_core::{Code, Error, Value};

/// What a request's parameter is for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reserved {
    /// Whether outputs are binary where nothing else is said.
    BinaryDataOutput(bool),
    /// How long the caller waits; none for as long as it takes.
    Timeout(Option<Duration>),
    /// Which requests go first: 1 before 2.
    Priority(u64),
    /// Says nothing that changes the answer.
    Idle,
}

/// What the server makes of a request's parameter; none for one that it hands on.
///
/// `timeout` is in microseconds, as Triton has it, and 0 means none.
pub(crate) fn reserved(name: &str, value: &Value) -> Result<Option<Reserved>, Error> {
    let invalid = |expected: &str| Error::new(Code::InvalidArgument, format!("parameter '{name}' must be {expected}"));
    let unimplemented = |what: &str| Error::new(Code::Unimplemented, format!("{what} (parameter '{name}')"));
    Ok(Some(match (name, value) {
        ("binary_data_output", Value::Bool(wanted)) => Reserved::BinaryDataOutput(*wanted),
        ("binary_data_output", _) => return Err(invalid("true or false")),
        ("timeout", Value::Int64(0) | Value::Uint64(0)) => Reserved::Timeout(None),
        ("timeout", Value::Uint64(micros)) => Reserved::Timeout(Some(Duration::from_micros(*micros))),
        ("timeout", Value::Int64(micros)) => match u64::try_from(*micros) {
            Ok(micros) => Reserved::Timeout(Some(Duration::from_micros(micros))),
            Err(_) => return Err(invalid("a number of microseconds, not negative")),
        },
        ("timeout", _) => return Err(invalid("a whole number of microseconds")),
        ("sequence_id", Value::Int64(0) | Value::Uint64(0)) => Reserved::Idle,
        ("sequence_id", Value::Text(id)) if id.is_empty() => Reserved::Idle,
        ("sequence_start" | "sequence_end", Value::Bool(false)) => Reserved::Idle,
        ("sequence_id" | "sequence_start" | "sequence_end", _) => {
            return Err(unimplemented("models that keep state between requests are not supported"));
        }
        ("priority", Value::Uint64(priority)) if *priority > 0 => Reserved::Priority(*priority),
        ("priority", Value::Int64(priority)) if *priority > 0 => Reserved::Priority(priority.unsigned_abs()),
        // Triton's default is 0, which leaves the order to the model.
        ("priority", _) => Reserved::Idle,
        ("classification", _) => return Err(unimplemented("classification is not supported")),
        _ if name.starts_with("shared_memory_") => {
            return Err(unimplemented("shared memory is not supported"));
        }
        _ if name.starts_with("triton_") => {
            let message = format!("parameter '{name}' is reserved: no name may begin with 'triton_'");
            return Err(Error::new(Code::InvalidArgument, message));
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_understood_or_refused() {
        let text = |text: &str| Value::Text(text.to_owned());
        let timeout = |micros| Ok(Some(Reserved::Timeout(Some(Duration::from_micros(micros)))));
        type Expected = Result<Option<Reserved>, Code>;
        let cases: [(&str, Value, Expected); 17] = [
            ("binary_data_output", Value::Bool(true), Ok(Some(Reserved::BinaryDataOutput(true)))),
            ("binary_data_output", Value::Int64(1), Err(Code::InvalidArgument)),
            ("timeout", Value::Int64(250), timeout(250)),
            ("timeout", Value::Uint64(u64::MAX), timeout(u64::MAX)),
            ("timeout", Value::Int64(0), Ok(Some(Reserved::Timeout(None)))),
            ("timeout", Value::Int64(-1), Err(Code::InvalidArgument)),
            ("timeout", Value::Double(1.5), Err(Code::InvalidArgument)),
            ("sequence_id", Value::Int64(0), Ok(Some(Reserved::Idle))),
            ("sequence_id", text("a"), Err(Code::Unimplemented)),
            ("sequence_start", Value::Bool(true), Err(Code::Unimplemented)),
            ("classification", Value::Int64(3), Err(Code::Unimplemented)),
            ("shared_memory_region", text("r"), Err(Code::Unimplemented)),
            ("triton_x", text(""), Err(Code::InvalidArgument)),
            ("priority", Value::Int64(1), Ok(Some(Reserved::Priority(1)))),
            ("priority", Value::Uint64(0), Ok(Some(Reserved::Idle))),
            ("priority", Value::Int64(-1), Ok(Some(Reserved::Idle))),
            ("threshold", Value::Double(0.5), Ok(None)),
        ];
        for (name, value, expected) in cases {
            assert_eq!(reserved(name, &value).map_err(|error| error.code), expected, "{name} {value:?}");
        }
    }
}
