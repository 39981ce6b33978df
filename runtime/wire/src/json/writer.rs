//! Writes tensors as JSON, straight from their buffers.

use bytes::Bytes;
use corymb_core::{Code, DType, Error, Tensor};
use half::{bf16, f16};
use jiter::Jiter;

use super::text::write_base64;

/// The elements of a tensor and how they are written.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    Bool(&'a [u8]),
    Uint8(&'a [u8]),
    Uint16(&'a [u16]),
    Uint32(&'a [u32]),
    Uint64(&'a [u64]),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Fp16(&'a [f16]),
    Bf16(&'a [bf16]),
    Fp32(&'a [f32]),
    Fp64(&'a [f64]),
    /// Valid UTF-8, as strings.
    Text(&'a [Bytes]),
    /// As strings of base64.
    Base64(&'a [Bytes]),
    /// As `{"b64": "…"}`.
    Base64Object(&'a [Bytes]),
    /// Valid JSON, as it is.
    Document(&'a [Bytes]),
}

impl<'a> Values<'a> {
    /// V1's way: BYTES as text, unless one element is not UTF-8 or the name ends in `_bytes`, TensorFlow Serving's sign
    /// for binary. `documents` are written as what they are, where all of them are JSON.
    pub(crate) fn of_v1(name: &str, tensor: &'a Tensor, documents: bool) -> Result<Self, Error> {
        let Some(elements) = tensor.elements() else { return Self::fixed(name, tensor) };
        if documents && elements.iter().all(|element| is_json(element)) {
            return Ok(Self::Document(elements));
        }
        let text = !name.ends_with("_bytes") && elements.iter().all(|element| std::str::from_utf8(element).is_ok());
        Ok(if text { Self::Text(elements) } else { Self::Base64Object(elements) })
    }

    /// V2's way: BYTES as text, or base64 where one element is not UTF-8.
    pub(crate) fn of_v2(name: &str, tensor: &'a Tensor) -> Result<Self, Error> {
        let Some(elements) = tensor.elements() else { return Self::fixed(name, tensor) };
        let text = elements.iter().all(|element| std::str::from_utf8(element).is_ok());
        Ok(if text { Self::Text(elements) } else { Self::Base64(elements) })
    }

    fn fixed(name: &str, tensor: &'a Tensor) -> Result<Self, Error> {
        let values = match tensor.dtype() {
            DType::Bool => tensor.as_slice().map(Self::Bool),
            DType::Uint8 => tensor.as_slice().map(Self::Uint8),
            DType::Uint16 => tensor.as_slice().map(Self::Uint16),
            DType::Uint32 => tensor.as_slice().map(Self::Uint32),
            DType::Uint64 => tensor.as_slice().map(Self::Uint64),
            DType::Int8 => tensor.as_slice().map(Self::Int8),
            DType::Int16 => tensor.as_slice().map(Self::Int16),
            DType::Int32 => tensor.as_slice().map(Self::Int32),
            DType::Int64 => tensor.as_slice().map(Self::Int64),
            DType::Fp16 => tensor.as_slice().map(Self::Fp16),
            DType::Bf16 => tensor.as_slice().map(Self::Bf16),
            DType::Fp32 => tensor.as_slice().map(Self::Fp32),
            DType::Fp64 => tensor.as_slice().map(Self::Fp64),
            DType::Bytes => tensor.elements().map(Self::Base64),
        };
        // The invariants of `Tensor` make it so; an error is cheaper than a proof.
        values.ok_or_else(|| {
            Error::new(Code::Internal, format!("output '{name}' cannot be written"))
                .with_details(format!("the data of {tensor:?} is not viewable as its dtype"))
        })
    }

    /// How many bytes all of them take at most when written, with a comma behind each: of integers and texts so many, of
    /// fractions never more.
    pub(crate) fn most_len(&self) -> usize {
        let each = |count: usize, most: usize| count.saturating_mul(most);
        match self {
            Self::Bool(values) => each(values.len(), "false,".len()),
            Self::Uint8(values) => each(values.len(), "255,".len()),
            Self::Int8(values) => each(values.len(), "-128,".len()),
            Self::Uint16(values) => each(values.len(), "65535,".len()),
            Self::Int16(values) => each(values.len(), "-32768,".len()),
            Self::Uint32(values) => values.iter().map(|value| digits((*value).into()) + 1).sum(),
            Self::Int32(values) => values.iter().map(|value| signed_len((*value).into()) + 1).sum(),
            Self::Uint64(values) => values.iter().map(|value| digits(*value) + 1).sum(),
            Self::Int64(values) => values.iter().map(|value| signed_len(*value) + 1).sum(),
            Self::Fp16(values) => each(values.len(), SINGLE + 1),
            Self::Bf16(values) => each(values.len(), SINGLE + 1),
            Self::Fp32(values) => each(values.len(), SINGLE + 1),
            Self::Fp64(values) => each(values.len(), DOUBLE + 1),
            Self::Text(values) => values.iter().map(|element| string_len(element) + 1).sum(),
            Self::Document(values) => values.iter().map(|element| element.len() + 1).sum(),
            Self::Base64(values) => values.iter().map(|element| base64_len(element) + 1).sum(),
            Self::Base64Object(values) => values.iter().map(|element| base64_len(element) + "{\"b64\":},".len()).sum(),
        }
    }

    /// Appends elements `start..end`, with commas between them.
    pub(crate) fn write(&self, start: usize, end: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bool(values) => {
                let word = |flag: &u8, out: &mut Vec<u8>| {
                    out.extend_from_slice(if *flag == 0 { b"false" } else { b"true" });
                };
                separated(&values[start..end], out, word);
            }
            Self::Uint8(values) => separated(&values[start..end], out, |value, out| unsigned((*value).into(), out)),
            Self::Uint16(values) => separated(&values[start..end], out, |value, out| unsigned((*value).into(), out)),
            Self::Uint32(values) => separated(&values[start..end], out, |value, out| unsigned((*value).into(), out)),
            Self::Uint64(values) => separated(&values[start..end], out, |value, out| unsigned(*value, out)),
            Self::Int8(values) => separated(&values[start..end], out, |value, out| signed((*value).into(), out)),
            Self::Int16(values) => separated(&values[start..end], out, |value, out| signed((*value).into(), out)),
            Self::Int32(values) => separated(&values[start..end], out, |value, out| signed((*value).into(), out)),
            Self::Int64(values) => separated(&values[start..end], out, |value, out| signed(*value, out)),
            // Every 16-bit float is an f32, whose shortest digits name it among its own kind, too.
            Self::Fp16(values) => separated(&values[start..end], out, |value, out| single(value.to_f32(), out)),
            Self::Bf16(values) => separated(&values[start..end], out, |value, out| single(value.to_f32(), out)),
            Self::Fp32(values) => separated(&values[start..end], out, |value, out| single(*value, out)),
            Self::Fp64(values) => separated(&values[start..end], out, |value, out| double(*value, out)),
            Self::Text(values) => separated(&values[start..end], out, |element, out| string(element, out)),
            Self::Document(values) => {
                separated(&values[start..end], out, |element, out| out.extend_from_slice(element));
            }
            Self::Base64(values) => separated(&values[start..end], out, |element, out| base64_string(element, out)),
            Self::Base64Object(values) => separated(&values[start..end], out, |element, out| {
                out.extend_from_slice(b"{\"b64\":");
                base64_string(element, out);
                out.push(b'}');
            }),
        }
    }
}

/// Appends the elements from `*start` on, nested as `shape` says, and moves `start` behind them.
pub(crate) fn write_nested(values: &Values<'_>, shape: &[usize], start: &mut usize, out: &mut Vec<u8>) {
    match shape {
        [] => {
            values.write(*start, *start + 1, out);
            *start += 1;
        }
        [size] => {
            out.push(b'[');
            values.write(*start, *start + size, out);
            *start += size;
            out.push(b']');
        }
        [size, rest @ ..] => {
            out.push(b'[');
            for index in 0..*size {
                if index > 0 {
                    out.push(b',');
                }
                write_nested(values, rest, start, out);
            }
            out.push(b']');
        }
    }
}

/// What the brackets of a tensor of that shape take, and the commas between them, at most.
pub(crate) fn nesting_len(shape: &[usize]) -> usize {
    let lists = shape.iter().scan(1_usize, |lists, size| Some(std::mem::replace(lists, lists.saturating_mul(*size))));
    lists.fold(0, |sum, lists| sum.saturating_add(lists.saturating_mul("[],".len())))
}

/// What a quoted string takes at most.
pub(crate) fn string_len(utf8: &[u8]) -> usize {
    let more = utf8.iter().map(|byte| match byte {
        b'"' | b'\\' => 1,
        ..0x20 => "\\u0000".len() - 1,
        _ => 0,
    });
    utf8.len() + "\"\"".len() + more.sum::<usize>()
}

/// The most characters of a number in FP32, and in FP64.
const SINGLE: usize = 16;
const DOUBLE: usize = 24;

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |power| power as usize + 1)
}

fn signed_len(value: i64) -> usize {
    digits(value.unsigned_abs()) + usize::from(value < 0)
}

fn base64_len(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4 + "\"\"".len()
}

/// Appends a quoted string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    string(text.as_bytes(), out);
}

fn separated<T>(values: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    let Some((first, rest)) = values.split_first() else { return };
    write(first, out);
    for value in rest {
        out.push(b',');
        write(value, out);
    }
}

fn string(utf8: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut clean = 0;
    for (index, &byte) in utf8.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&utf8[clean..index]);
        clean = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&utf8[clean..]);
    out.push(b'"');
}

fn base64_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_base64(bytes, out);
    out.push(b'"');
}

pub(crate) fn unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

pub(crate) fn signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(value.unsigned_abs(), out);
}

/// The shortest digits that give the same f32 again; NaN and infinities as the bare words that both protocols' servers
/// write, though JSON has none.
fn single(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(not_finite(f64::from(value)));
    }
}

pub(crate) fn double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(not_finite(value));
    }
}

fn not_finite(value: f64) -> &'static [u8] {
    if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    }
}

fn is_json(text: &[u8]) -> bool {
    let mut json = Jiter::new(text);
    std::str::from_utf8(text).is_ok() && json.next_skip().is_ok() && json.finish().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(tensor: &Tensor) -> String {
        let values = Values::of_v2("y", tensor).expect("viewable");
        let mut out = Vec::new();
        write_nested(&values, tensor.shape(), &mut 0, &mut out);
        let most = values.most_len() + nesting_len(tensor.shape());
        assert!(out.len() <= most, "{} of {most} bytes of {tensor:?}", out.len());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn nesting_follows_the_shape() {
        let tensor = Tensor::from_slice([2, 1, 2], &[1_i32, -2, 3, i32::MIN]).expect("valid");
        assert_eq!(written(&tensor), "[[[1,-2]],[[3,-2147483648]]]");
        assert_eq!(written(&Tensor::from_slice([], &[0_u8]).expect("valid")), "0");
        assert_eq!(written(&Tensor::from_slice::<u8>([2, 0], &[]).expect("valid")), "[[],[]]");
        assert_eq!(written(&Tensor::from_slice::<u8>([0, 2], &[]).expect("valid")), "[]");
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let values = [0.1_f32, -0.0, 7.0, 1e-7, f32::MAX, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let tensor = Tensor::from_slice([8], &values).expect("valid");
        assert_eq!(written(&tensor), "[0.1,-0.0,7.0,1e-7,3.4028235e+38,NaN,Infinity,-Infinity]");
        let tensor = Tensor::from_slice([2], &[u64::MAX, 10]).expect("valid");
        assert_eq!(written(&tensor), "[18446744073709551615,10]");
        let tensor = Tensor::new(DType::Bool, [2], Bytes::from_static(&[1, 0])).expect("valid");
        assert_eq!(written(&tensor), "[true,false]");
        let tensor = Tensor::from_slice([1], &[f16::from_f32(0.5)]).expect("valid");
        assert_eq!(written(&tensor), "[0.5]");
    }

    #[test]
    fn what_is_written_is_no_longer_than_was_said() {
        let mut bits = 1_u64;
        let mut random = || {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits
        };
        for _ in 0..2000 {
            let wide = random();
            let (singles, doubles) = (f32::from_bits(wide as u32), f64::from_bits(wide));
            let ordinary = f64::from(wide as i32) * 10_f64.powi((wide >> 40) as i32 % 30 - 15);
            written(&Tensor::from_slice([1, 2, 1], &[singles, ordinary as f32]).expect("valid"));
            written(&Tensor::from_slice([2], &[doubles, ordinary]).expect("valid"));
            written(&Tensor::from_slice([1], &[f16::from_bits(wide as u16)]).expect("valid"));
            written(&Tensor::from_slice([1], &[bf16::from_bits(wide as u16)]).expect("valid"));
            let shift = wide % 64;
            written(&Tensor::from_slice([3, 1], &[wide >> shift, 0, u64::MAX]).expect("valid"));
            written(&Tensor::from_slice([3], &[(wide as i64) >> shift, 0, i64::MIN]).expect("valid"));
            written(&Tensor::from_slice([2], &[wide as i32, i32::MIN]).expect("valid"));
            let text = Bytes::copy_from_slice(&wide.to_le_bytes()[..(wide % 9) as usize]);
            written(&Tensor::from_elements([1], vec![text]).expect("valid"));
            let text = wide.to_le_bytes().map(|byte| byte & 0x7f);
            written(&Tensor::from_elements([1, 1], vec![Bytes::copy_from_slice(&text)]).expect("valid"));
        }
        assert_eq!(nesting_len(&[2, 3, usize::MAX, usize::MAX]), usize::MAX);
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        write_string("a\"b\\c\n\u{1}ä\u{7f}", &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "\"a\\\"b\\\\c\\n\\u0001ä\u{7f}\"");
    }
}
