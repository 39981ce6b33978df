//! One tensor while it is being read: its elements in a typed buffer, and the nesting they came in.

use bytes::Bytes;
use corymb_core::{Buffer, Code, DType, Error, Tensor, TensorError, TensorSpec};
use half::{bf16, f16};
use jiter::{Jiter, Peek};

use super::fault::Fault;
use super::nest::Nest;
use super::number::{Number, read_bool};
use super::text::{decode_base64, read_document, read_element};
use crate::limits::{Budget, ELEMENT, Ledger, Limits};

/// Bytes of one tensor to make room for before they come.
const MAX_ROOM: usize = 16 * 1024 * 1024;

/// What all tensors of a body share.
pub(crate) struct Source<'a> {
    /// The whole body: texts are slices of it.
    pub(crate) body: &'a Bytes,
    pub(crate) ledger: Ledger<'a>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(body: &'a Bytes, limits: &'a Limits, budget: &'a mut dyn Budget) -> Self {
        Self { body, ledger: Ledger::new(limits, budget) }
    }
}

pub(crate) struct Column {
    dtype: DType,
    nest: Nest,
    cells: Cells,
    /// Rows of axis 0 that were read one by one.
    pub(crate) rows: usize,
}

enum Cells {
    Fixed(Buffer),
    Elements(Vec<Bytes>),
}

impl Column {
    /// `elements` is how many there will be, as far as that is known. Room is made for no more than [`MAX_ROOM`]: what
    /// a shape claims may never come.
    pub(crate) fn new(dtype: DType, elements: usize, ledger: &mut Ledger<'_>) -> Result<Self, Error> {
        let (size, most) = dtype.size().map_or((ELEMENT, MAX_ROOM / 16), |size| (size, MAX_ROOM));
        let elements = elements.min(most.min(ledger.remaining()) / size);
        ledger.expect(elements * size)?;
        let cells = match dtype.size() {
            Some(size) => Cells::Fixed(Buffer::with_capacity(elements * size)),
            None => Cells::Elements(Vec::with_capacity(elements)),
        };
        Ok(Self { dtype, nest: Nest::new(None), cells, rows: 0 })
    }

    /// For an input whose elements may be JSON documents, which only the declared rank tells from lists of elements.
    pub(crate) fn declared(spec: &TensorSpec, elements: usize, ledger: &mut Ledger<'_>) -> Result<Self, Error> {
        let opaque = holds_documents(spec).then_some(spec.shape.len());
        Ok(Self { nest: Nest::new(opaque), ..Self::new(spec.dtype, elements, ledger)? })
    }

    /// One row of axis 0.
    pub(crate) fn read_row(&mut self, json: &mut Jiter<'_>, peek: Peek, source: &mut Source<'_>) -> Result<(), Fault> {
        self.read(json, peek, 1, source)?;
        self.rows += 1;
        Ok(())
    }

    /// The whole tensor.
    pub(crate) fn read_all(&mut self, json: &mut Jiter<'_>, peek: Peek, source: &mut Source<'_>) -> Result<(), Fault> {
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
        let ledger = &mut source.ledger;
        let mut taken = buffer.len();
        let mut limit = taken.saturating_add(ledger.step());
        self.nest.walk(json, peek, depth, &mut |json, peek| {
            if buffer.len() >= limit {
                // One element more than what is there, so that the limit is seen before it is passed.
                ledger.take(buffer.len() - taken + size_of::<T>())?;
                taken = buffer.len() + size_of::<T>();
                limit = taken.saturating_add(ledger.step());
            }
            buffer.push(read(json, peek)?);
            Ok(())
        })?;
        Ok(ledger.take(buffer.len().saturating_sub(taken))?)
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
        let Source { body, ledger } = source;
        self.nest.walk(json, peek, depth, &mut |json, peek| {
            ledger.take_element(elements.len())?;
            let read = if documents { read_document } else { read_element };
            elements.push(read(json, peek, body, ledger)?);
            Ok(())
        })
    }

    /// The tensor that its rows make.
    pub(crate) fn into_rows(self, spec: &TensorSpec) -> Result<Tensor, TensorError> {
        let shape = self.nest.shape(Some(self.rows));
        self.into_declared(shape, spec)
    }

    /// The tensor whose shape is the nesting.
    pub(crate) fn into_whole(self, spec: &TensorSpec) -> Result<Tensor, TensorError> {
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
    pub(crate) fn into_shape(self, shape: Vec<usize>) -> Result<Tensor, TensorError> {
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

    /// Replaces each BYTES element, which is base64, by what it stands for.
    pub(crate) fn undo_base64(&mut self, ledger: &mut Ledger<'_>) -> Result<(), Error> {
        if let Cells::Elements(elements) = &mut self.cells {
            for (index, element) in elements.iter_mut().enumerate() {
                ledger.hold(base64::decoded_len_estimate(element.len()))?;
                let decoded = decode_base64(element)
                    .map_err(|what| Error::new(Code::InvalidArgument, format!("element {index} of `data` {what}")))?;
                *element = decoded.into();
            }
        }
        Ok(())
    }
}

/// Whether each element is a JSON text of its own.
pub(crate) fn holds_documents(spec: &TensorSpec) -> bool {
    spec.dtype == DType::Bytes && spec.media_type.as_deref() == Some("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counted;

    #[test]
    fn what_is_decoded_is_bounded() {
        let read = |dtype: DType, text: &'static str, decoded: usize| {
            let body = Bytes::from_static(text.as_bytes());
            let (limits, mut budget) = (Limits { decoded, ..Limits::default() }, Counted::of(usize::MAX));
            let mut source = Source::new(&body, &limits, &mut budget);
            let mut column = Column::new(dtype, 1, &mut source.ledger).expect("little");
            let mut json = Jiter::new(&body);
            let peek = json.peek().expect("not empty");
            let read = column.read_all(&mut json, peek, &mut source);
            source.ledger.settle().expect("room");
            read.map(|()| budget.reserved).map_err(|fault| fault.into_error("x", &body).code)
        };
        assert_eq!(read(DType::Fp32, "[1,2]", 9), Ok(8));
        assert_eq!(read(DType::Fp32, "[1,2]", 8), Ok(8));
        assert_eq!(read(DType::Fp32, "[1,2,3]", 8), Err(Code::TooLarge));
        assert_eq!(read(DType::Bytes, r#"["a","b"]"#, 2 * ELEMENT), Ok(2 * ELEMENT));
        assert_eq!(read(DType::Bytes, r#"["a",{"b64":"AAAA"}]"#, 2 * ELEMENT), Ok(2 * ELEMENT + 3));
        assert_eq!(read(DType::Bytes, r#"["a","b","c"]"#, 2 * ELEMENT), Err(Code::TooLarge));
    }

    #[test]
    fn elements_are_bounded_by_their_number() {
        let read = |text: &'static str| {
            let body = Bytes::from_static(text.as_bytes());
            let (limits, mut budget) = (Limits { elements: 2, ..Limits::default() }, Counted::of(usize::MAX));
            let mut source = Source::new(&body, &limits, &mut budget);
            let mut column = Column::new(DType::Bytes, 1, &mut source.ledger).expect("little");
            let mut json = Jiter::new(&body);
            let peek = json.peek().expect("not empty");
            column.read_all(&mut json, peek, &mut source).map_err(|fault| fault.into_error("x", &body))
        };
        assert!(read(r#"["a","b"]"#).is_ok());
        let refused = read(r#"["a","b","c"]"#).expect_err("refused");
        assert_eq!((refused.code, &*refused.message), (Code::TooLarge, "x: more than 2 BYTES elements"));
    }

    #[test]
    fn memory_is_asked_for_while_it_grows() {
        let body = Bytes::from(format!("[{}0]", "0,".repeat(100_000)));
        let (limits, mut budget) = (Limits::default(), Counted::of(200_000));
        let mut source = Source::new(&body, &limits, &mut budget);
        let mut column = Column::new(DType::Fp64, 1, &mut source.ledger).expect("little");
        let mut json = Jiter::new(&body);
        let peek = json.peek().expect("not empty");
        let fault = column.read_all(&mut json, peek, &mut source).expect_err("800,000 bytes are more than there are");
        assert_eq!(fault.into_error("x", &body).code, Code::Overloaded);
        assert!(json.current_index() < body.len() / 2, "the rest was not read");
    }
}
