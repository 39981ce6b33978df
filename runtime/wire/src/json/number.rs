//! JSON numbers into each dtype, without loss and without a detour through text.

use corymb_core::DType;
use half::{bf16, f16};
use jiter::{Jiter, JiterErrorType, NumberInt, Peek};

use super::fault::{Fault, found};

/// A number as JSON has it, into one element.
pub(super) trait Number: bytemuck::Pod {
    fn read(json: &mut Jiter<'_>, peek: Peek) -> Result<Self, Fault>;
}

/// BOOL: `true`, `false`, and for clients that keep flags as numbers 0 and 1.
pub(super) fn read_bool(json: &mut Jiter<'_>, peek: Peek) -> Result<u8, Fault> {
    match peek {
        Peek::True | Peek::False => Ok(u8::from(json.known_bool(peek)?)),
        _ => {
            let start = json.current_index();
            match integer(json, peek, DType::Bool)? {
                NumberInt::Int(flag @ (0 | 1)) => Ok(u8::from(flag == 1)),
                _ => Err(out_of_range(json.slice_to_current(start), DType::Bool)),
            }
        }
    }
}

macro_rules! integers {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl Number for $type {
            #[inline]
            fn read(json: &mut Jiter<'_>, peek: Peek) -> Result<Self, Fault> {
                let start = json.current_index();
                let value = match integer(json, peek, DType::$dtype)? {
                    NumberInt::Int(value) => Self::try_from(value).ok(),
                    NumberInt::BigInt(value) => Self::try_from(&value).ok(),
                };
                value.ok_or_else(|| out_of_range(json.slice_to_current(start), DType::$dtype))
            }
        }
    )*};
}

integers! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
}

impl Number for f64 {
    #[inline]
    fn read(json: &mut Jiter<'_>, peek: Peek) -> Result<Self, Fault> {
        let start = json.current_index();
        let value = float(json, peek, DType::Fp64)?;
        if value.is_infinite() {
            infinity_was_meant(json.slice_to_current(start), DType::Fp64)?;
        }
        Ok(value)
    }
}

impl Number for f32 {
    #[inline]
    fn read(json: &mut Jiter<'_>, peek: Peek) -> Result<Self, Fault> {
        /// What an f64 has below an f32's last bit, without the topmost of it.
        const BELOW_HALF: u64 = (1 << 28) - 1;

        let start = json.current_index();
        let wide = float(json, peek, DType::Fp32)?;
        let mut narrow = wide as Self;
        if wide.to_bits() & BELOW_HALF == 0 && f64::from(narrow) != wide && !wide.is_nan() {
            // Rounded to an f64 that lies exactly between two f32, or between the largest and what would be infinite: only
            // the text knows to which side it belongs.
            let text = std::str::from_utf8(json.slice_to_current(start)).unwrap_or_default();
            narrow = text.parse().unwrap_or(narrow);
        }
        if narrow.is_infinite() {
            infinity_was_meant(json.slice_to_current(start), DType::Fp32)?;
        }
        Ok(narrow)
    }
}

impl Number for f16 {
    #[inline]
    fn read(json: &mut Jiter<'_>, peek: Peek) -> Result<Self, Fault> {
        let start = json.current_index();
        let value = Self::from_f32(rounded_to_odd(float(json, peek, DType::Fp16)?));
        if value.is_infinite() {
            infinity_was_meant(json.slice_to_current(start), DType::Fp16)?;
        }
        Ok(value)
    }
}

impl Number for bf16 {
    #[inline]
    fn read(json: &mut Jiter<'_>, peek: Peek) -> Result<Self, Fault> {
        let start = json.current_index();
        let value = Self::from_f32(rounded_to_odd(float(json, peek, DType::Bf16)?));
        if value.is_infinite() {
            infinity_was_meant(json.slice_to_current(start), DType::Bf16)?;
        }
        Ok(value)
    }
}

/// An f64 as f32 whose last bit is set where the conversion was not exact, so that rounding once more, to 16 bits,
/// gives what rounding only once would have.
fn rounded_to_odd(wide: f64) -> f32 {
    let narrow = wide as f32;
    if f64::from(narrow) == wide || wide.is_nan() {
        return narrow;
    }
    let away_from_zero = f64::from(narrow).abs() > wide.abs();
    f32::from_bits((narrow.to_bits() - u32::from(away_from_zero)) | 1)
}

#[inline]
fn float(json: &mut Jiter<'_>, peek: Peek, dtype: DType) -> Result<f64, Fault> {
    if peek.is_num() { Ok(json.known_float(peek)?) } else { Err(not_a_number(json, peek, dtype)) }
}

#[inline]
fn integer(json: &mut Jiter<'_>, peek: Peek, dtype: DType) -> Result<NumberInt, Fault> {
    if !peek.is_num() {
        return Err(not_a_number(json, peek, dtype));
    }
    json.known_int(peek).map_err(|error| match error.error_type {
        JiterErrorType::WrongType { .. } => {
            let text = json.known_number_bytes(peek).map(excerpt).unwrap_or_default();
            Fault::new(format!("{text} is not an integer; expected {dtype}"))
        }
        JiterErrorType::JsonError(_) => error.into(),
    })
}

/// What the parser gave as infinite: fine when the text says so, an overflow when it has digits.
#[cold]
fn infinity_was_meant(text: &[u8], dtype: DType) -> Result<(), Fault> {
    if text.ends_with(b"Infinity") { Ok(()) } else { Err(out_of_range(text, dtype)) }
}

#[cold]
fn out_of_range(text: &[u8], dtype: DType) -> Fault {
    Fault::new(format!("{} is out of range for {dtype}", excerpt(text)))
}

#[cold]
fn not_a_number(json: &mut Jiter<'_>, peek: Peek, dtype: DType) -> Fault {
    match found(peek) {
        Some(found) => Fault::new(format!("expected {dtype}, found {found}")),
        // No value begins so: the parser says it better.
        None => json.known_skip(peek).err().map_or_else(|| Fault::new("malformed"), Fault::from),
    }
}

/// A number as written, its beginning where it is absurdly long.
fn excerpt(text: &[u8]) -> String {
    const MAX: usize = 40;
    let shown = String::from_utf8_lossy(&text[..text.len().min(MAX)]);
    format!("{shown}{}", if text.len() > MAX { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Number>(text: &str) -> Result<T, String> {
        let mut json = Jiter::new(text.as_bytes()).with_allow_inf_nan();
        let peek = json.peek().expect("not empty");
        T::read(&mut json, peek).map_err(|fault| fault.into_error("", text.as_bytes()).message)
    }

    #[test]
    fn integers_keep_to_their_range() {
        assert_eq!(read::<u8>("255"), Ok(255));
        assert_eq!(read::<u8>("256"), Err("256 is out of range for UINT8".into()));
        assert_eq!(read::<u8>("-1"), Err("-1 is out of range for UINT8".into()));
        assert_eq!(read::<i8>("-128"), Ok(-128));
        assert_eq!(read::<i32>("99999999999"), Err("99999999999 is out of range for INT32".into()));
        assert_eq!(read::<i64>("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(read::<i64>("9223372036854775808"), Err("9223372036854775808 is out of range for INT64".into()));
        assert_eq!(read::<u64>("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(read::<u64>("18446744073709551616"), Err("18446744073709551616 is out of range for UINT64".into()));
        assert_eq!(read::<i32>("1.5"), Err("1.5 is not an integer; expected INT32".into()));
        assert_eq!(read::<i32>("1e3"), Err("1e3 is not an integer; expected INT32".into()));
        assert_eq!(read::<i32>("NaN"), Err("NaN is not an integer; expected INT32".into()));
        assert_eq!(read::<i32>("\"1\""), Err("expected INT32, found a text".into()));
        assert_eq!(read::<i32>("null"), Err("expected INT32, found null".into()));
        assert!(read::<i32>("x").expect_err("refused").contains("not valid JSON"));
        let long = read::<u64>(&"9".repeat(1000)).expect_err("refused");
        assert_eq!(long, format!("{}… is out of range for UINT64", "9".repeat(40)));
    }

    #[test]
    fn floats_round_once() {
        assert_eq!(read::<f32>("1"), Ok(1.0));
        assert_eq!(read::<f32>("-0").map(f32::to_bits), Ok((-0.0_f32).to_bits()));
        assert_eq!(read::<f32>("-Infinity"), Ok(f32::NEG_INFINITY));
        assert!(read::<f32>("NaN").expect("a number").is_nan());
        assert_eq!(read::<f32>("1e39"), Err("1e39 is out of range for FP32".into()));
        assert_eq!(read::<f64>("1e999"), Err("1e999 is out of range for FP64".into()));
        assert_eq!(read::<f16>("65520"), Err("65520 is out of range for FP16".into()));
        assert_eq!(read::<f16>("65519"), Ok(f16::MAX));
        assert_eq!(read::<f32>("1e-60"), Ok(0.0));
        // A hair above the middle of 1 and its successor: as f64 it is the middle, and would round to even.
        let text = "1.00000005960464477539062500000000000000001";
        assert_eq!(text.parse::<f64>().map(|wide| wide as f32), Ok(1.0));
        assert_eq!(read::<f32>(text), Ok(1.0 + f32::EPSILON));
        // A hair below the middle of the largest and the first that is out of range.
        let text = "340282356779733661637539395458142568447.9";
        assert_eq!(text.parse::<f64>().map(|wide| wide as f32), Ok(f32::INFINITY));
        assert_eq!(read::<f32>(text), Ok(f32::MAX));
        assert!(read::<f32>("340282356779733661637539395458142568448").is_err());
        // The same for FP16 (ten bits) and BF16 (seven).
        assert_eq!(read::<f16>("1.00048828125001"), Ok(f16::from_bits(0x3c01)));
        assert_eq!(read::<f16>("1.00048828125"), Ok(f16::from_bits(0x3c00)));
        assert_eq!(read::<bf16>("1.0039062500001"), Ok(bf16::from_bits(0x3f81)));
        assert_eq!(read::<bf16>("1.00390625"), Ok(bf16::from_bits(0x3f80)));
        assert_eq!(read::<f32>("true"), Err("expected FP32, found a boolean".into()));
    }

    #[test]
    fn flags_are_words_or_bits() {
        let flag = |text: &str| {
            let mut json = Jiter::new(text.as_bytes());
            let peek = json.peek().expect("not empty");
            read_bool(&mut json, peek).map_err(|fault| fault.into_error("", text.as_bytes()).message)
        };
        assert_eq!(flag("true"), Ok(1));
        assert_eq!(flag("0"), Ok(0));
        assert_eq!(flag("2"), Err("2 is out of range for BOOL".into()));
        assert_eq!(flag("\"true\""), Err("expected BOOL, found a text".into()));
    }
}
