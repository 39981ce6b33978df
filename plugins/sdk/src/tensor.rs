//! Tensors by name, and a tensor: a handle to the host's memory, or memory itself in a native build.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::corymb::plugin::tensors::Tensor as Handle;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::native::Tensor as Handle;
use crate::{DType, Error, Result};

/// Bytes asked of the host at a time.
const PIECE: u64 = 16 << 20;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that elements of fixed size can be read and written as. BOOL is `u8`, 0 or 1.
pub trait Element: Copy + sealed::Sealed + 'static {
    /// The dtype whose elements this type is.
    const DTYPE: DType;
    #[doc(hidden)]
    fn append_le(self, bytes: &mut Vec<u8>);
    #[doc(hidden)]
    fn from_le(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DTYPE: DType = DType::$dtype;

            #[inline]
            fn append_le(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn from_le(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<Self>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }
        }
    )*};
}

elements! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f32 => Fp32, f64 => Fp64,
}

/// Dtype, shape and data. Elements of fixed size are little endian, in row-major order.
///
/// Handing a tensor on copies nothing. One that was received, or shared, cannot be written.
#[derive(Debug)]
pub struct Tensor(Handle);

impl Tensor {
    /// A copy of `elements`.
    ///
    /// # Errors
    /// When their number is not the product of `shape`, or a limit of the host is exceeded.
    pub fn from_slice<T: Element>(shape: impl AsRef<[usize]>, elements: &[T]) -> Result<Self> {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        elements.iter().for_each(|element| element.append_le(&mut bytes));
        Self::from_bytes(&T::DTYPE, shape, &bytes)
    }

    /// A copy of `bytes`, which are elements of a fixed-size dtype, little endian.
    ///
    /// # Errors
    /// When their number is not the product of `shape` times the element's size, or a limit of the host is exceeded.
    pub fn from_bytes(dtype: &DType, shape: impl AsRef<[usize]>, bytes: &[u8]) -> Result<Self> {
        Ok(Self(Handle::create(dtype, &dims(shape.as_ref())?, bytes)?))
    }

    /// Zeros of a fixed-size dtype, to be filled piece by piece with [`Tensor::write`].
    ///
    /// # Errors
    /// When a limit of the host is exceeded.
    pub fn zeroed(dtype: &DType, shape: impl AsRef<[usize]>) -> Result<Self> {
        Ok(Self(Handle::zeroed(dtype, &dims(shape.as_ref())?)?))
    }

    /// A BYTES tensor.
    ///
    /// # Errors
    /// When the number of elements is not the product of `shape`, or a limit of the host is exceeded.
    pub fn from_elements<E: Into<Vec<u8>>>(
        shape: impl AsRef<[usize]>,
        elements: impl IntoIterator<Item = E>,
    ) -> Result<Self> {
        let elements: Vec<Vec<u8>> = elements.into_iter().map(Into::into).collect();
        Ok(Self(Handle::from_elements(&dims(shape.as_ref())?, &elements)?))
    }

    /// Another handle to the same data, e.g. for the model's input and for [`Carry`](crate::Carry).
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.share())
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// The size of each dimension; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape().into_iter().map(|dim| dim as usize).collect()
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, copied out of the host. BOOL can be read as `u8`.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`](crate::ErrorCode::Internal) when the dtype is another: the host has checked what the
    /// description declares.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let dtype = self.dtype();
        if dtype != T::DTYPE && !(dtype == DType::Bool && T::DTYPE == DType::Uint8) {
            return Err(Error::internal(format!("a tensor of {dtype} was read as {}", T::DTYPE)));
        }
        let mut elements = Vec::with_capacity(self.len());
        let (mut offset, end) = (0, self.0.byte_len());
        while offset < end {
            let piece = self.read(offset, PIECE.min(end - offset) as u32)?;
            elements.extend(piece.chunks_exact(size_of::<T>()).map(T::from_le));
            offset += piece.len() as u64;
        }
        Ok(elements)
    }

    /// `len` bytes from byte `offset` on; fewer at the end.
    ///
    /// # Errors
    /// When the elements are not of fixed size, or `offset` lies beyond the end.
    pub fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>> {
        Ok(self.0.read(offset, len)?)
    }

    /// Overwrites bytes from byte `offset` on.
    ///
    /// # Errors
    /// [`ErrorCode::PermissionDenied`](crate::ErrorCode::PermissionDenied) when the tensor is shared; when the bytes
    /// reach beyond its end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write(offset, bytes)?)
    }

    /// Overwrites elements from element `first` on.
    ///
    /// # Errors
    /// As [`Tensor::write`].
    pub fn write_slice<T: Element>(&mut self, first: usize, elements: &[T]) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        elements.iter().for_each(|element| element.append_le(&mut bytes));
        self.write((first * size_of::<T>()) as u64, &bytes)
    }

    /// Element `index` of a BYTES tensor in row-major order, copied out of the host.
    ///
    /// # Errors
    /// When the dtype is another, or there is no such element.
    pub fn element(&self, index: usize) -> Result<Vec<u8>> {
        let index = u32::try_from(index).map_err(|_| Error::internal(format!("no element {index}")))?;
        Ok(self.0.element(index)?)
    }

    /// The elements of a BYTES tensor in row-major order, copied out of the host one by one.
    pub fn elements(&self) -> impl Iterator<Item = Result<Vec<u8>>> + '_ {
        (0..self.len()).map(|index| self.element(index))
    }

    #[cfg(all(target_arch = "wasm32", feature = "images"))]
    pub(crate) fn handle(&self) -> &Handle {
        &self.0
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_handle(self) -> Handle {
        self.0
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Handle> for Tensor {
    fn from(handle: Handle) -> Self {
        Self(handle)
    }
}

fn dims(shape: &[usize]) -> Result<Vec<u32>> {
    let dim = |&dim: &usize| u32::try_from(dim).map_err(|_| Error::too_large(format!("a dimension of {dim}")));
    shape.iter().map(dim).collect()
}

/// Named tensors in the order in which they were given.
#[derive(Debug, Default)]
pub struct Tensors(Vec<(String, Tensor)>);

impl Tensors {
    /// The tensor of that name.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`](crate::ErrorCode::Internal) when it is absent: the host has checked what the description
    /// requires. For optional ones there is [`Tensors::find`].
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.find(name).ok_or_else(|| missing(name))
    }

    /// The tensor of that name, if it is there.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find_map(|(known, tensor)| (known == name).then_some(tensor))
    }

    /// Takes out the tensor of that name, if it is there.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(index).1)
    }

    /// Takes out the tensor of that name.
    ///
    /// # Errors
    /// As [`Tensors::get`].
    pub fn take(&mut self, name: &str) -> Result<Tensor> {
        self.remove(name).ok_or_else(|| missing(name))
    }

    /// Appends a tensor.
    pub fn push(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.push((name.into(), tensor));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

fn missing(name: &str) -> Error {
    Error::internal(format!("tensor '{name}' is missing"))
}

impl<N: Into<String>> FromIterator<(N, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(items: I) -> Self {
        Self(items.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
    }
}

impl IntoIterator for Tensors {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn elements_go_in_and_come_out() {
        let tensor = Tensor::from_slice([2, 2], &[1_i64, -2, 3, i64::MIN]).expect("valid");
        assert_eq!(tensor.shape(), [2, 2]);
        assert_eq!(tensor.to_vec::<i64>().expect("same dtype"), [1, -2, 3, i64::MIN]);
        assert_eq!(tensor.to_vec::<f64>().expect_err("other dtype").message, "a tensor of INT64 was read as FP64");
        assert_eq!(tensor.read(8, 100).expect("short at the end").len(), 24);

        let words = Tensor::from_elements([2], ["a", ""]).expect("valid");
        assert_eq!(words.elements().collect::<Result<Vec<_>>>().expect("bytes"), [b"a".to_vec(), Vec::new()]);
        assert_eq!(words.element(2).expect_err("out of range").code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn shapes_must_fit_and_shared_tensors_stay() {
        let error = Tensor::from_slice([3], &[1.0_f32]).expect_err("too few");
        assert_eq!(error.code, ErrorCode::InvalidArgument);

        let mut tensor = Tensor::zeroed(&DType::Fp32, [2]).expect("valid");
        tensor.write_slice(1, &[7.5_f32]).expect("not shared yet");
        let other = tensor.share();
        assert_eq!(tensor.write(0, &[1]).expect_err("shared").code, ErrorCode::PermissionDenied);
        assert_eq!(other.to_vec::<f32>().expect("same dtype"), [0.0, 7.5]);
    }
}
