//! Tensors as a V1 document: `predictions` or `outputs` of an answer, `instances` or `inputs` of a request.

use corymb_core::{Code, Error, Tensors};

use super::Form;
use crate::json::writer::{Values, nesting_len, string_len, write_nested, write_string};
use crate::limits::{Budget, reserved};

/// What the brackets around all of it take at most.
const AROUND: usize = 16;

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
    let [rows_member, columns_member] = members;
    let (member, rows) = match form {
        Form::Rows(rows) => (rows_member, rows),
        Form::Columns => (columns_member, 1),
    };
    // The names stand in each row, and each row has a comma, and brackets of its own where there are several names.
    let mut capacity = string_len(member.as_bytes()).saturating_add(AROUND).saturating_add(rows.saturating_mul(3));
    for (name, tensor) in tensors.iter() {
        let documents = documents(name);
        let values = Values::of_v1(name, tensor, documents)?;
        let named = rows.saturating_mul(string_len(name.as_bytes()) + ":,".len());
        let most = values.most_len().saturating_add(nesting_len(tensor.shape())).saturating_add(named);
        capacity = capacity.saturating_add(most);
        columns.push((name, tensor.shape(), values));
    }
    if let Form::Rows(rows) = form {
        check_rows(&columns, rows)?;
    }
    let mut out = reserved(capacity, budget)?;
    let room = out.capacity();
    out.push(b'{');
    match form {
        Form::Rows(rows) => {
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
    if cfg!(test) {
        assert!(out.len() <= room, "an answer of {} bytes, of which {room} were asked for", out.len());
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
