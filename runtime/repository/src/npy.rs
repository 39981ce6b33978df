//! NumPy's `.npy` files as tensors.

use std::io::Read as _;

use corymb_core::{Buffer, DType, Tensor, element_count};
use npyz::{DType as NpyDType, Endianness, NpyHeader, Order, TypeChar};

/// Reads a `.npy` file: C order, little endian, any fixed-size dtype that a tensor can have.
///
/// # Errors
/// One line that says what is not supported or wrong.
pub fn read_npy(file: &[u8]) -> Result<Tensor, String> {
    let mut rest = file;
    let header = NpyHeader::from_reader(&mut rest).map_err(|error| format!("not a .npy file: {error}"))?;
    if header.order() != Order::C {
        return Err("Fortran order is not supported; save np.ascontiguousarray(a)".to_owned());
    }
    let dtype = dtype_of(&header.dtype())?;
    let shape: Vec<usize> = header.shape().iter().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
    let count = element_count(&shape).map_err(|error| error.to_string())?;
    let size = dtype.size().unwrap_or(1);
    let expected = count.checked_mul(size).ok_or("the shape has too many elements")?;
    if rest.len() != expected {
        return Err(format!("{expected} bytes of data are declared, the file has {}", rest.len()));
    }
    let mut buffer = Buffer::zeroed(expected);
    rest.read_exact(buffer.as_mut_slice::<u8>()).map_err(|error| error.to_string())?;
    Tensor::from_buffer(dtype, shape, buffer).map_err(|error| error.to_string())
}

fn dtype_of(dtype: &NpyDType) -> Result<DType, String> {
    let NpyDType::Plain(text) = dtype else {
        return Err("structured arrays are not supported".to_owned());
    };
    if text.endianness() == Endianness::Big {
        return Err(format!("dtype '{text}' is big endian; save a.astype(a.dtype.newbyteorder('<'))"));
    }
    Ok(match (text.type_char(), text.size_field()) {
        (TypeChar::Bool, 1) => DType::Bool,
        (TypeChar::Uint, 1) => DType::Uint8,
        (TypeChar::Uint, 2) => DType::Uint16,
        (TypeChar::Uint, 4) => DType::Uint32,
        (TypeChar::Uint, 8) => DType::Uint64,
        (TypeChar::Int, 1) => DType::Int8,
        (TypeChar::Int, 2) => DType::Int16,
        (TypeChar::Int, 4) => DType::Int32,
        (TypeChar::Int, 8) => DType::Int64,
        (TypeChar::Float, 2) => DType::Fp16,
        (TypeChar::Float, 4) => DType::Fp32,
        (TypeChar::Float, 8) => DType::Fp64,
        _ => return Err(format!("dtype '{text}' is not supported")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As NumPy writes it: magic, version 1.0, header padded to 64.
    fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&u16::try_from(header.len()).expect("short").to_le_bytes());
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(data);
        file
    }

    #[test]
    fn arrays_become_tensors() {
        let tensor = read_npy(&npy("<f4", "False", "(1, 2)", &[0, 0, 128, 63, 0, 0, 0, 64])).expect("valid");
        assert_eq!(tensor, Tensor::from_slice([1, 2], &[1.0_f32, 2.0]).expect("valid"));
        let scalar = read_npy(&npy("<i8", "False", "()", &[7, 0, 0, 0, 0, 0, 0, 0])).expect("valid");
        assert_eq!(scalar, Tensor::from_slice(Vec::new(), &[7_i64]).expect("valid"));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for (file, expected) in [
            (b"RIFF".to_vec(), "not a .npy file"),
            (npy("<f4", "True", "(1, 2)", &[0; 8]), "Fortran order"),
            (npy(">f4", "False", "(1, 2)", &[0; 8]), "big endian"),
            (npy("<c8", "False", "(1,)", &[0; 8]), "not supported"),
            (npy("<f4", "False", "(1, 3)", &[0; 8]), "12 bytes of data are declared, the file has 8"),
            (npy("<f4", "False", "(99999999999, 99999999999)", &[0; 8]), "too many elements"),
        ] {
            let message = read_npy(&file).expect_err(expected);
            assert!(message.contains(expected), "{message}");
        }
    }
}
