//! BYTES elements in JSON: plain text, base64, or a whole document.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use bytes::Bytes;
use corymb_core::Error;
use jiter::{Jiter, Peek};

use super::fault::{Fault, found};
use crate::limits::Ledger;

/// One element: a text, or `{"b64": "…"}`.
pub(crate) fn read_element(
    json: &mut Jiter<'_>,
    peek: Peek,
    body: &Bytes,
    ledger: &mut Ledger<'_>,
) -> Result<Bytes, Fault> {
    match peek {
        Peek::String => Ok(share(body, json.known_str()?, ledger)?),
        Peek::Object => read_base64_object(json, ledger),
        _ => match found(peek) {
            Some(found) => Err(Fault::new(format!("expected a text or {{\"b64\": …}} for BYTES, found {found}"))),
            None => json.known_skip(peek).map(|()| Bytes::new()).map_err(Fault::from),
        },
    }
}

/// One element that is a JSON document of its own, as it stands in the body.
pub(crate) fn read_document(
    json: &mut Jiter<'_>,
    peek: Peek,
    body: &Bytes,
    ledger: &mut Ledger<'_>,
) -> Result<Bytes, Fault> {
    let start = json.current_index();
    json.known_skip(peek)?;
    // Skipping does not look into strings.
    let text = std::str::from_utf8(json.slice_to_current(start)).map_err(|_| Fault::new("is not valid UTF-8"))?;
    // NaN and its like, which numbers of tensors may be, are no JSON.
    if Jiter::new(text.as_bytes()).next_skip().is_err() {
        return Err(Fault::new("is not valid JSON: it holds NaN or Infinity"));
    }
    Ok(share(body, text, ledger)?)
}

fn read_base64_object(json: &mut Jiter<'_>, ledger: &mut Ledger<'_>) -> Result<Bytes, Fault> {
    const EXPECTED: &str = "expected a text or {\"b64\": …} for BYTES";
    match json.known_object()? {
        Some("b64") => {}
        Some(key) => {
            let key = excerpt(key);
            return Err(Fault::new(format!("{EXPECTED}, found an object with the member '{key}'")));
        }
        None => return Err(Fault::new(format!("{EXPECTED}, found an empty object"))),
    }
    let peek = json.peek()?;
    if peek != Peek::String {
        let found = found(peek).unwrap_or("nothing");
        return Err(Fault::new(format!("expected a text in \"b64\", found {found}")));
    }
    let text = json.known_str()?.as_bytes();
    ledger.hold(base64::decoded_len_estimate(text.len()))?;
    let element = decode_base64(text).map_err(Fault::new)?;
    match json.next_key()? {
        None => Ok(element.into()),
        Some(key) => {
            let key = excerpt(key);
            Err(Fault::new(format!("{EXPECTED}, found an object with the member '{key}' beside \"b64\"")))
        }
    }
}

/// The text where it lies in the body; a copy only when it had escapes.
fn share(body: &Bytes, text: &str, ledger: &mut Ledger<'_>) -> Result<Bytes, Error> {
    let start = (text.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    if start <= body.len() && text.len() <= body.len() - start {
        Ok(body.slice(start..start + text.len()))
    } else {
        ledger.hold(text.len())?;
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// Decodes the standard and the URL-safe alphabet, padded or not, broken into lines or not.
pub(crate) fn decode_base64(text: &[u8]) -> Result<Vec<u8>, String> {
    // Not from the allocator's zeroed memory, which for a picture are pages that it fetches anew.
    let mut bytes = std::hint::black_box(Vec::with_capacity(base64::decoded_len_estimate(text.len())));
    let error = match STANDARD_PAD_INDIFFERENT.decode_vec(text, &mut bytes) {
        Ok(()) => return Ok(bytes),
        Err(error) => error,
    };
    if text.iter().any(|byte| matches!(byte, b'-' | b'_'))
        && let Ok(bytes) = URL_SAFE_PAD_INDIFFERENT.decode(text)
    {
        return Ok(bytes);
    }
    if text.iter().any(u8::is_ascii_whitespace) {
        let joined: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        return decode_base64(&joined);
    }
    Err(format!("is not valid base64: {error}"))
}

/// Appends `bytes` in base64.
pub(crate) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // Never short: four characters hold three bytes.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// The beginning of a text from outside, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counted;
    use crate::limits::{Limits, Unbounded};

    fn read(text: &'static str) -> Result<Vec<u8>, String> {
        let body = Bytes::from_static(text.as_bytes());
        let mut json = Jiter::new(&body);
        let peek = json.peek().expect("not empty");
        let (limits, mut budget) = (Limits::default(), Unbounded);
        let element = read_element(&mut json, peek, &body, &mut Ledger::new(&limits, &mut budget));
        element.map(|element| element.to_vec()).map_err(|fault| fault.into_error("", &body).message)
    }

    #[test]
    fn elements_are_texts_or_base64() {
        assert_eq!(read(r#""   1""#), Ok(b"   1".to_vec()));
        assert_eq!(read(r#""a\nä\u00e4""#), Ok("a\nää".into()));
        assert_eq!(read(r#"{"b64": "/+8="}"#), Ok(vec![0xff, 0xef]));
        assert_eq!(read(r#"{"b64": "\/+8"}"#), Ok(vec![0xff, 0xef]));
        assert_eq!(read(r#"{"b64": "_-8"}"#), Ok(vec![0xff, 0xef]));
        assert_eq!(read(r#"{"b64": "/+\n8=\n"}"#), Ok(vec![0xff, 0xef]));
        assert_eq!(read(r#"{"b64": ""}"#), Ok(Vec::new()));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let cases = [
            (r#"{"b64": "a*b"}"#, "is not valid base64: Invalid symbol"),
            (r#"{"b64": "a"}"#, "is not valid base64: "),
            (r#"{"b64": 5}"#, "expected a text in \"b64\", found a number"),
            (r#"{"b64": "", "x": 1}"#, "found an object with the member 'x' beside \"b64\""),
            (r#"{"x": 1}"#, "found an object with the member 'x'"),
            ("{}", "found an empty object"),
            ("5", "expected a text or {\"b64\": …} for BYTES, found a number"),
            ("null", "found null"),
            (r#""\ud800""#, "not valid JSON"),
            ("x", "not valid JSON"),
        ];
        for (text, expected) in cases {
            let message = read(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn texts_are_shared_with_the_body() {
        let body = Bytes::from_static(br#"["plain","es\"caped"]"#);
        let (limits, mut budget) = (Limits::default(), Unbounded);
        let mut ledger = Ledger::new(&limits, &mut budget);
        let mut json = Jiter::new(&body);
        let mut peek = json.next_array().expect("a list").expect("two elements");
        let plain = read_element(&mut json, peek, &body, &mut ledger).expect("a text");
        assert_eq!(plain.as_ptr(), body[2..].as_ptr());
        peek = json.array_step().expect("valid").expect("one more");
        let escaped = read_element(&mut json, peek, &body, &mut ledger);
        assert_eq!(escaped.expect("a text"), r#"es"caped"#);
    }

    #[test]
    fn copies_are_reserved_and_slices_are_not() {
        let reserved = |text: &'static str| {
            let body = Bytes::from_static(text.as_bytes());
            let (limits, mut budget) = (Limits::default(), Counted::of(usize::MAX));
            let mut ledger = Ledger::new(&limits, &mut budget);
            let mut json = Jiter::new(&body);
            let peek = json.peek().expect("not empty");
            let element = read_element(&mut json, peek, &body, &mut ledger).expect("an element");
            ledger.settle().expect("room");
            (budget.reserved, element.len())
        };
        assert_eq!(reserved(r#""plain""#), (0, 5));
        assert_eq!(reserved(r#""es\"caped""#), (8, 8));
        assert_eq!(reserved(r#"{"b64": "AAAA"}"#), (3, 3));
        // Without its padding, a group holds bytes too.
        assert_eq!(reserved(r#"{"b64": "AAA"}"#), (3, 2));
    }

    #[test]
    fn base64_is_appended() {
        let mut out = b"x".to_vec();
        for bytes in [&b""[..], b"a", b"ab", b"abc"] {
            write_base64(bytes, &mut out);
        }
        assert_eq!(out, b"xYQ==YWI=YWJj");
    }
}
