//! What the contract says of tensors, tried from the guest's side.

use crate::bindings::corymb::plugin::images;
use crate::bindings::corymb::plugin::tensors::Tensor;
use crate::bindings::corymb::plugin::types::{Dtype, Error, ErrorCode};

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:?} instead of {expected:?}")) }
}

fn refused<T>(what: &str, result: Result<T, Error>, code: ErrorCode) -> Result<(), String> {
    match result {
        Err(error) if error.code == code => Ok(()),
        Err(error) => Err(format!("{what}: {error:?} instead of {code:?}")),
        Ok(_) => Err(format!("{what}: accepted")),
    }
}

pub fn check() -> Result<(), String> {
    making()?;
    reading()?;
    writing()?;
    sharing()?;
    elements()?;
    pictures()
}

fn made(result: Result<Tensor, Error>) -> Result<Tensor, String> {
    result.map_err(|error| format!("not made: {error:?}"))
}

fn making() -> Result<(), String> {
    use ErrorCode::InvalidArgument;
    let scalar = made(Tensor::create(&Dtype::Int64, &[], &7_i64.to_le_bytes()))?;
    expect("shape of a scalar", scalar.shape(), vec![])?;
    expect("bytes of a scalar", scalar.byte_len(), 8)?;
    let empty = made(Tensor::zeroed(&Dtype::Fp32, &[0, 4]))?;
    expect("bytes of nothing", empty.byte_len(), 0)?;
    expect("dtype", matches!(empty.dtype(), Dtype::Fp32), true)?;
    refused("too little data", Tensor::create(&Dtype::Fp32, &[2], &[0; 7]), InvalidArgument)?;
    refused("too much data", Tensor::create(&Dtype::Fp32, &[2], &[0; 9]), InvalidArgument)?;
    refused("rank", Tensor::zeroed(&Dtype::Uint8, &[1; 17]), InvalidArgument)?;
    refused("product", Tensor::zeroed(&Dtype::Uint8, &[u32::MAX; 4]), InvalidArgument)?;
    refused("product with zero", Tensor::zeroed(&Dtype::Uint8, &[u32::MAX, u32::MAX, u32::MAX, 0]), InvalidArgument)?;
    refused("bytes by zeroed", Tensor::zeroed(&Dtype::Bytes, &[1]), InvalidArgument)?;
    refused("unknown dtype", Tensor::zeroed(&Dtype::Other("fp8".to_owned()), &[1]), InvalidArgument)?;
    refused("bool of 2", Tensor::create(&Dtype::Bool, &[2], &[0, 2]), InvalidArgument)?;
    refused("too large", Tensor::zeroed(&Dtype::Uint8, &[1 << 30]), ErrorCode::TooLarge)
}

fn reading() -> Result<(), String> {
    let bytes: Vec<u8> = [1.0_f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = made(Tensor::create(&Dtype::Fp32, &[3], &bytes))?;
    // Written and shared tensors are read in different ways.
    for tensor in [tensor.share(), made(Tensor::create(&Dtype::Fp32, &[3], &bytes))?] {
        expect("read", tensor.read(4, 4).ok(), Some(bytes[4..8].to_vec()))?;
        expect("read at the end", tensor.read(10, 100).ok(), Some(bytes[10..].to_vec()))?;
        expect("read behind the end", tensor.read(u64::MAX, u32::MAX).ok(), Some(Vec::new()))?;
        expect("read-f32", tensor.read_f32(1, 1).ok(), Some(vec![2.0]))?;
        expect("read-f32 at the end", tensor.read_f32(2, 9).ok(), Some(vec![3.0]))?;
        expect("read-f32 behind the end", tensor.read_f32(u64::MAX, 9).ok(), Some(Vec::new()))?;
        refused("element", tensor.element(0), ErrorCode::InvalidArgument)?;
    }
    let integers = made(Tensor::zeroed(&Dtype::Int32, &[3]))?;
    refused("read-f32 of integers", integers.read_f32(0, 1), ErrorCode::InvalidArgument)
}

fn writing() -> Result<(), String> {
    use ErrorCode::InvalidArgument;
    let tensor = made(Tensor::zeroed(&Dtype::Fp32, &[2, 2]))?;
    expect("write", tensor.write(4, &1.5_f32.to_le_bytes()).is_ok(), true)?;
    expect("write-f32", tensor.write_f32(2, &[2.5, 3.5]).is_ok(), true)?;
    expect("write nothing at the end", tensor.write(16, &[]).is_ok(), true)?;
    refused("write over the end", tensor.write(13, &[0; 4]), InvalidArgument)?;
    refused("write behind the end", tensor.write(u64::MAX, &[0; 4]), InvalidArgument)?;
    refused("write-f32 over the end", tensor.write_f32(3, &[0.0; 2]), InvalidArgument)?;
    refused("write-f32 behind the end", tensor.write_f32(u64::MAX, &[0.0; 2]), InvalidArgument)?;
    expect("what was written", tensor.read_f32(0, 4).ok(), Some(vec![0.0, 1.5, 2.5, 3.5]))?;
    expect("shape after writing", tensor.shape(), vec![2, 2])?;
    let bools = made(Tensor::zeroed(&Dtype::Bool, &[2]))?;
    refused("bool of 2", bools.write(0, &[2]), InvalidArgument)?;
    refused("write-f32 into bools", bools.write_f32(0, &[]), InvalidArgument)
}

fn sharing() -> Result<(), String> {
    let tensor = made(Tensor::create(&Dtype::Uint8, &[2], &[1, 2]))?;
    let other = tensor.share();
    refused("write a shared one", tensor.write(0, &[9]), ErrorCode::PermissionDenied)?;
    refused("write the other handle", other.write(0, &[9]), ErrorCode::PermissionDenied)?;
    drop(tensor);
    expect("read the other handle", other.read(0, 2).ok(), Some(vec![1, 2]))
}

fn elements() -> Result<(), String> {
    use ErrorCode::InvalidArgument;
    let tensor = made(Tensor::from_elements(&[2, 1], &[b"a".to_vec(), b"bcd".to_vec()]))?;
    expect("shape of elements", tensor.shape(), vec![2, 1])?;
    expect("element", tensor.element(1).ok(), Some(b"bcd".to_vec()))?;
    refused("no such element", tensor.element(2), InvalidArgument)?;
    refused("read elements", tensor.read(0, 1), InvalidArgument)?;
    refused("write elements", tensor.write(0, b"x"), ErrorCode::PermissionDenied)?;
    refused("too few elements", Tensor::from_elements(&[3], &[Vec::new()]), InvalidArgument)
}

fn pictures() -> Result<(), String> {
    let tensor = made(Tensor::from_elements(&[1], &[b"no picture".to_vec()]))?;
    refused("no picture", images::probe(&tensor, 0), ErrorCode::InvalidArgument)?;
    refused("no such picture", images::probe(&tensor, 1), ErrorCode::InvalidArgument)?;
    let numbers = made(Tensor::zeroed(&Dtype::Uint8, &[1]))?;
    refused("no bytes", images::probe(&numbers, 0), ErrorCode::InvalidArgument)
}
