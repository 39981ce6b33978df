//! A tensor: dtype, shape and a reference-counted buffer.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::Buffer;
use crate::dtype::{DType, Element};

/// The largest number of dimensions; a limit against absurd requests, not of any engine.
pub const MAX_RANK: usize = 16;

/// Why dtype, shape and data do not make a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// More than [`MAX_RANK`] dimensions.
    #[error("shape has {0} dimensions; at most {MAX_RANK} are supported")]
    Rank(usize),
    /// The number of elements or bytes does not fit an address space.
    #[error("shape {} has too many elements", format_dims(.0))]
    TooManyElements(Vec<usize>),
    /// The data has another length than the shape says.
    #[error("shape {} of {dtype} takes {expected} bytes, the data has {given}", format_dims(.shape))]
    ByteLength {
        /// The element type.
        dtype: DType,
        /// As given.
        shape: Vec<usize>,
        /// Product of `shape` times the element size.
        expected: usize,
        /// Bytes given.
        given: usize,
    },
    /// The data has another number of elements than the shape says.
    #[error("shape {} takes {expected} elements, {given} were given", format_dims(.shape))]
    ElementCount {
        /// As given.
        shape: Vec<usize>,
        /// Product of `shape`.
        expected: usize,
        /// Elements given.
        given: usize,
    },
    /// Bytes for a dtype whose elements vary in length, or elements for one whose do not.
    #[error("{0} data was given in the wrong form")]
    Form(DType),
    /// The start of the data is not a multiple of the element size.
    #[error("data of {0} is not aligned to its element size")]
    Misaligned(DType),
    /// A byte of BOOL data that is neither 0 nor 1.
    #[error("BOOL data holds {0}; only 0 and 1 are allowed")]
    Bool(u8),
}

#[derive(Clone)]
enum Data {
    /// Little endian, row-major, aligned to the element size.
    Fixed(Bytes),
    /// A window into shared elements.
    Elements { all: Arc<[Bytes]>, start: usize, len: usize },
}

/// Dtype, shape and data, cheap to clone. Row-major; fixed-size elements are little endian.
///
/// Slicing along axis 0 copies nothing.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

/// A concrete shape as text, e.g. `[1,3,224,224]`.
#[must_use]
pub fn format_dims(shape: &[usize]) -> String {
    let mut text = String::from("[");
    for (index, size) in shape.iter().enumerate() {
        let _ = write!(text, "{}{size}", if index > 0 { "," } else { "" });
    }
    text.push(']');
    text
}

/// The product of `shape`, checked for rank and overflow.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    if shape.len() > MAX_RANK {
        return Err(TensorError::Rank(shape.len()));
    }
    // A zero anywhere makes the product zero, but the other dimensions must still be sane: engines multiply them.
    let product = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim.max(1)));
    match product {
        Some(product) if product <= isize::MAX as usize => Ok(if shape.contains(&0) { 0 } else { product }),
        _ => Err(TensorError::TooManyElements(shape.to_vec())),
    }
}

impl Tensor {
    /// A tensor of fixed-size elements over `data`, without a copy.
    ///
    /// # Errors
    /// When rank, length or alignment are wrong. Wire payloads whose alignment is chance go through [`Tensor::from_wire`].
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>, data: Bytes) -> Result<Self, TensorError> {
        let shape = shape.into();
        let count = element_count(&shape)?;
        let size = dtype.size().ok_or(TensorError::Form(dtype))?;
        let expected = count.checked_mul(size).ok_or_else(|| TensorError::TooManyElements(shape.clone()))?;
        if expected != data.len() {
            return Err(TensorError::ByteLength { dtype, shape, expected, given: data.len() });
        }
        if data.as_ptr().align_offset(size) != 0 {
            return Err(TensorError::Misaligned(dtype));
        }
        if dtype == DType::Bool
            && let Some(&byte) = data.iter().find(|&&byte| byte > 1)
        {
            return Err(TensorError::Bool(byte));
        }
        Ok(Self { dtype, shape, data: Data::Fixed(data) })
    }

    /// As [`Tensor::new`], but a payload that arrived misaligned is copied once.
    ///
    /// # Errors
    /// When rank or length are wrong.
    pub fn from_wire(dtype: DType, shape: impl Into<Vec<usize>>, data: Bytes) -> Result<Self, TensorError> {
        let aligned = dtype.size().is_none_or(|size| data.as_ptr().align_offset(size) == 0);
        Self::new(dtype, shape, if aligned { data } else { Buffer::copy_of(&data).freeze() })
    }

    /// A tensor over a buffer that was filled here, without a copy.
    ///
    /// # Errors
    /// When rank or length are wrong.
    pub fn from_buffer(dtype: DType, shape: impl Into<Vec<usize>>, buffer: Buffer) -> Result<Self, TensorError> {
        Self::new(dtype, shape, buffer.freeze())
    }

    /// A copy of `elements`.
    ///
    /// # Errors
    /// When rank or count are wrong.
    pub fn from_slice<T: Element>(shape: impl Into<Vec<usize>>, elements: &[T]) -> Result<Self, TensorError> {
        Self::from_buffer(T::DTYPE, shape, Buffer::copy_of(bytemuck::cast_slice(elements)))
    }

    /// A BYTES tensor.
    ///
    /// # Errors
    /// When rank or count are wrong.
    pub fn from_elements(shape: impl Into<Vec<usize>>, elements: Vec<Bytes>) -> Result<Self, TensorError> {
        let shape = shape.into();
        let expected = element_count(&shape)?;
        if expected != elements.len() {
            return Err(TensorError::ElementCount { shape, expected, given: elements.len() });
        }
        let len = elements.len();
        Ok(Self { dtype: DType::Bytes, shape, data: Data::Elements { all: elements.into(), start: 0, len } })
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of axis 0; none for a scalar.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Bytes held: of the buffer, or of all elements together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match &self.data {
            Data::Fixed(bytes) => bytes.len(),
            Data::Elements { .. } => self.elements().unwrap_or_default().iter().map(Bytes::len).sum(),
        }
    }

    /// The buffer of fixed-size elements; none for BYTES.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.data {
            Data::Fixed(bytes) => Some(bytes),
            Data::Elements { .. } => None,
        }
    }

    /// The elements of a BYTES tensor in row-major order; none for the others.
    #[must_use]
    pub fn elements(&self) -> Option<&[Bytes]> {
        match &self.data {
            Data::Fixed(_) => None,
            Data::Elements { all, start, len } => Some(&all[*start..*start + *len]),
        }
    }

    /// The elements as `T`; none when the dtype is another. BOOL is viewed as `u8`.
    #[must_use]
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        let same = self.dtype == T::DTYPE || (self.dtype == DType::Bool && T::DTYPE == DType::Uint8);
        match &self.data {
            Data::Fixed(bytes) if same => bytemuck::try_cast_slice(bytes).ok(),
            _ => None,
        }
    }

    /// The same data under another shape of equally many elements, without a copy.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        let shape = shape.into();
        let expected = element_count(&shape)?;
        if expected != self.len() {
            return Err(TensorError::ElementCount { shape, expected, given: self.len() });
        }
        Ok(Self { dtype: self.dtype, shape, data: self.data.clone() })
    }

    /// Rows `start..start + rows` of axis 0, without a copy; none when out of range, or for a scalar.
    #[must_use]
    pub fn slice_rows(&self, start: usize, rows: usize) -> Option<Self> {
        let (&all_rows, rest) = self.shape.split_first()?;
        if start.checked_add(rows)? > all_rows {
            return None;
        }
        let row: usize = rest.iter().product();
        let mut shape = self.shape.clone();
        shape[0] = rows;
        let data = match &self.data {
            Data::Fixed(bytes) => {
                let size = row * self.dtype.size()?;
                Data::Fixed(bytes.slice(start * size..(start + rows) * size))
            }
            Data::Elements { all, start: first, .. } => {
                Data::Elements { all: Arc::clone(all), start: first + start * row, len: rows * row }
            }
        };
        Some(Self { dtype: self.dtype, shape, data })
    }

    /// `len` places from `start` on along an axis: without a copy where they lie in one piece. None when out of range.
    #[must_use]
    pub fn slice_axis(&self, axis: usize, start: usize, len: usize) -> Option<Self> {
        let size = *self.shape.get(axis)?;
        if start.checked_add(len)? > size {
            return None;
        }
        let mut shape = self.shape.clone();
        shape[axis] = len;
        let outer: usize = self.shape[..axis].iter().product();
        let inner: usize = self.shape[axis + 1..].iter().product();
        if outer == 1 {
            let flat = Self { shape: vec![size, inner], ..self.clone() };
            return Some(Self { shape, ..flat.slice_rows(start, len)? });
        }
        let place = |block: usize| (block * size + start) * inner..(block * size + start + len) * inner;
        match (self.elements(), self.dtype.size()) {
            (Some(elements), _) => {
                let taken = (0..outer).flat_map(|block| &elements[place(block)]).cloned();
                Self::from_elements(shape, taken.collect()).ok()
            }
            (None, Some(width)) => {
                let bytes = self.bytes()?;
                let mut buffer = Buffer::with_capacity(outer * len * inner * width);
                for block in 0..outer {
                    let Range { start, end } = place(block);
                    buffer.extend_from_slice::<u8>(&bytes[start * width..end * width]);
                }
                Self::from_buffer(self.dtype, shape, buffer).ok()
            }
            (None, None) => None,
        }
    }

    /// `parts` one after the other along an axis: one copy, or none for a single part. None when there are no parts, or
    /// when dtype or the other dimensions differ.
    #[must_use]
    pub fn concat_axis(axis: usize, parts: &[&Self]) -> Option<Self> {
        let (&first, others) = parts.split_first()?;
        let (front, back) = (first.shape.get(..axis)?, first.shape.get(axis + 1..)?);
        if others.is_empty() {
            return Some(first.clone());
        }
        let alike = |part: &&&Self| {
            part.dtype == first.dtype
                && part.shape.get(..axis) == Some(front)
                && part.shape.get(axis + 1..) == Some(back)
        };
        if !others.iter().all(|part| alike(&part)) {
            return None;
        }
        let (outer, inner): (usize, usize) = (front.iter().product(), back.iter().product());
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let pieces = (0..outer).flat_map(|block| {
            parts.iter().map(move |part| (part, block * part.shape[axis] * inner, part.shape[axis] * inner))
        });
        let Some(width) = first.dtype.size() else {
            let elements = pieces.filter_map(|(part, from, len)| part.elements()?.get(from..from + len));
            return Self::from_elements(shape, elements.flatten().cloned().collect()).ok();
        };
        let mut buffer = Buffer::with_capacity(parts.iter().map(|part| part.byte_len()).sum());
        for (part, from, len) in pieces {
            buffer.extend_from_slice::<u8>(&part.bytes()?[from * width..(from + len) * width]);
        }
        Self::from_buffer(first.dtype, shape, buffer).ok()
    }
}

impl PartialEq for Tensor {
    /// Bitwise: two NaN of the same bits are equal.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && match (&self.data, &other.data) {
                (Data::Fixed(left), Data::Fixed(right)) => left == right,
                _ => self.elements() == other.elements(),
            }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, format_dims(&self.shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Tensor {
        Tensor::from_slice([3, 2], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("valid")
    }

    #[test]
    fn slicing_rows_shares_the_buffer() {
        let all = matrix();
        let last = all.slice_rows(2, 1).expect("in range");
        assert_eq!(last.shape(), [1, 2]);
        assert_eq!(last.as_slice::<f32>(), Some(&[5.0, 6.0][..]));
        assert_eq!(last.bytes().expect("fixed").as_ptr(), all.bytes().expect("fixed")[16..].as_ptr());
        assert!(all.slice_rows(2, 2).is_none());
        assert!(all.slice_rows(usize::MAX, 2).is_none());
    }

    #[test]
    fn concatenation_undoes_slicing() {
        let all = matrix();
        let parts = [all.slice_rows(0, 1), all.slice_rows(1, 2)].map(|part| part.expect("in range"));
        assert_eq!(Tensor::concat_axis(0, &parts.each_ref()), Some(all));

        let words = Tensor::from_elements([3], ["a", "bc", ""].map(Bytes::from).to_vec()).expect("valid");
        let parts = [words.slice_rows(0, 2), words.slice_rows(2, 1)].map(|part| part.expect("in range"));
        assert_eq!(parts[1].elements(), Some(&[Bytes::new()][..]));
        assert_eq!(Tensor::concat_axis(0, &parts.each_ref()), Some(words));
    }

    #[test]
    fn lying_shapes_are_refused() {
        let data = Bytes::from_static(&[0; 8]);
        assert!(matches!(
            Tensor::new(DType::Uint8, [9], data.clone()),
            Err(TensorError::ByteLength { expected: 9, given: 8, .. })
        ));
        assert!(matches!(
            Tensor::new(DType::Uint8, [usize::MAX, 2], data.clone()),
            Err(TensorError::TooManyElements(_))
        ));
        assert!(matches!(
            Tensor::new(DType::Uint8, [usize::MAX, 2, 0], data.clone()),
            Err(TensorError::TooManyElements(_))
        ));
        assert!(matches!(
            Tensor::new(DType::Fp64, [usize::MAX / 4], data.clone()),
            Err(TensorError::TooManyElements(_))
        ));
        assert!(matches!(Tensor::new(DType::Uint8, vec![1; 17], data.clone()), Err(TensorError::Rank(17))));
        assert!(matches!(Tensor::new(DType::Bytes, [8], data), Err(TensorError::Form(DType::Bytes))));
    }

    #[test]
    fn a_misaligned_payload_is_copied_once() {
        let aligned = Buffer::copy_of(&[0; 9]).freeze();
        let shifted = aligned.slice(1..9);
        assert!(matches!(Tensor::new(DType::Fp64, [1], shifted.clone()), Err(TensorError::Misaligned(DType::Fp64))));
        let tensor = Tensor::from_wire(DType::Fp64, [1], shifted).expect("copied");
        assert_eq!(tensor.as_slice::<f64>(), Some(&[0.0][..]));
        let in_place = Tensor::from_wire(DType::Fp64, [1], aligned.slice(0..8)).expect("in place");
        assert_eq!(in_place.bytes().expect("fixed").as_ptr(), aligned.as_ptr());
    }

    #[test]
    fn bool_is_checked_and_viewed_as_bytes() {
        assert_eq!(Tensor::new(DType::Bool, [2], Bytes::from_static(&[0, 2])), Err(TensorError::Bool(2)));
        let tensor = Tensor::new(DType::Bool, [2], Bytes::from_static(&[0, 1])).expect("valid");
        assert_eq!(tensor.as_slice::<u8>(), Some(&[0, 1][..]));
        assert_eq!(tensor.as_slice::<i8>(), None);
    }

    #[test]
    fn scalars_and_empty_tensors_are_tensors() {
        let scalar = Tensor::from_slice(Vec::new(), &[7_i64]).expect("valid");
        assert_eq!((scalar.rows(), scalar.len()), (None, 1));
        let empty = Tensor::from_slice::<i64>([0, 4], &[]).expect("valid");
        assert_eq!((empty.rows(), empty.len()), (Some(0), 0));
    }
}
