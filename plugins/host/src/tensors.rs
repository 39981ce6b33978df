//! The contract's `tensors`: buffers in the host that guests hold by handle.
//!
//! Bound by hand rather than through the generated trait, so that a guest's bytes are seen in place (`WasmList`), checked
//! and then copied once, and so that shared bytes are lowered without a copy on the way (`Bytes`).

use bytes::{Bytes, BytesMut};
use corymb_core::{Buffer, DType, MAX_RANK, Tensor, TensorError, element_count};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmList};

use crate::bindings::{Dtype, Error, ErrorCode, dtype_of, dtype_to, refusal};
use crate::host_tensor::HostTensor;
use crate::state::State;

type Store<'a> = StoreContextMut<'a, State>;
type Handle = Resource<HostTensor>;
/// What a host function answers: the outer error ends the guest, the inner one is the guest's to handle.
type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

impl HostTensor {
    /// The elements of a BYTES tensor.
    pub(crate) fn elements(&self) -> Result<&[Bytes], Error> {
        match self {
            Self::Shared(tensor) => tensor.elements(),
            Self::Writable { .. } => None,
        }
        .ok_or_else(|| invalid(format!("expected a tensor of bytes, not of {}", self.dtype())))
    }

    /// Bytes `start..start + len` of fixed-size elements, as many as there are.
    fn window(&self, start: u64, len: u64) -> Result<std::ops::Range<usize>, Error> {
        if self.dtype() == DType::Bytes {
            return Err(invalid("a tensor of bytes is read by `element`"));
        }
        let all = self.byte_len();
        let start = usize::try_from(start).unwrap_or(all).min(all);
        let len = usize::try_from(len).unwrap_or(all).min(all - start);
        Ok(start..start + len)
    }

    /// The place for `len` bytes at `offset`.
    fn writable(&mut self, offset: u64, len: usize) -> Result<&mut [u8], Error> {
        let Self::Writable { buffer, .. } = self else {
            let message = "the tensor was received, shared or handed over, and cannot be written";
            return Err(refusal(ErrorCode::PermissionDenied, message));
        };
        let all = buffer.len();
        let start = usize::try_from(offset).ok().filter(|start| start.checked_add(len).is_some_and(|end| end <= all));
        match start {
            Some(start) => Ok(&mut buffer.as_mut_slice::<u8>()[start..start + len]),
            None => Err(invalid(format!("{len} bytes at offset {offset} do not fit a tensor of {all} bytes"))),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    refusal(ErrorCode::InvalidArgument, message)
}

fn refused(error: &TensorError) -> Error {
    invalid(error.to_string())
}

/// The shape that a guest gave; its rank is checked before it is copied.
fn shape_of(store: &Store<'_>, shape: &WasmList<u32>) -> Result<Vec<usize>, Error> {
    if shape.len() > MAX_RANK {
        return Err(refused(&TensorError::Rank(shape.len())));
    }
    Ok(shape.as_le_slice(store).iter().map(|dim| u32::from_le(*dim) as usize).collect())
}

/// What a tensor of fixed-size elements takes: nothing has been allocated or charged yet.
fn layout(store: &Store<'_>, dtype: &Dtype, shape: &WasmList<u32>) -> Result<(DType, Vec<usize>, usize), Error> {
    let dtype = dtype_of(dtype).map_err(|name| invalid(format!("dtype '{name}' is not known here")))?;
    let Some(size) = dtype.size() else {
        return Err(invalid("a tensor of bytes is made by `from-elements`"));
    };
    let shape = shape_of(store, shape)?;
    let count = element_count(&shape).map_err(|error| refused(&error))?;
    let bytes = count.checked_mul(size).ok_or_else(|| refused(&TensorError::TooManyElements(shape.clone())))?;
    Ok((dtype, shape, bytes))
}

/// BOOL bytes are checked when they are written, so that sharing cannot fail.
fn check_bool(dtype: DType, data: &[u8]) -> Result<(), Error> {
    match data.iter().find(|byte| **byte > 1) {
        Some(byte) if dtype == DType::Bool => Err(refused(&TensorError::Bool(*byte))),
        _ => Ok(()),
    }
}

fn create(store: &mut Store<'_>, dtype: &Dtype, shape: &WasmList<u32>, data: &WasmList<u8>) -> Answer<Handle> {
    let make = |store: &mut Store<'_>| {
        let (dtype, shape, bytes) = layout(store, dtype, shape)?;
        if data.len() != bytes {
            return Err(refused(&TensorError::ByteLength { dtype, shape, expected: bytes, given: data.len() }));
        }
        store.data_mut().charge(bytes)?;
        let data = data.as_le_slice(&*store);
        check_bool(dtype, data)?;
        // The one copy, guest to host.
        Ok(HostTensor::Writable { dtype, shape, buffer: Buffer::copy_of(data) })
    };
    keep(store, make)
}

fn zeroed(store: &mut Store<'_>, dtype: &Dtype, shape: &WasmList<u32>) -> Answer<Handle> {
    let make = |store: &mut Store<'_>| {
        let (dtype, shape, bytes) = layout(store, dtype, shape)?;
        store.data_mut().charge(bytes)?;
        Ok(HostTensor::Writable { dtype, shape, buffer: Buffer::zeroed(bytes) })
    };
    keep(store, make)
}

fn from_elements(store: &mut Store<'_>, shape: &WasmList<u32>, elements: &[WasmList<u8>]) -> Answer<Handle> {
    let make = |store: &mut Store<'_>| {
        let shape = shape_of(store, shape)?;
        let expected = element_count(&shape).map_err(|error| refused(&error))?;
        if expected != elements.len() {
            return Err(refused(&TensorError::ElementCount { shape, expected, given: elements.len() }));
        }
        // In 64 bits the sum of lengths that each fit a guest's memory cannot overflow.
        let bytes = elements.iter().map(WasmList::len).sum::<usize>();
        store.data_mut().charge(bytes.saturating_add(size_of_val(elements)))?;
        // The one copy, guest to host: one allocation that all elements are windows of.
        let mut all = BytesMut::with_capacity(bytes);
        for element in elements {
            all.extend_from_slice(element.as_le_slice(&*store));
        }
        let mut all = all.freeze();
        let windows = elements.iter().map(|element| all.split_to(element.len())).collect();
        Tensor::from_elements(shape, windows).map(HostTensor::Shared).map_err(|error| refused(&error))
    };
    keep(store, make)
}

/// A handle for what `make` makes.
fn keep(store: &mut Store<'_>, make: impl FnOnce(&mut Store<'_>) -> Result<HostTensor, Error>) -> Answer<Handle> {
    Ok((match make(store) {
        Ok(tensor) => Ok(store.data_mut().push(tensor)?),
        Err(error) => Err(error),
    },))
}

fn read(store: &Store<'_>, handle: &Handle, offset: u64, len: u32) -> Answer<Bytes> {
    let tensor = store.data().get(handle)?;
    let bytes = tensor.window(offset, u64::from(len)).map(|window| match tensor {
        HostTensor::Shared(tensor) => tensor.bytes().map(|bytes| bytes.slice(window)).unwrap_or_default(),
        // Copied once more than a shared tensor, because what is still written cannot be lent out.
        HostTensor::Writable { buffer, .. } => Bytes::copy_from_slice(&buffer.as_slice::<u8>()[window]),
    });
    Ok((bytes,))
}

fn write(store: &mut Store<'_>, handle: &Handle, offset: u64, data: &WasmList<u8>) -> Answer<()> {
    let tensor = store.data_mut().get_mut(handle)?;
    if let Err(error) = tensor.writable(offset, data.len()) {
        return Ok((Err(error),));
    }
    // Guest memory and the tensor belong to the same store: the tensor is taken out while the one copy is made.
    let dtype = tensor.dtype();
    let mut taken =
        std::mem::replace(tensor, HostTensor::Writable { dtype, shape: Vec::new(), buffer: Buffer::default() });
    let source = data.as_le_slice(&*store);
    let written = check_bool(dtype, source).and_then(|()| taken.writable(offset, source.len()));
    let written = written.map(|place| place.copy_from_slice(source));
    *store.data_mut().get_mut(handle)? = taken;
    Ok((written,))
}

/// The place of `count` elements from `first` on, in bytes.
fn f32_window(tensor: &HostTensor, first: u64, count: u64) -> Result<(u64, u64), Error> {
    if tensor.dtype() != DType::Fp32 {
        return Err(invalid(format!("expected a tensor of FP32, not of {}", tensor.dtype())));
    }
    Ok((first.saturating_mul(4), count.saturating_mul(4)))
}

fn read_f32(store: &Store<'_>, handle: &Handle, first: u64, count: u32) -> Answer<Vec<f32>> {
    let tensor = store.data().get(handle)?;
    let window = f32_window(tensor, first, u64::from(count)).and_then(|(start, len)| tensor.window(start, len));
    // Wasmtime lowers floats from a list of its own: one copy more than `read`.
    let floats = window.map(|window| {
        let elements = window.start / 4..window.end / 4;
        match tensor {
            HostTensor::Shared(tensor) => {
                tensor.as_slice::<f32>().map(|all| all[elements].to_vec()).unwrap_or_default()
            }
            HostTensor::Writable { buffer, .. } => buffer.as_slice::<f32>()[elements].to_vec(),
        }
    });
    Ok((floats,))
}

fn write_f32(store: &mut Store<'_>, handle: &Handle, first: u64, data: &[f32]) -> Answer<()> {
    let tensor = store.data_mut().get_mut(handle)?;
    let written = f32_window(tensor, first, data.len() as u64)
        .and_then(|(offset, _)| tensor.writable(offset, size_of_val(data)))
        .map(|place| place.copy_from_slice(bytemuck::cast_slice(data)));
    Ok((written,))
}

fn element(store: &Store<'_>, handle: &Handle, index: u32) -> Answer<Bytes> {
    let element = store.data().get(handle)?.elements().and_then(|elements| {
        let missing = || invalid(format!("element {index} of a tensor that has {}", elements.len()));
        elements.get(index as usize).cloned().ok_or_else(missing)
    });
    Ok((element,))
}

/// Sizes beyond `u32` cannot be made by a guest, and a model's tensor of such a size is cut here rather than wrapped.
fn shape(store: &Store<'_>, handle: &Handle) -> wasmtime::Result<(Vec<u32>,)> {
    let shape = store.data().get(handle)?.shape();
    Ok((shape.iter().map(|dim| u32::try_from(*dim).unwrap_or(u32::MAX)).collect(),))
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut tensors = linker.instance("corymb:plugin/tensors@0.1.0")?;
    tensors.resource("tensor", ResourceType::host::<HostTensor>(), |mut store: Store<'_>, rep| {
        store.data_mut().forget(Resource::new_own(rep))
    })?;
    tensors.func_wrap(
        "[static]tensor.create",
        |mut store: Store<'_>, (dtype, shape, data): (Dtype, WasmList<u32>, WasmList<u8>)| {
            create(&mut store, &dtype, &shape, &data)
        },
    )?;
    tensors.func_wrap("[static]tensor.zeroed", |mut store: Store<'_>, (dtype, shape): (Dtype, WasmList<u32>)| {
        zeroed(&mut store, &dtype, &shape)
    })?;
    tensors.func_wrap(
        "[static]tensor.from-elements",
        |mut store: Store<'_>, (shape, elements): (WasmList<u32>, Vec<WasmList<u8>>)| {
            from_elements(&mut store, &shape, &elements)
        },
    )?;
    tensors.func_wrap("[method]tensor.share", |mut store: Store<'_>, (handle,): (Handle,)| {
        let shared = store.data_mut().get_mut(&handle)?.share()?;
        Ok((store.data_mut().push(shared)?,))
    })?;
    tensors.func_wrap("[method]tensor.dtype", |store: Store<'_>, (handle,): (Handle,)| {
        Ok((dtype_to(store.data().get(&handle)?.dtype()),))
    })?;
    tensors.func_wrap("[method]tensor.shape", |store: Store<'_>, (handle,): (Handle,)| shape(&store, &handle))?;
    tensors.func_wrap("[method]tensor.byte-len", |store: Store<'_>, (handle,): (Handle,)| {
        Ok((store.data().get(&handle)?.byte_len() as u64,))
    })?;
    tensors.func_wrap("[method]tensor.read", |store: Store<'_>, (handle, offset, len): (Handle, u64, u32)| {
        read(&store, &handle, offset, len)
    })?;
    tensors.func_wrap(
        "[method]tensor.write",
        |mut store: Store<'_>, (handle, offset, data): (Handle, u64, WasmList<u8>)| {
            write(&mut store, &handle, offset, &data)
        },
    )?;
    tensors.func_wrap("[method]tensor.read-f32", |store: Store<'_>, (handle, first, count): (Handle, u64, u32)| {
        read_f32(&store, &handle, first, count)
    })?;
    tensors.func_wrap(
        "[method]tensor.write-f32",
        |mut store: Store<'_>, (handle, first, data): (Handle, u64, Vec<f32>)| {
            write_f32(&mut store, &handle, first, &data)
        },
    )?;
    tensors.func_wrap("[method]tensor.element", |store: Store<'_>, (handle, index): (Handle, u32)| {
        element(&store, &handle, index)
    })?;
    Ok(())
}
