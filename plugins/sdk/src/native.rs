//! The host's tensors for native builds, so that a plugin's tests need no host: what the contract says, in memory.

use std::rc::Rc;

use crate::bindings::corymb::plugin::types::{Dtype, Error, ErrorCode};

#[derive(Clone, Debug)]
enum Data {
    Fixed(Vec<u8>),
    Elements(Vec<Vec<u8>>),
}

#[derive(Debug)]
pub(crate) struct Tensor {
    dtype: Dtype,
    shape: Vec<u32>,
    data: Rc<Data>,
}

fn error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error { code, message: message.into(), details: None }
}

fn invalid(message: impl Into<String>) -> Error {
    error(ErrorCode::InvalidArgument, message)
}

fn count(shape: &[u32]) -> Result<usize, Error> {
    let product = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim as usize));
    product.ok_or_else(|| error(ErrorCode::TooLarge, format!("shape {shape:?} has too many elements")))
}

impl Tensor {
    pub(crate) fn create(dtype: &Dtype, shape: &[u32], data: &[u8]) -> Result<Self, Error> {
        let size = dtype.size().ok_or_else(|| invalid(format!("{dtype} elements are not of fixed size")))?;
        let expected = count(shape)?.saturating_mul(size);
        if expected != data.len() {
            let given = data.len();
            return Err(invalid(format!("shape {shape:?} of {dtype} takes {expected} bytes, the data has {given}")));
        }
        Ok(Self { dtype: dtype.clone(), shape: shape.to_vec(), data: Rc::new(Data::Fixed(data.to_vec())) })
    }

    pub(crate) fn zeroed(dtype: &Dtype, shape: &[u32]) -> Result<Self, Error> {
        let len = count(shape)?.saturating_mul(dtype.size().unwrap_or_default());
        Self::create(dtype, shape, &vec![0; len])
    }

    pub(crate) fn from_elements(shape: &[u32], elements: &[Vec<u8>]) -> Result<Self, Error> {
        let (expected, given) = (count(shape)?, elements.len());
        if expected != given {
            return Err(invalid(format!("shape {shape:?} takes {expected} elements, {given} were given")));
        }
        Ok(Self { dtype: Dtype::Bytes, shape: shape.to_vec(), data: Rc::new(Data::Elements(elements.to_vec())) })
    }

    pub(crate) fn share(&self) -> Self {
        Self { dtype: self.dtype.clone(), shape: self.shape.clone(), data: Rc::clone(&self.data) }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype.clone()
    }

    pub(crate) fn shape(&self) -> Vec<u32> {
        self.shape.clone()
    }

    pub(crate) fn byte_len(&self) -> u64 {
        match &*self.data {
            Data::Fixed(bytes) => bytes.len() as u64,
            Data::Elements(_) => 0,
        }
    }

    pub(crate) fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
        let Data::Fixed(bytes) = &*self.data else { return Err(invalid("BYTES elements are read one by one")) };
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        let rest = rest.ok_or_else(|| invalid(format!("offset {offset} lies beyond the {} bytes", bytes.len())))?;
        Ok(rest[..rest.len().min(len as usize)].to_vec())
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let own = Rc::get_mut(&mut self.data)
            .ok_or_else(|| error(ErrorCode::PermissionDenied, "a shared tensor cannot be written"))?;
        let Data::Fixed(bytes) = own else { return Err(invalid("BYTES elements cannot be written")) };
        let all = bytes.len();
        let place = usize::try_from(offset).ok().and_then(|offset| bytes.get_mut(offset..)?.get_mut(..data.len()));
        place
            .ok_or_else(|| invalid(format!("{} bytes at {offset} reach beyond the {all} bytes", data.len())))?
            .copy_from_slice(data);
        Ok(())
    }

    pub(crate) fn element(&self, index: u32) -> Result<Vec<u8>, Error> {
        let Data::Elements(elements) = &*self.data else { return Err(invalid("elements of fixed size are read")) };
        let element = elements.get(index as usize);
        element.cloned().ok_or_else(|| invalid(format!("no element {index}; there are {}", elements.len())))
    }
}
