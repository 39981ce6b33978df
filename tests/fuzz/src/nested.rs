//! Nested lists of numbers in JSON, parsed once more: one value at a time, by the standard library, and without limits.

use corymb_core::{DType, MAX_RANK};

/// Lists that are regular, and what stands in them.
#[derive(Debug, Default)]
pub(crate) struct Nested<'a> {
    pub(crate) shape: Vec<usize>,
    /// Everything that is not a list, in row-major order.
    pub(crate) words: Vec<&'a str>,
}

impl<'a> Nested<'a> {
    /// Parses all of `text`; none where lists are ragged, too deep or no lists.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut nested = Self::default();
        let mut rest = text;
        nested.shape = nested.value(&mut rest, 0)?;
        trim(rest).is_empty().then_some(nested)
    }

    /// Reads a value off the front of `rest`, and returns its shape.
    fn value(&mut self, rest: &mut &'a str, depth: usize) -> Option<Vec<usize>> {
        *rest = trim(rest);
        let Some(inside) = rest.strip_prefix('[') else { return self.word(rest) };
        if depth == MAX_RANK {
            return None;
        }
        *rest = trim(inside);
        if let Some(behind) = rest.strip_prefix(']') {
            *rest = behind;
            return Some(vec![0]);
        }
        let first = self.value(rest, depth + 1)?;
        let mut count = 1;
        loop {
            *rest = trim(rest);
            if let Some(behind) = rest.strip_prefix(']') {
                *rest = behind;
                return Some([vec![count], first].concat());
            }
            *rest = rest.strip_prefix(',')?;
            count += 1;
            if self.value(rest, depth + 1)? != first {
                return None;
            }
        }
    }

    fn word(&mut self, rest: &mut &'a str) -> Option<Vec<usize>> {
        let end = rest.find([' ', '\t', '\n', '\r', ',', '[', ']', '}']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        *rest = behind;
        self.words.push(word);
        (!word.is_empty()).then(Vec::new)
    }
}

/// JSON's white space, which is less than Unicode's.
fn trim(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// The little-endian bytes of a word as an element of that dtype; none where it is no such element.
pub(crate) fn element(dtype: DType, word: &str) -> Option<Vec<u8>> {
    let flag = match word {
        "true" => Some(1),
        "false" => Some(0),
        _ => None,
    };
    let integer = || word.parse::<i128>().ok().filter(|_| is_number(word));
    Some(match dtype {
        DType::Bool => vec![flag.or_else(|| u8::try_from(integer()?).ok().filter(|flag| *flag < 2))?],
        DType::Uint8 => u8::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Uint16 => u16::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Uint32 => u32::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Uint64 => u64::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Int8 => i8::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Int16 => i16::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Int32 => i32::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Int64 => i64::try_from(integer()?).ok()?.to_le_bytes().to_vec(),
        DType::Fp16 => half::f16::from_f64(rounded(float(word)?, 10, -24, 65504.0)?).to_le_bytes().to_vec(),
        DType::Bf16 => half::bf16::from_f64(rounded(float(word)?, 7, -133, BF16_MAX)?).to_le_bytes().to_vec(),
        DType::Fp32 => single(word)?.to_le_bytes().to_vec(),
        DType::Fp64 => float(word)?.to_le_bytes().to_vec(),
        DType::Bytes => return None,
    })
}

const BF16_MAX: f64 = (2.0 - 1.0 / 128.0) * (1_u128 << 127) as f64;

fn special(word: &str) -> Option<f64> {
    match word {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn float(word: &str) -> Option<f64> {
    let parsed = || word.parse().ok().filter(|value: &f64| value.is_finite() && is_number(word));
    special(word).or_else(parsed)
}

/// Rounded once, which a detour by `f64` would not do.
fn single(word: &str) -> Option<f32> {
    let parsed = || word.parse().ok().filter(|value: &f32| value.is_finite() && is_number(word));
    special(word).map(|value| value as f32).or_else(parsed)
}

/// The nearest value, ties to even, with so many bits behind the leading one and no smaller unit than two to the power of
/// `smallest`; none beyond `max`.
///
/// `half` rounds an f64 by its upper bits alone, so it is given what is exact already.
fn rounded(wide: f64, bits: i32, smallest: i32, max: f64) -> Option<f64> {
    if wide == 0.0 || !wide.is_finite() {
        return Some(wide);
    }
    // The exponent as it is stored: exact, where a logarithm would be rounded.
    let exponent = ((wide.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-1022);
    let unit = 2_f64.powi((exponent - bits).max(smallest));
    let rounded = (wide / unit).round_ties_even() * unit;
    (rounded.abs() <= max).then_some(rounded)
}

/// Whether a word is a number by JSON's grammar.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}
