//! V1's predict: `instances` (rows) or `inputs` (columns) in, `predictions` or `outputs` out.
//!
//! The format is TensorFlow Serving's `api_rest.md`; the rules beyond it are:
//! * a row is an object of named values, or, where the model requires one input only, that input's bare value;
//! * a list of named rows under `inputs`, as KServe's clients send it, is read and answered like `instances`;
//! * unknown members are ignored, a known one given twice is an error;
//! * elements of inputs and outputs of media type `application/json` are values of the JSON itself.

use bytes::Bytes;
use corymb_core::{Code, DType, Error, Signature, SignatureError, Tensors};
use jiter::{Jiter, JiterError, Peek};

use super::column::{Column, Source, holds_documents};
use super::fault::{found, malformed};
use super::text::excerpt;
use super::writer::{Values, write_nested, write_string};

/// How the request was written, and so how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `instances`: this many.
    Rows(usize),
    /// `inputs`.
    Columns,
}

/// Reads a request's body into tensors.
pub(crate) fn decode(signature: &Signature, body: &Bytes) -> Result<(Tensors, Form), Error> {
    let mut reader = Reader::new(signature, body);
    let form = reader.request()?;
    Ok((reader.into_tensors(form)?, form))
}

enum Member {
    Instances,
    Inputs,
    SignatureName,
    Other,
}

impl Member {
    fn of(key: &str) -> Self {
        match key {
            "instances" => Self::Instances,
            "inputs" => Self::Inputs,
            "signature_name" => Self::SignatureName,
            _ => Self::Other,
        }
    }
}

struct Reader<'a> {
    signature: &'a Signature,
    json: Jiter<'a>,
    source: Source<'a>,
    /// One per input of the signature; none until it has been given.
    columns: Vec<Option<Column>>,
    /// The input that a bare value belongs to.
    sole: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(signature: &'a Signature, body: &'a Bytes) -> Self {
        let required = |spec: &&corymb_core::TensorSpec| !spec.optional;
        let sole = match (signature.inputs.iter().filter(required).count(), signature.inputs.len()) {
            (1, _) => signature.inputs.iter().position(|spec| !spec.optional),
            (0, 1) => Some(0),
            _ => None,
        };
        Self {
            signature,
            json: Jiter::new(body).with_allow_inf_nan(),
            source: Source::new(body),
            columns: signature.inputs.iter().map(|_| None).collect(),
            sole,
        }
    }

    fn request(&mut self) -> Result<Form, Error> {
        let mut form = None;
        let mut member = self.first_member()?;
        while let Some(known) = member {
            match known {
                Member::Instances | Member::Inputs if form.is_some() => {
                    return Err(invalid("only one of `instances` and `inputs` may be given, and only once"));
                }
                Member::Instances => form = Some(self.instances()?),
                Member::Inputs => form = Some(self.inputs()?),
                Member::SignatureName => self.signature_name()?,
                Member::Other => self.json.next_skip().map_err(|error| self.malformed(&error))?,
            }
            member = match self.json.next_key() {
                Ok(key) => key.map(Member::of),
                Err(error) => return Err(self.malformed(&error)),
            };
        }
        self.json.finish().map_err(|error| self.malformed(&error))?;
        form.ok_or_else(|| invalid("the body has neither `instances` nor `inputs`"))
    }

    fn first_member(&mut self) -> Result<Option<Member>, Error> {
        let body = self.source.body;
        self.json.next_object().map(|key| key.map(Member::of)).map_err(|error| malformed(&error, body))
    }

    fn signature_name(&mut self) -> Result<(), Error> {
        const DEFAULT: &str = "serving_default";
        match self.peek()? {
            Peek::Null => self.json.known_null().map_err(|error| self.malformed(&error)),
            Peek::String => match self.json.known_str() {
                Ok("" | DEFAULT) => Ok(()),
                Ok(other) => {
                    let other = excerpt(other);
                    Err(invalid(format!("unknown signature '{other}'; this model serves '{DEFAULT}'")))
                }
                Err(error) => Err(self.malformed(&error)),
            },
            other => {
                Err(invalid(format!("`signature_name` is {}; expected a text", found(other).unwrap_or("malformed"))))
            }
        }
    }

    fn instances(&mut self) -> Result<Form, Error> {
        let peek = self.peek()?;
        match peek {
            Peek::Array => self.rows("instances"),
            _ => Err(self.unexpected("instances", peek, "a list")),
        }
    }

    /// Columns, unless it is a list of named rows.
    fn inputs(&mut self) -> Result<Form, Error> {
        let peek = self.peek()?;
        if peek == Peek::Object && self.has_names() {
            return self.named_columns();
        }
        if peek == Peek::Array {
            let mut ahead = self.json.clone();
            if let Ok(Some(Peek::Object)) = ahead.known_array()
                && let Ok(Some(key)) = ahead.known_object()
                && (self.signature.input(key).is_some() || self.sole.is_none())
            {
                return self.rows("inputs");
            }
        }
        let Some(sole) = self.sole else {
            return Err(self.unexpected("inputs", peek, &format!("an object with {}", self.names())));
        };
        self.column(sole, peek)?;
        Ok(Form::Columns)
    }

    fn named_columns(&mut self) -> Result<Form, Error> {
        let mut name = match self.json.known_object() {
            Ok(key) => key.map(|key| input_of(self.signature, key, 0)),
            Err(error) => return Err(self.malformed(&error)),
        };
        while let Some(known) = name {
            let index = known.map_err(|unknown| invalid(unknown.to_string()))?;
            let peek = self.peek()?;
            self.column(index, peek)?;
            name = match self.json.next_key() {
                Ok(key) => key.map(|key| input_of(self.signature, key, index + 1)),
                Err(error) => return Err(self.malformed(&error)),
            };
        }
        Ok(Form::Columns)
    }

    fn column(&mut self, index: usize, peek: Peek) -> Result<(), Error> {
        let spec = &self.signature.inputs[index];
        if self.columns[index].is_some() {
            return Err(SignatureError::Twice(spec.name.clone()).into());
        }
        let mut column = Column::declared(spec, self.expected_elements());
        column
            .read_all(&mut self.json, peek, &mut self.source)
            .map_err(|fault| fault.into_error(&format!("input '{}'", spec.name), self.source.body))?;
        self.columns[index] = Some(column);
        Ok(())
    }

    fn rows(&mut self, member: &str) -> Result<Form, Error> {
        let mut rows = 0;
        let mut inputs_per_row = 0;
        let mut next = self.json.known_array().map_err(|error| self.malformed(&error))?;
        while let Some(peek) = next {
            let inputs = self.row(rows, peek)?;
            if rows == 0 {
                inputs_per_row = inputs;
                self.check_complete()?;
            } else if inputs != inputs_per_row {
                return Err(self.left_out(rows));
            }
            rows += 1;
            next = self.json.array_step().map_err(|error| self.malformed(&error))?;
        }
        if rows == 0 {
            return Err(invalid(format!("`{member}` is empty; expected at least one instance")));
        }
        Ok(Form::Rows(rows))
    }

    /// Reads one row; how many inputs it had.
    fn row(&mut self, row: usize, peek: Peek) -> Result<usize, Error> {
        if peek != Peek::Object || !self.has_names() {
            let Some(sole) = self.sole else {
                let found = self.found(peek)?;
                return Err(invalid(format!("instance {row} is {found}; expected an object with {}", self.names())));
            };
            self.cell(sole, row, peek)?;
            return Ok(1);
        }
        let mut inputs = 0;
        let mut name = match self.json.known_object() {
            Ok(key) => key.map(|key| input_of(self.signature, key, 0)),
            Err(error) => return Err(self.malformed(&error)),
        };
        while let Some(known) = name {
            let index = known.map_err(|unknown| invalid(format!("instance {row}: {unknown}")))?;
            let peek = self.peek()?;
            self.cell(index, row, peek)?;
            inputs += 1;
            name = match self.json.next_key() {
                Ok(key) => key.map(|key| input_of(self.signature, key, index + 1)),
                Err(error) => return Err(self.malformed(&error)),
            };
        }
        Ok(inputs)
    }

    fn cell(&mut self, index: usize, row: usize, peek: Peek) -> Result<(), Error> {
        let spec = &self.signature.inputs[index];
        let elements = if self.columns[index].is_none() { self.expected_elements() } else { 0 };
        let column = self.columns[index].get_or_insert_with(|| Column::declared(spec, elements));
        if column.rows > row {
            return Err(invalid(format!("instance {row}: input '{}' is given twice", spec.name)));
        }
        if column.rows < row {
            let message = format!("instance {row} has input '{}', which instance {} has not", spec.name, column.rows);
            return Err(invalid(format!("{message}; give it in all instances or in none")));
        }
        column
            .read_row(&mut self.json, peek, &mut self.source)
            .map_err(|fault| fault.into_error(&format!("instance {row}, input '{}'", spec.name), self.source.body))
    }

    /// Whether the object ahead names inputs. Where a bare value may stand, an object may be one: base64, or a document.
    fn has_names(&self) -> bool {
        let Some(sole) = self.sole.map(|index| &self.signature.inputs[index]) else { return true };
        if sole.dtype != DType::Bytes {
            return true;
        }
        match self.json.clone().next_object() {
            Ok(Some(key)) => self.signature.input(key).is_some() || (key != "b64" && !holds_documents(sole)),
            Ok(None) => !holds_documents(sole),
            Err(_) => true,
        }
    }

    /// That the first row has all that is required: the others are compared to it.
    fn check_complete(&self) -> Result<(), Error> {
        let mut specs = self.signature.inputs.iter().zip(&self.columns);
        match specs.find(|(spec, column)| !spec.optional && column.is_none()) {
            None => Ok(()),
            Some((spec, _)) => {
                let expected = format!("{} {}", spec.dtype, spec.shape_text());
                let missing = SignatureError::Missing { name: spec.name.clone(), expected };
                Err(invalid(format!("instance 0: {missing}")))
            }
        }
    }

    fn left_out(&self, row: usize) -> Error {
        let mut specs = self.signature.inputs.iter().zip(&self.columns);
        let short = specs.find(|(_, column)| column.as_ref().is_some_and(|column| column.rows <= row));
        let name = short.map_or("", |(spec, _)| &spec.name);
        let message = format!("instance {row} has no input '{name}', which the instances before it have");
        invalid(format!("{message}; give it in all instances or in none"))
    }

    fn into_tensors(self, form: Form) -> Result<Tensors, Error> {
        let mut tensors = Tensors::new();
        for (spec, column) in self.signature.inputs.iter().zip(self.columns) {
            let Some(column) = column else { continue };
            let tensor = match form {
                Form::Rows(_) => column.into_rows(spec),
                Form::Columns => column.into_whole(spec),
            };
            tensors.push(&spec.name, tensor.map_err(|error| invalid(format!("input '{}': {error}", spec.name)))?);
        }
        Ok(tensors)
    }

    /// A first guess, within bounds: one element in eight bytes of what is left to read.
    fn expected_elements(&self) -> usize {
        ((self.source.body.len() - self.json.current_index()) / 8).clamp(1, 16 * 1024)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.signature.required_inputs().map(|spec| format!("'{}'", spec.name)).collect();
        names.join(", ")
    }

    fn peek(&mut self) -> Result<Peek, Error> {
        self.json.peek().map_err(|error| self.malformed(&error))
    }

    fn found(&mut self, peek: Peek) -> Result<&'static str, Error> {
        match found(peek) {
            Some(found) => Ok(found),
            None => Err(self.json.known_skip(peek).err().map_or_else(|| invalid("malformed"), |e| self.malformed(&e))),
        }
    }

    fn unexpected(&mut self, member: &str, peek: Peek, expected: &str) -> Error {
        match self.found(peek) {
            Ok(found) => invalid(format!("`{member}` is {found}; expected {expected}")),
            Err(error) => error,
        }
    }

    fn malformed(&self, error: &JiterError) -> Error {
        malformed(error, self.source.body)
    }
}

/// The index of an input. Rows mostly keep to one order, so `guess` comes first.
fn input_of(signature: &Signature, name: &str, guess: usize) -> Result<usize, SignatureError> {
    if signature.inputs.get(guess).is_some_and(|spec| spec.name == name) {
        return Ok(guess);
    }
    signature.inputs.iter().position(|spec| spec.name == name).ok_or_else(|| {
        let names: Vec<_> = signature.inputs.iter().map(|spec| format!("'{}'", spec.name)).collect();
        let expected = if names.len() == 1 { names.concat() } else { format!("one of {}", names.join(", ")) };
        SignatureError::Unknown { role: "input", name: excerpt(name), expected }
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

/// Writes the answer: `{"predictions": […]}` for rows, `{"outputs": …}` for columns. A single output drops its name.
///
/// Outputs that have no row per instance cannot be written as rows: an error that points to the columnar form.
pub(crate) fn encode(signature: &Signature, form: Form, outputs: &Tensors) -> Result<Vec<u8>, Error> {
    let mut columns = Vec::with_capacity(outputs.len());
    let mut capacity = 64;
    for (name, tensor) in outputs.iter() {
        let documents = signature.output(name).is_some_and(holds_documents);
        let values = Values::of_v1(name, tensor, documents)?;
        capacity += values.expected_len() + name.len();
        columns.push((name, tensor.shape(), values));
    }
    let mut out = Vec::with_capacity(capacity);
    match form {
        Form::Rows(rows) => {
            check_rows(&columns, rows)?;
            out.extend_from_slice(b"{\"predictions\":[");
            for row in 0..rows {
                if row > 0 {
                    out.push(b',');
                }
                write_row(&columns, row, &mut out);
            }
            out.extend_from_slice(b"]}");
        }
        Form::Columns => {
            out.extend_from_slice(b"{\"outputs\":");
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
            Err(invalid(format!("{message}; send `inputs` instead of `instances` to get it as it is")))
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

#[cfg(test)]
mod tests;
