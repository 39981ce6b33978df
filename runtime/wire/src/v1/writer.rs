//! Tensors as a V1 document: `predictions` or `outputs` of an answer, `instances` or `inputs` of a request.

use corymb_core::{Code, Error, Tensors};

use super::Form;
use crate::json::writer::{Values, write_nested, write_string};
use crate::limits::{Budget, reserved};

/// Writes tensors as rows under the first of `members`, or as columns under the second. A single tensor drops its name.
///
/// `documents` says of which BYTES tensors each element is a JSON text of its own.
///
/// # Errors
/// Tensors without one row for each instance cannot be written as rows; the message points to the columnar form. What
/// `budget` refuses.
pub(super) fn write(
    members: [&str; 2],
    form: Form,
    tensors: &Tensors,
    documents: impl Fn(&str) -> bool,
    budget: &mut dyn Budget,
) -> Result<Vec<u8>, Error> {
    let mut columns = Vec::with_capacity(tensors.len());
    let mut capacity = 64;
    for (name, tensor) in tensors.iter() {
        let documents = documents(name);
        let values = Values::of_v1(name, tensor, documents)?;
        capacity += values.expected_len() + name.len();
        columns.push((name, tensor.shape(), values));
    }
    let mut out = reserved(capacity, budget)?;
    let [rows_member, columns_member] = members;
    out.push(b'{');
    match form {
        Form::Rows(rows) => {
            check_rows(&columns, rows)?;
            write_string(rows_member, &mut out);
            out.extend_from_slice(b":[");
            for row in 0..rows {
                if row > 0 {
                    out.push(b',');
                }
                write_row(&columns, row, &mut out);
            }
            out.extend_from_slice(b"]}");
        }
        Form::Columns => {
            write_string(columns_member, &mut out);
            out.push(b':');
            write_members(&columns, &mut out, |(_, shape, values), out| {
                write_nested(values, shape, &mut 0, out);
            });
            out.push(b'}');
        }
    }
    Ok(out)
}

type Output<'a> = (&'a str, &'a [usize], Values<'a>);

fn check_rows(columns: &[Output<'_>], rows: usize) -> Result<(), Error> {
    match columns.iter().find(|(_, shape, _)| shape.first() != Some(&rows)) {
        None => Ok(()),
        Some((name, shape, _)) => {
            let shape = corymb_core::format_dims(shape);
            let message =
                format!("output '{name}' has shape {shape}, which is not one row for each of {rows} instances");
            Err(Error::new(
                Code::InvalidArgument,
                format!("{message}; send `inputs` instead of `instances` to get it as it is"),
            ))
        }
    }
}

fn write_row(columns: &[Output<'_>], row: usize, out: &mut Vec<u8>) {
    write_members(columns, out, |(_, shape, values), out| {
        let shape = &shape[1..];
        let mut start = row * shape.iter().product::<usize>();
        write_nested(values, shape, &mut start, out);
    });
}

fn write_members(columns: &[Output<'_>], out: &mut Vec<u8>, write: impl Fn(&Output<'_>, &mut Vec<u8>)) {
    if let [only] = columns {
        write(only, out);
        return;
    }
    out.push(b'{');
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(column.0, out);
        out.push(b':');
        write(column, out);
    }
    out.push(b'}');
}
