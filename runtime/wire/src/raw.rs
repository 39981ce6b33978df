//! Tensor data as raw bytes: Triton's binary tensors of V2 REST, and the raw contents of gRPC.
//!
//! Elements are little endian and row-major. BYTES elements stand one after the other, each behind its length as a
//! little-endian `u32`. See Triton's "Binary Tensor Data Extension".

use bytes::{Buf, Bytes};
use corymb_core::{Code, DType, Dim, Error, Signature, Tensor, TensorError, TensorSpec, element_count, format_dims};
use http::HeaderName;

use crate::limits::{ELEMENT, Ledger};

/// The header that says how many bytes of a V2 body are JSON, by Triton's binary tensor data extension.
pub static JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A tensor over the bytes of its data, in place where they are aligned.
pub(crate) fn tensor(dtype: DType, shape: Vec<usize>, raw: &Bytes, ledger: &mut Ledger<'_>) -> Result<Tensor, Error> {
    let Some(size) = dtype.size() else {
        let expected = element_count(&shape)?;
        let elements = decode_elements(raw, expected, ledger)?;
        if elements.len() != expected {
            return Err(TensorError::ElementCount { shape, expected, given: elements.len() }.into());
        }
        return Ok(Tensor::from_elements(shape, elements)?);
    };
    fixed(dtype, size, shape, raw, ledger)
}

/// A tensor of a dtype whose elements have `size` bytes. Data that arrived misaligned is copied once.
fn fixed(dtype: DType, size: usize, shape: Vec<usize>, raw: &Bytes, ledger: &mut Ledger<'_>) -> Result<Tensor, Error> {
    if !raw.as_ptr().addr().is_multiple_of(size) {
        ledger.hold(raw.len())?;
    }
    Ok(Tensor::from_wire(dtype, shape, raw.clone())?)
}

/// The elements of a BYTES tensor, each a slice of `raw`. Room is made for the
/// `expected` number of them, as far as the data can hold it.
pub(crate) fn decode_elements(raw: &Bytes, expected: usize, ledger: &mut Ledger<'_>) -> Result<Vec<Bytes>, Error> {
    let mut rest = raw.clone();
    // Each element has a length of four bytes, so the data bounds their number.
    let most = expected.min(rest.len() / 4).min(ledger.limits.elements);
    ledger.expect(most * ELEMENT)?;
    let mut elements = Vec::with_capacity(most);
    while !rest.is_empty() {
        let index = elements.len();
        ledger.take_element(index)?;
        if rest.len() < 4 {
            let message =
                format!("BYTES element {index} has {} bytes where its length of 4 bytes should be", rest.len());
            return Err(invalid(message));
        }
        let length = rest.get_u32_le() as usize;
        if length > rest.len() {
            let message = format!("BYTES element {index} has a length of {length}; {} bytes are left", rest.len());
            return Err(invalid(message));
        }
        elements.push(rest.split_to(length));
    }
    Ok(elements)
}

/// The wire form of a tensor. Elements of a fixed size are the tensor's own buffer; BYTES elements are copied.
pub(crate) fn contents(tensor: &Tensor) -> Bytes {
    match (tensor.bytes(), tensor.elements()) {
        (Some(bytes), _) => bytes.clone(),
        (None, elements) => encode_elements(elements.unwrap_or_default()).into(),
    }
}

/// The wire form of BYTES elements.
pub(crate) fn encode_elements(elements: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(elements.iter().map(|element| element.len() + 4).sum());
    for element in elements {
        // An element of 4 GiB has no wire form and is beyond every limit; cut, the rest stays readable.
        let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&element[..length as usize]);
    }
    out
}

/// A body that is the data of the one required input: the whole of it is one BYTES element, or the elements of another
/// dtype. Of the declared shape at most one dimension may be open; where more are, the first counts as the batch, of 1.
pub(crate) fn raw_input<'a>(
    signature: &'a Signature,
    body: &Bytes,
    ledger: &mut Ledger<'_>,
) -> Result<(&'a str, Tensor), Error> {
    let mut required = signature.required_inputs();
    let (Some(spec), None) = (required.next(), required.next()) else {
        let count = signature.required_inputs().count();
        return Err(invalid(format!("a raw body needs a model with one required input; this one has {count}")));
    };
    let tensor = match spec.dtype.size() {
        None => whole_element(spec, body),
        Some(size) => raw_elements(spec, size, body, ledger),
    };
    Ok((&spec.name, tensor?))
}

/// One BYTES element, in the shape that the input declares.
pub(crate) fn whole_element(spec: &TensorSpec, body: &Bytes) -> Result<Tensor, Error> {
    if let Some(size) = spec.shape.iter().filter_map(Dim::fixed).find(|size| *size != 1) {
        let message = format!("a raw body is one element; input '{}' takes {size} in {}", spec.name, spec.shape_text());
        return Err(invalid(message));
    }
    Ok(Tensor::from_elements(vec![1; spec.shape.len()], vec![body.clone()])?)
}

fn raw_elements(spec: &TensorSpec, size: usize, body: &Bytes, ledger: &mut Ledger<'_>) -> Result<Tensor, Error> {
    let mut shape: Vec<Option<usize>> = spec.shape.iter().map(Dim::fixed).collect();
    let open = |shape: &[Option<usize>]| shape.iter().filter(|size| size.is_none()).count();
    if open(&shape) > 1
        && let Some(batch @ None) = shape.first_mut()
    {
        *batch = Some(1);
    }
    if open(&shape) > 1 {
        let message = format!("input '{}' has the shape {}: too open for a raw body", spec.name, spec.shape_text());
        return Err(invalid(message));
    }
    let known = shape.iter().flatten().try_fold(size, |product, size| product.checked_mul(*size));
    let rest = known.filter(|known| *known > 0 && body.len().is_multiple_of(*known)).map(|known| body.len() / known);
    let Some(rest) = rest else {
        let message = format!("a raw body of {} bytes does not fit input '{}'", body.len(), spec.name);
        return Err(invalid(format!("{message}, which is {} {}", spec.dtype, spec.shape_text())));
    };
    let shape: Vec<usize> = shape.into_iter().map(|size| size.unwrap_or(rest)).collect();
    let expected = element_count(&shape)?;
    if expected.checked_mul(size) != Some(body.len()) {
        let shape = format_dims(&shape);
        let message = format!("a raw body of {} bytes does not fit input '{}'", body.len(), spec.name);
        return Err(invalid(format!("{message}, which is {} {shape}", spec.dtype)));
    }
    fixed(spec.dtype, size, shape, body, ledger)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Limits, Unbounded};
    use corymb_core::Buffer;

    fn dims(sizes: &[i32]) -> Vec<Dim> {
        sizes.iter().map(|size| usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed)).collect()
    }

    fn one_input(dtype: DType, shape: &[i32]) -> Signature {
        Signature { inputs: vec![TensorSpec::new("x", dtype, dims(shape))], outputs: Vec::new() }
    }

    fn tensor(dtype: DType, shape: Vec<usize>, raw: &Bytes) -> Result<Tensor, Error> {
        super::tensor(dtype, shape, raw, &mut Ledger::new(&Limits::default(), &mut Unbounded))
    }

    fn decode_elements(raw: &Bytes) -> Result<Vec<Bytes>, Error> {
        super::decode_elements(raw, usize::MAX, &mut Ledger::new(&Limits::default(), &mut Unbounded))
    }

    fn raw_input<'a>(signature: &'a Signature, body: &Bytes) -> Result<(&'a str, Tensor), Error> {
        super::raw_input(signature, body, &mut Ledger::new(&Limits::default(), &mut Unbounded))
    }

    #[test]
    fn bytes_elements_go_there_and_back() {
        let elements = ["a", "", "bcd"].map(Bytes::from);
        let raw = Bytes::from(encode_elements(&elements));
        assert_eq!(&raw[..5], b"\x01\0\0\0a");
        let decoded = decode_elements(&raw).expect("valid");
        assert_eq!(decoded, elements);
        assert_eq!(decoded[0].as_ptr(), raw[4..].as_ptr());
        assert!(decode_elements(&Bytes::new()).expect("valid").is_empty());
        let message = |raw: &'static [u8]| decode_elements(&Bytes::from_static(raw)).expect_err("refused").message;
        assert_eq!(message(b"\x01\0"), "BYTES element 0 has 2 bytes where its length of 4 bytes should be");
        assert_eq!(message(b"\0\0\0\0\x02\0\0\0a"), "BYTES element 1 has a length of 2; 1 bytes are left");
        assert_eq!(message(b"\xff\xff\xff\xff"), "BYTES element 0 has a length of 4294967295; 0 bytes are left");
    }

    #[test]
    fn payloads_are_used_in_place() {
        let raw = Buffer::copy_of(&[0; 9]).freeze();
        let in_place = tensor(DType::Int32, vec![2], &raw.slice(..8)).expect("valid");
        assert_eq!(in_place.bytes().expect("fixed").as_ptr(), raw.as_ptr());
        assert!(tensor(DType::Int32, vec![2], &raw.slice(1..9)).is_ok());
        let message = |shape: Vec<usize>, dtype| tensor(dtype, shape, &raw.slice(..8)).expect_err("refused").message;
        assert_eq!(message(vec![3], DType::Int32), "shape [3] of INT32 takes 12 bytes, the data has 8");
        assert_eq!(message(vec![1], DType::Bytes), "shape [1] takes 1 elements, 2 were given");
        assert!(message(vec![1 << 40, 1 << 40], DType::Int32).contains("too many elements"));
    }

    #[test]
    fn a_raw_body_is_the_one_input() {
        let shape = |dtype, shape: &[i32], bytes: usize| {
            let signature = one_input(dtype, shape);
            let body = Bytes::from(vec![0; bytes]);
            let tensor = raw_input(&signature, &body).map(|(_, tensor)| tensor.shape().to_vec());
            tensor.map_err(|error| error.message)
        };
        assert_eq!(shape(DType::Fp32, &[-1, 4], 32), Ok(vec![2, 4]));
        assert_eq!(shape(DType::Fp32, &[-1, 4, -1], 32), Ok(vec![1, 4, 2]));
        assert_eq!(shape(DType::Fp32, &[4], 16), Ok(vec![4]));
        assert_eq!(shape(DType::Fp32, &[-1, 4], 0), Ok(vec![0, 4]));
        assert_eq!(shape(DType::Bytes, &[-1], 5), Ok(vec![1]));
        assert_eq!(shape(DType::Bytes, &[-1, 1], 5), Ok(vec![1, 1]));
        assert_eq!(shape(DType::Bytes, &[], 5), Ok(vec![]));
        let unfit = "a raw body of 30 bytes does not fit input 'x', which is FP32 [?,4]";
        assert_eq!(shape(DType::Fp32, &[-1, 4], 30), Err(unfit.into()));
        let unfit = "a raw body of 32 bytes does not fit input 'x', which is FP32 [4]";
        assert_eq!(shape(DType::Fp32, &[4], 32), Err(unfit.into()));
        let open = "input 'x' has the shape [?,?,?]: too open for a raw body";
        assert_eq!(shape(DType::Fp32, &[-1, -1, -1], 32), Err(open.into()));
        let two = "a raw body is one element; input 'x' takes 2 in [?,2]";
        assert_eq!(shape(DType::Bytes, &[-1, 2], 5), Err(two.into()));
        assert_eq!(shape(DType::Fp32, &[0, 4], 16), Err(unfit_zero()));
        let none = raw_input(&Signature::default(), &Bytes::new()).expect_err("refused").message;
        assert_eq!(none, "a raw body needs a model with one required input; this one has 0");
    }

    fn unfit_zero() -> String {
        "a raw body of 16 bytes does not fit input 'x', which is FP32 [0,4]".into()
    }
}
