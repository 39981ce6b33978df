//! Who a request is: W3C trace context and `x-request-id`, taken from its headers or made here.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use http::{HeaderMap, HeaderValue};

/// A random number; unguessable is not needed, never twice is.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: u128,
    /// Our own part of the trace.
    span: u64,
    flags: u8,
    /// Whether the caller named the trace, and so may want to hear of our part.
    inherited: bool,
}

impl TraceContext {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let inherited = headers.get("traceparent").and_then(|value| parse(value.as_bytes()));
        let (trace, flags) = inherited.unwrap_or_else(|| (u128::from(random()) << 64 | u128::from(random()), 0));
        Self { trace, span: random(), flags, inherited: inherited.is_some() }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub(crate) fn id(&self) -> impl fmt::Display + use<> {
        Hex(self.trace)
    }

    /// `traceresponse`, where the request had a `traceparent`.
    pub(crate) fn response_header(&self) -> Option<HeaderValue> {
        let text = || format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags);
        self.inherited.then(|| HeaderValue::try_from(text()).ok()).flatten()
    }
}

struct Hex(u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Trace id and flags of a `traceparent`: version, 32, 16 and 2 lower-case hexadecimal digits with `-` between them;
/// later versions may go on.
fn parse(value: &[u8]) -> Option<(u128, u8)> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let mut parts = text.split('-');
    let mut next = |len: usize| {
        parts.next().filter(|part| {
            part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    };
    let version = next(2)?;
    let trace = u128::from_str_radix(next(32)?, 16).ok()?;
    let parent = u64::from_str_radix(next(16)?, 16).ok()?;
    let flags = u8::from_str_radix(next(2)?, 16).ok()?;
    let ends = version != "00" || parts.next().is_none();
    (version != "ff" && trace != 0 && parent != 0 && ends).then_some((trace, flags))
}

/// The caller's name for a request, or ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// Longer names are replaced: they would fill the log.
    const MAX: usize = 128;

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get("x-request-id").filter(|value| {
            (1..=Self::MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        Self(given.cloned().unwrap_or_else(|| {
            HeaderValue::try_from(format!("{:016x}", random())).unwrap_or(HeaderValue::from_static("0"))
        }))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_taken_over_or_made() {
        let mut headers = HeaderMap::new();
        let made = TraceContext::of(&headers);
        assert_ne!(made.trace, TraceContext::of(&headers).trace);
        assert_eq!(made.response_header(), None);

        headers.insert("traceparent", HeaderValue::from_static(PARENT));
        let taken = TraceContext::of(&headers);
        assert_eq!(taken.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let answer = taken.response_header().expect("wanted");
        let answer = answer.to_str().expect("text");
        assert!(answer.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && answer.ends_with("-01"), "{answer}");
    }

    #[test]
    fn malformed_parents_are_ignored() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert!(parse(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more").is_some());
    }

    #[test]
    fn request_ids_are_echoed_when_they_are_sane() {
        let mut headers = HeaderMap::new();
        let made = RequestId::of(&headers);
        assert_eq!(made.to_string().len(), 16);
        headers.insert("x-request-id", HeaderValue::from_static("abc-1"));
        assert_eq!(RequestId::of(&headers).to_string(), "abc-1");
        headers.insert("x-request-id", HeaderValue::from_static("with space"));
        assert_ne!(RequestId::of(&headers).to_string(), "with space");
        headers.insert("x-request-id", HeaderValue::try_from("a".repeat(129)).expect("valid"));
        assert_eq!(RequestId::of(&headers).to_string().len(), 16);
    }
}
