//! Tensors into ONNX Runtime's values and out of them: no copy of elements of fixed size, in either direction.
#![allow(unsafe_code, reason = "values are views of memory across a C interface")]

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;
use corymb_core::{BackendError, Buffer, DType, Tensor, TensorError, TensorSpec, element_count};
use corymb_onnx::{dtype, proto::elem};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::SharedSessionInner;
use ort::{AsPointer as _, sys};

/// The text of one BYTES tensor's elements together; their lengths come from a request, which the server bounds.
const MAX_TEXT: usize = 1 << 31;

/// An error of ONNX Runtime as its own type.
pub(crate) fn checked(status: sys::OrtStatusPtr) -> Result<(), ort::Error> {
    // SAFETY: the status was just returned by a function of the library, and is given away here.
    unsafe { ort::Error::result_from_status(status) }
}

/// A value that ONNX Runtime made, owned.
pub(crate) struct Value(NonNull<sys::OrtValue>);

// SAFETY: a value is reached from one place at a time, and ONNX Runtime does not tie values to threads.
unsafe impl Send for Value {}

impl Value {
    /// Takes over what a call put behind `pointer`.
    pub(crate) fn adopt(pointer: *mut sys::OrtValue) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }

    pub(crate) fn as_ptr(&self) -> *const sys::OrtValue {
        self.0.as_ptr()
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: made by the library, owned by this, released once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) }
    }
}

/// The processor's memory, as ONNX Runtime names it; made once per model.
pub(crate) fn processor_memory() -> Result<MemoryInfo<'static>, ort::Error> {
    MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
}

/// A value over a tensor, for one run.
pub(crate) struct Input<'a> {
    pub(crate) value: Value,
    /// Where its elements lie; empty for text, which is copied.
    pub(crate) range: std::ops::Range<usize>,
    _tensor: PhantomData<&'a Tensor>,
}

/// Makes a value of a tensor: a view of its elements, or for BYTES a copy of them.
pub(crate) fn input<'a>(memory: &MemoryInfo<'_>, tensor: &'a Tensor) -> Result<Input<'a>, ort::Error> {
    let shape: Vec<i64> = tensor.shape().iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
    if let Some(elements) = tensor.elements() {
        return Ok(Input { value: text_value(&shape, elements)?, range: 0..0, _tensor: PhantomData });
    }
    let bytes: &'a [u8] = tensor.bytes().map(Bytes::as_ref).unwrap_or_default();
    let mut value = ptr::null_mut();
    // SAFETY: `shape` and `bytes` are valid for the lengths given; the tensor guarantees that the bytes are as many as
    // shape and type say, and aligned. The value only views them, so `Input` borrows the tensor. ONNX Runtime does not
    // write to inputs.
    checked(unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast::<c_void>(),
            bytes.len(),
            shape.as_ptr(),
            shape.len(),
            element_type(tensor.dtype()),
            &raw mut value,
        )
    })?;
    let start = bytes.as_ptr().addr();
    let value = Value::adopt(value).ok_or_else(|| ort::Error::new("no value was made"))?;
    Ok(Input { value, range: start..start + bytes.len(), _tensor: PhantomData })
}

fn text_value(shape: &[i64], elements: &[Bytes]) -> Result<Value, ort::Error> {
    let api = ort::api();
    let mut allocator = ptr::null_mut();
    let mut value = ptr::null_mut();
    // SAFETY: out pointers are valid; the default allocator is static.
    checked(unsafe { (api.GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
    // SAFETY: `shape` is valid for its length.
    checked(unsafe {
        (api.CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), element_type(DType::Bytes), &raw mut value)
    })?;
    let value = Value::adopt(value).ok_or_else(|| ort::Error::new("no value was made"))?;
    for (index, element) in elements.iter().enumerate() {
        let mut place: *mut c_char = ptr::null_mut();
        // SAFETY: `index` is below the number of elements, which is the product of `shape`.
        checked(unsafe {
            (api.GetResizedStringTensorElementBuffer)(value.0.as_ptr(), index, element.len(), &raw mut place)
        })?;
        if !element.is_empty() {
            // SAFETY: the library just made room for `element.len()` bytes at `place`.
            unsafe { ptr::copy_nonoverlapping(element.as_ptr(), place.cast::<u8>(), element.len()) };
        }
    }
    Ok(value)
}

/// A shape that a request has asked for: what the file says of shapes was looked at when it was loaded.
fn asked(output: &str, error: &TensorError) -> BackendError {
    BackendError::InvalidValues(format!("output '{output}' of these values: {error}"))
}

/// Makes a tensor of a value that a run gave: its elements are shared, not copied, and keep the session alive.
/// `inputs` are the address ranges that the run's inputs had.
pub(crate) fn output(
    spec: &TensorSpec,
    value: Value,
    session: &Arc<SharedSessionInner>,
    inputs: impl Iterator<Item = std::ops::Range<usize>>,
) -> Result<Tensor, BackendError> {
    let api = ort::api();
    let failed = |reason: String| BackendError::Failed(format!("output '{}': {reason}", spec.name));
    let text = |error: ort::Error| failed(error.message().to_owned());
    let mut is_tensor: c_int = 0;
    // SAFETY: the value is valid.
    checked(unsafe { (api.IsTensor)(value.as_ptr(), &raw mut is_tensor) }).map_err(text)?;
    if is_tensor == 0 {
        return Err(failed("it is not a tensor".to_owned()));
    }
    // An integer, since a newer library may know types that the enumeration of the bindings lacks.
    let mut elem_type: c_int = 0;
    let mut dims: *const i64 = ptr::null();
    let mut rank = 0;
    // SAFETY: the value is a tensor; the enumeration is represented as a C integer.
    checked(unsafe {
        (api.GetTensorElementTypeAndShapeDataReference)(
            value.as_ptr(),
            (&raw mut elem_type).cast(),
            &raw mut dims,
            &raw mut rank,
        )
    })
    .map_err(text)?;
    if dtype(elem_type) != Some(spec.dtype) {
        let given = elem::name(elem_type);
        return Err(failed(format!("it has the element type {given}; expected {}", spec.dtype)));
    }
    // SAFETY: the library owns `rank` dimensions there as long as the value lives, which it does to the end of this
    // block. For a scalar the pointer may be anything.
    let dims = if rank == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(dims, rank) } };
    let shape: Vec<usize> = dims.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let count = element_count(&shape).map_err(|error| asked(&spec.name, &error))?;
    let Some(size) = spec.dtype.size() else {
        let elements = text_elements(&value, count).map_err(failed)?;
        return Tensor::from_elements(shape, elements).map_err(|error| failed(error.to_string()));
    };
    let mut data: *mut c_void = ptr::null_mut();
    // SAFETY: the value is a tensor of fixed-size elements in the processor's memory.
    checked(unsafe { (api.GetTensorMutableData)(value.0.as_ptr(), &raw mut data) }).map_err(text)?;
    let len = count * size;
    let start = data.addr();
    let bytes = match NonNull::new(data.cast::<u8>()) {
        Some(_) | None if len == 0 => Buffer::default().freeze(),
        None => return Err(failed("it has no memory".to_owned())),
        Some(data) => {
            let shared = Elements { data, len, _value: value, _session: Arc::clone(session) };
            // An output that is an input is a view of memory that ends with the request; so it is copied.
            let is_input = inputs.into_iter().any(|range| range.contains(&start));
            if is_input { Buffer::copy_of(shared.as_ref()).freeze() } else { Bytes::from_owner(shared) }
        }
    };
    Tensor::new(spec.dtype, shape, bytes).map_err(|error| failed(error.to_string()))
}

/// The elements of a value, which it keeps, and the session that its memory came from.
struct Elements {
    data: NonNull<u8>,
    len: usize,
    _value: Value,
    _session: Arc<SharedSessionInner>,
}

// SAFETY: the memory belongs to the value, which nothing else holds; it is only read from here on.
unsafe impl Send for Elements {}

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the value has `len` initialised bytes there, as its shape and type say, and lives as long as this.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

/// Copies text out: ONNX Runtime keeps every element apart. All share one buffer here.
fn text_elements(value: &Value, count: usize) -> Result<Vec<Bytes>, String> {
    let api = ort::api();
    let text = |error: ort::Error| error.message().to_owned();
    let mut len = 0;
    // SAFETY: the value is a tensor of text.
    checked(unsafe { (api.GetStringTensorDataLength)(value.as_ptr(), &raw mut len) }).map_err(text)?;
    if len > MAX_TEXT {
        return Err(format!("holds {len} bytes of text; at most {MAX_TEXT} are served"));
    }
    let mut content = vec![0_u8; len];
    let mut offsets = vec![0_usize; count];
    // SAFETY: both buffers are valid for the lengths given.
    checked(unsafe {
        (api.GetStringTensorContent)(
            value.as_ptr(),
            content.as_mut_ptr().cast::<c_void>(),
            content.len(),
            offsets.as_mut_ptr(),
            offsets.len(),
        )
    })
    .map_err(text)?;
    let content = Bytes::from(content);
    let ends = offsets.iter().skip(1).copied().chain([len]);
    offsets
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let inside = start <= end && end <= len;
            inside.then(|| content.slice(start..end)).ok_or_else(|| "its text is out of order".to_owned())
        })
        .collect()
}

fn element_type(dtype: DType) -> sys::ONNXTensorElementDataType {
    use sys::ONNXTensorElementDataType as Type;
    match dtype {
        DType::Bool => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DType::Uint8 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DType::Uint16 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DType::Uint32 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DType::Uint64 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DType::Int8 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DType::Int16 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DType::Int32 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DType::Int64 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DType::Fp16 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DType::Bf16 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        DType::Fp32 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DType::Fp64 => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DType::Bytes => Type::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}
