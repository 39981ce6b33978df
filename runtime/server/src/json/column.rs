//! One tensor while it is being read: its elements in a typed buffer, and the nesting they came in.

use bytes::Bytes;
use corymb_core::{Buffer, DType, Tensor, TensorError, TensorSpec};
use half::{bf16, f16};
use jiter::{Jiter, Peek};

use super::MAX_DECODED;
use super::fault::Fault;
use super::nest::Nest;
use super::number::{Number, read_bool};
use super::text::{read_document, read_element};

/// Bytes of one tensor to make room for before they come.
const MAX_ROOM: usize = 16 * 1024 * 1024;

/// What all tensors of a body share.
pub(super) struct Source<'a> {
    /// The whole body: texts are slices of it.
    pub(super) body: &'a Bytes,
    /// Bytes that may still be decoded.
    budget: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(body: &'a Bytes) -> Self {
        Self { body, budget: MAX_DECODED }
    }
}

pub(super) struct Column {
    dtype: DType,
    nest: Nest,
    cells: Cells,
    /// Rows of axis 0 that were read one by one.
    pub(super) rows: usize,
}

enum Cells {
    Fixed(Buffer),
    Elements(Vec<Bytes>),
}

impl Column {
    /// `elements` is how many there will be, as far as that is known. Room is made for no more than [`MAX_ROOM`]: what
    /// a shape claims may never come.
    pub(super) fn new(dtype: DType, elements: usize) -> Self {
        let cells = match dtype.size() {
            Some(size) => Cells::Fixed(Buffer::with_capacity(elements.min(MAX_ROOM / size) * size)),
            None => Cells::Elements(Vec::with_capacity(elements.min(MAX_ROOM / 16 / size_of::<Bytes>()))),
        };
        Self { dtype, nest: Nest::new(None), cells, rows: 0 }
    }

    /// For an input whose elements may be JSON documents, which only the declared rank tells from lists of elements.
    pub(super) fn declared(spec: &TensorSpec, elements: usize) -> Self {
        let opaque = holds_documents(spec).then_some(spec.shape.len());
        Self { nest: Nest::new(opaque), ..Self::new(spec.dtype, elements) }
    }

    /// One row of axis 0.
    pub(super) fn read_row(&mut self, json: &mut Jiter<'_>, peek: Peek, source: &mut Source<'_>) -> Result<(), Fault> {
        self.read(json, peek, 1, source)?;
        self.rows += 1;
        Ok(())
    }

    /// The whole tensor.
    pub(super) fn read_all(&mut self, json: &mut Jiter<'_>, peek: Peek, source: &mut Source<'_>) -> Result<(), Fault> {
        self.read(json, peek, 0, source)
    }

    fn read(&mut self, json: &mut Jiter<'_>, peek: Peek, depth: usize, source: &mut Source<'_>) -> Result<(), Fault> {
        match self.dtype {
            DType::Bool => self.numbers(json, peek, depth, source, read_bool),
            DType::Uint8 => self.numbers(json, peek, depth, source, u8::read),
            DType::Uint16 => self.numbers(json, peek, depth, source, u16::read),
            DType::Uint32 => self.numbers(json, peek, depth, source, u32::read),
            DType::Uint64 => self.numbers(json, peek, depth, source, u64::read),
            DType::Int8 => self.numbers(json, peek, depth, source, i8::read),
            DType::Int16 => self.numbers(json, peek, depth, source, i16::read),
            DType::Int32 => self.numbers(json, peek, depth, source, i32::read),
            DType::Int64 => self.numbers(json, peek, depth, source, i64::read),
            DType::Fp16 => self.numbers(json, peek, depth, source, f16::read),
            DType::Bf16 => self.numbers(json, peek, depth, source, bf16::read),
            DType::Fp32 => self.numbers(json, peek, depth, source, f32::read),
            DType::Fp64 => self.numbers(json, peek, depth, source, f64::read),
            DType::Bytes => self.elements(json, peek, depth, source),
        }
    }

    fn numbers<T: bytemuck::Pod>(
        &mut self,
        json: &mut Jiter<'_>,
        peek: Peek,
        depth: usize,
        source: &mut Source<'_>,
        read: impl Fn(&mut Jiter<'_>, Peek) -> Result<T, Fault>,
    ) -> Result<(), Fault> {
        let Cells::Fixed(buffer) = &mut self.cells else { return Ok(()) };
        let before = buffer.len();
        let limit = before.saturating_add(source.budget);
        self.nest.walk(json, peek, depth, &mut |json, peek| {
            if buffer.len() >= limit {
                return Err(Fault::too_large());
            }
            buffer.push(read(json, peek)?);
            Ok(())
        })?;
        source.budget = limit.saturating_sub(buffer.len());
        Ok(())
    }

    fn elements(
        &mut self,
        json: &mut Jiter<'_>,
        peek: Peek,
        depth: usize,
        source: &mut Source<'_>,
    ) -> Result<(), Fault> {
        let Cells::Elements(elements) = &mut self.cells else { return Ok(()) };
        let documents = self.nest.has_documents();
        let Source { body, budget } = source;
        self.nest.walk(json, peek, depth, &mut |json, peek| {
            *budget = budget.checked_sub(size_of::<Bytes>()).ok_or_else(Fault::too_large)?;
            let element = if documents { read_document(json, peek, body) } else { read_element(json, peek, body) }?;
            elements.push(element);
            Ok(())
        })
    }

    /// The tensor that its rows make.
    pub(super) fn into_rows(self, spec: &TensorSpec) -> Result<Tensor, TensorError> {
        let shape = self.nest.shape(Some(self.rows));
        self.into_declared(shape, spec)
    }

    /// The tensor whose shape is the nesting.
    pub(super) fn into_whole(self, spec: &TensorSpec) -> Result<Tensor, TensorError> {
        let shape = self.nest.shape(None);
        self.into_declared(shape, spec)
    }

    fn into_declared(self, mut shape: Vec<usize>, spec: &TensorSpec) -> Result<Tensor, TensorError> {
        if shape.contains(&0) {
            // Empty lists do not show what would have been in them.
            let hidden = spec.shape.iter().skip(shape.len());
            shape.extend(hidden.map(|dim| dim.fixed().unwrap_or(0)));
        }
        self.into_shape(shape)
    }

    /// The tensor of a shape that was told apart from the data: their number decides, not their nesting.
    pub(super) fn into_shape(self, shape: Vec<usize>) -> Result<Tensor, TensorError> {
        let expected = corymb_core::element_count(&shape)?;
        let given = match &self.cells {
            Cells::Fixed(buffer) => buffer.len() / self.dtype.size().unwrap_or(1),
            Cells::Elements(elements) => elements.len(),
        };
        if given != expected {
            return Err(TensorError::ElementCount { shape, expected, given });
        }
        match self.cells {
            Cells::Fixed(buffer) => Tensor::from_buffer(self.dtype, shape, buffer),
            Cells::Elements(elements) => Tensor::from_elements(shape, elements),
        }
    }

    /// Replaces each BYTES element by what `decode` makes of it; an error names the element.
    pub(super) fn map_elements(
        &mut self,
        decode: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<(), (usize, String)> {
        if let Cells::Elements(elements) = &mut self.cells {
            for (index, element) in elements.iter_mut().enumerate() {
                *element = decode(element).map_err(|what| (index, what))?.into();
            }
        }
        Ok(())
    }
}

/// Whether each element is a JSON text of its own.
pub(super) fn holds_documents(spec: &TensorSpec) -> bool {
    spec.dtype == DType::Bytes && spec.media_type.as_deref() == Some("application/json")
}

#[cfg(test)]
mod tests {
    use corymb_core::Code;

    use super::*;

    #[test]
    fn what_is_decoded_is_bounded() {
        let read = |dtype: DType, text: &'static str, budget: usize| {
            let body = Bytes::from_static(text.as_bytes());
            let mut source = Source { body: &body, budget };
            let mut column = Column::new(dtype, 1);
            let mut json = Jiter::new(&body);
            let peek = json.peek().expect("not empty");
            let read = column.read_all(&mut json, peek, &mut source).map(|()| source.budget);
            read.map_err(|fault| fault.into_error("x", &body).code)
        };
        assert_eq!(read(DType::Fp32, "[1,2]", 9), Ok(1));
        assert_eq!(read(DType::Fp32, "[1,2,3]", 8), Err(Code::TooLarge));
        assert_eq!(read(DType::Bytes, r#"["a","b"]"#, 2 * size_of::<Bytes>()), Ok(0));
        assert_eq!(read(DType::Bytes, r#"["a","b","c"]"#, 2 * size_of::<Bytes>()), Err(Code::TooLarge));
    }
}
