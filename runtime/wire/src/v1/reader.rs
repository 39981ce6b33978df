//! A V1 request: `instances` (rows) or `inputs` (columns). An answer has the same form, so this reads it too.
//!
//! The format is TensorFlow Serving's `api_rest.md`; the rules beyond it are:
//! * a row is an object of named values, or, where the model requires one input only, that input's bare value;
//! * a list of named rows under `inputs`, as KServe's clients send it, is read and answered like `instances`;
//! * unknown members are ignored, a known one given twice is an error;
//! * elements of inputs and outputs of media type `application/json` are values of the JSON itself.

use bytes::Bytes;
use corymb_core::{Code, DType, Error, SignatureError, TensorSpec, Tensors};
use jiter::{Jiter, JiterError, Peek};

use super::Form;
use crate::json::column::{Column, Source, holds_documents};
use crate::json::fault::{found, malformed};
use crate::json::text::excerpt;
use crate::limits::{Budget, Limits};

/// What a document is called that is read.
pub(super) struct Names {
    /// The member with rows, one of its rows, and the member with columns.
    pub(super) rows: &'static str,
    pub(super) row: &'static str,
    pub(super) columns: &'static str,
    /// One tensor: `input` or `output`.
    pub(super) tensor: &'static str,
    /// Whether a document that is the value of the only tensor always stands without the tensor's name. A client may write
    /// the name; a server drops it, and a document may have a member of that name.
    pub(super) documents_are_bare: bool,
}

/// Reads a document whose tensors are among `specs`.
pub(super) fn read(
    names: &'static Names,
    specs: &[TensorSpec],
    body: &Bytes,
    limits: &Limits,
    budget: &mut dyn Budget,
) -> Result<(Tensors, Form), Error> {
    let mut reader = Reader::new(names, specs, body, limits, budget);
    let form = reader.document()?;
    reader.source.ledger.settle()?;
    Ok((reader.into_tensors(form)?, form))
}

enum Member {
    Rows,
    Columns,
    SignatureName,
    Other,
}

impl Names {
    fn member(&self, key: &str) -> Member {
        match key {
            key if key == self.rows => Member::Rows,
            key if key == self.columns => Member::Columns,
            "signature_name" => Member::SignatureName,
            _ => Member::Other,
        }
    }
}

struct Reader<'a> {
    names: &'static Names,
    specs: &'a [TensorSpec],
    json: Jiter<'a>,
    source: Source<'a>,
    /// One per spec; none until it has been given.
    columns: Vec<Option<Column>>,
    /// The tensor that a bare value belongs to.
    sole: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(
        names: &'static Names,
        specs: &'a [TensorSpec],
        body: &'a Bytes,
        limits: &'a Limits,
        budget: &'a mut dyn Budget,
    ) -> Self {
        let sole = match (specs.iter().filter(|spec| !spec.optional).count(), specs.len()) {
            (1, _) => specs.iter().position(|spec| !spec.optional),
            (0, 1) => Some(0),
            _ => None,
        };
        Self {
            names,
            specs,
            json: Jiter::new(body).with_allow_inf_nan(),
            source: Source::new(body, limits, budget),
            columns: specs.iter().map(|_| None).collect(),
            sole,
        }
    }

    fn document(&mut self) -> Result<Form, Error> {
        let mut form = None;
        let mut member = self.first_member()?;
        while let Some(known) = member {
            match known {
                Member::Rows | Member::Columns if form.is_some() => {
                    let Names { rows, columns, .. } = self.names;
                    return Err(invalid(format!("only one of `{rows}` and `{columns}` may be given, and only once")));
                }
                Member::Rows => form = Some(self.instances()?),
                Member::Columns => form = Some(self.inputs()?),
                Member::SignatureName => self.signature_name()?,
                Member::Other => self.json.next_skip().map_err(|error| self.malformed(&error))?,
            }
            member = match self.json.next_key() {
                Ok(key) => key.map(|key| self.names.member(key)),
                Err(error) => return Err(self.malformed(&error)),
            };
        }
        self.json.finish().map_err(|error| self.malformed(&error))?;
        let Names { rows, columns, .. } = self.names;
        form.ok_or_else(|| invalid(format!("the body has neither `{rows}` nor `{columns}`")))
    }

    fn first_member(&mut self) -> Result<Option<Member>, Error> {
        let (body, names) = (self.source.body, self.names);
        self.json.next_object().map(|key| key.map(|key| names.member(key))).map_err(|error| malformed(&error, body))
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
            Peek::Array => self.rows(self.names.rows),
            _ => Err(self.unexpected(self.names.rows, peek, "a list")),
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
                && (self.is_known(key) || self.sole.is_none())
                && !self.is_bare()
            {
                return self.rows(self.names.columns);
            }
        }
        let Some(sole) = self.sole else {
            return Err(self.unexpected(self.names.columns, peek, &format!("an object with {}", self.required())));
        };
        self.column(sole, peek)?;
        Ok(Form::Columns)
    }

    fn named_columns(&mut self) -> Result<Form, Error> {
        let (specs, role) = (self.specs, self.names.tensor);
        let mut name = match self.json.known_object() {
            Ok(key) => key.map(|key| index_of(specs, role, key, 0)),
            Err(error) => return Err(self.malformed(&error)),
        };
        while let Some(known) = name {
            let index = known.map_err(|unknown| invalid(unknown.to_string()))?;
            let peek = self.peek()?;
            self.column(index, peek)?;
            name = match self.json.next_key() {
                Ok(key) => key.map(|key| index_of(specs, role, key, index + 1)),
                Err(error) => return Err(self.malformed(&error)),
            };
        }
        Ok(Form::Columns)
    }

    fn column(&mut self, index: usize, peek: Peek) -> Result<(), Error> {
        let spec = &self.specs[index];
        if self.columns[index].is_some() {
            return Err(SignatureError::Twice(spec.name.clone()).into());
        }
        let expected = self.expected_elements();
        let mut column = Column::declared(spec, expected, &mut self.source.ledger)?;
        column
            .read_all(&mut self.json, peek, &mut self.source)
            .map_err(|fault| fault.into_error(&format!("{} '{}'", self.names.tensor, spec.name), self.source.body))?;
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
            let row = self.names.row;
            return Err(invalid(format!("`{member}` is empty; expected at least one {row}")));
        }
        Ok(Form::Rows(rows))
    }

    /// Reads one row; how many inputs it had.
    fn row(&mut self, row: usize, peek: Peek) -> Result<usize, Error> {
        if peek != Peek::Object || !self.has_names() {
            let Some(sole) = self.sole else {
                let (found, place) = (self.found(peek)?, self.names.row);
                return Err(invalid(format!("{place} {row} is {found}; expected an object with {}", self.required())));
            };
            self.cell(sole, row, peek)?;
            return Ok(1);
        }
        let mut inputs = 0;
        let (specs, role) = (self.specs, self.names.tensor);
        let mut name = match self.json.known_object() {
            Ok(key) => key.map(|key| index_of(specs, role, key, 0)),
            Err(error) => return Err(self.malformed(&error)),
        };
        while let Some(known) = name {
            let index = known.map_err(|unknown| invalid(format!("{} {row}: {unknown}", self.names.row)))?;
            let peek = self.peek()?;
            self.cell(index, row, peek)?;
            inputs += 1;
            name = match self.json.next_key() {
                Ok(key) => key.map(|key| index_of(specs, role, key, index + 1)),
                Err(error) => return Err(self.malformed(&error)),
            };
        }
        Ok(inputs)
    }

    fn cell(&mut self, index: usize, row: usize, peek: Peek) -> Result<(), Error> {
        let spec = &self.specs[index];
        let Names { row: place, tensor, .. } = self.names;
        let expected = self.expected_elements();
        let column = match &mut self.columns[index] {
            Some(column) => column,
            new => new.insert(Column::declared(spec, expected, &mut self.source.ledger)?),
        };
        if column.rows > row {
            return Err(invalid(format!("{place} {row}: {tensor} '{}' is given twice", spec.name)));
        }
        if column.rows < row {
            let message = format!("{place} {row} has {tensor} '{}', which {place} {} has not", spec.name, column.rows);
            return Err(invalid(format!("{message}; give it in all instances or in none")));
        }
        column
            .read_row(&mut self.json, peek, &mut self.source)
            .map_err(|fault| fault.into_error(&format!("{place} {row}, {tensor} '{}'", spec.name), self.source.body))
    }

    /// Whether the object ahead names inputs. Where a bare value may stand, an object may be one: base64, or a document.
    fn has_names(&self) -> bool {
        let Some(sole) = self.sole.map(|index| &self.specs[index]) else { return true };
        if sole.dtype != DType::Bytes {
            return true;
        }
        if self.is_bare() {
            return false;
        }
        match self.json.clone().next_object() {
            Ok(Some(key)) => self.is_known(key) || (key != "b64" && !holds_documents(sole)),
            Ok(None) => !holds_documents(sole),
            Err(_) => true,
        }
    }

    /// Whether what is ahead is a document that has no name before it.
    fn is_bare(&self) -> bool {
        self.names.documents_are_bare && self.sole.is_some_and(|index| holds_documents(&self.specs[index]))
    }

    /// That the first row has all that is required: the others are compared to it.
    fn check_complete(&self) -> Result<(), Error> {
        let mut specs = self.specs.iter().zip(&self.columns);
        match specs.find(|(spec, column)| !spec.optional && column.is_none()) {
            None => Ok(()),
            Some((spec, _)) => {
                let expected = format!("{} {}", spec.dtype, spec.shape_text());
                let missing = SignatureError::Missing { name: spec.name.clone(), expected };
                Err(invalid(format!("{} 0: {missing}", self.names.row)))
            }
        }
    }

    fn left_out(&self, row: usize) -> Error {
        let mut specs = self.specs.iter().zip(&self.columns);
        let short = specs.find(|(_, column)| column.as_ref().is_some_and(|column| column.rows <= row));
        let name = short.map_or("", |(spec, _)| &spec.name);
        let Names { row: place, tensor, .. } = self.names;
        let message = format!("{place} {row} has no {tensor} '{name}', which the {place}s before it have");
        invalid(format!("{message}; give it in all instances or in none"))
    }

    fn into_tensors(self, form: Form) -> Result<Tensors, Error> {
        let mut tensors = Tensors::new();
        for (spec, column) in self.specs.iter().zip(self.columns) {
            let Some(column) = column else { continue };
            let tensor = match form {
                Form::Rows(_) => column.into_rows(spec),
                Form::Columns => column.into_whole(spec),
            };
            let at = |error| invalid(format!("{} '{}': {error}", self.names.tensor, spec.name));
            tensors.push(&spec.name, tensor.map_err(at)?);
        }
        Ok(tensors)
    }

    /// A first guess, within bounds: one element in eight bytes of what is left to read.
    fn expected_elements(&self) -> usize {
        ((self.source.body.len() - self.json.current_index()) / 8).clamp(1, 16 * 1024)
    }

    fn required(&self) -> String {
        let required = self.specs.iter().filter(|spec| !spec.optional);
        required.map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")
    }

    fn is_known(&self, name: &str) -> bool {
        self.specs.iter().any(|spec| spec.name == name)
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

/// The index of a tensor. Rows mostly keep to one order, so `guess` comes first.
fn index_of(specs: &[TensorSpec], role: &'static str, name: &str, guess: usize) -> Result<usize, SignatureError> {
    if specs.get(guess).is_some_and(|spec| spec.name == name) {
        return Ok(guess);
    }
    specs.iter().position(|spec| spec.name == name).ok_or_else(|| {
        let names: Vec<_> = specs.iter().map(|spec| format!("'{}'", spec.name)).collect();
        let expected = if names.len() == 1 { names.concat() } else { format!("one of {}", names.join(", ")) };
        SignatureError::Unknown { role, name: excerpt(name), expected }
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}
