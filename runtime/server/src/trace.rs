//! Who a request is: W3C trace context and `x-request-id`, taken from its headers or made here.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task_local;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

task_local! {
    /// The request whose handler is being polled.
    static CURRENT: (TraceContext, RequestId);
}

/// Polls `handler` as the one of this request.
pub(crate) fn scoped<F: Future>(
    trace: TraceContext,
    request: RequestId,
    handler: F,
) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope((trace, request), handler)
}

/// Calls `take` with the trace id and the request id where a request's handler is being polled. For the log: a line of
/// whatever happens there says to which request it belongs.
pub fn with_current_request(take: impl FnOnce(&dyn fmt::Display, &dyn fmt::Display)) {
    let _ = CURRENT.try_with(|(trace, request)| take(&trace.id(), request));
}

/// A random number; unguessable is not needed, never twice is. SplitMix64 (Steele, Lea and Flood, 2014), from a seed of
/// its own on each thread.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    let mut mixed = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The last `DIGITS` hexadecimal digits.
fn hex<const DIGITS: usize>(number: u128) -> [u8; DIGITS] {
    std::array::from_fn(|index| b"0123456789abcdef"[(number >> (4 * (DIGITS - 1 - index))) as usize & 15])
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
        let inherited = headers.get(&TRACEPARENT).and_then(|value| parse(value.as_bytes()));
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
        f.write_str(std::str::from_utf8(&hex::<32>(self.0)).unwrap_or_default())
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
        let given = headers.get(&REQUEST_ID).filter(|value| {
            (1..=Self::MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        let made = || HeaderValue::from_bytes(&hex::<16>(random().into())).unwrap_or(HeaderValue::from_static("0"));
        Self(given.cloned().unwrap_or_else(made))
    }

    /// Says it in an answer.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        let mut value = self.0.clone();
        // HTTP/2 remembers header values for the next answers of a connection, except those marked so: this one never
        // comes again.
        value.set_sensitive(true);
        headers.insert(REQUEST_ID.clone(), value);
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
