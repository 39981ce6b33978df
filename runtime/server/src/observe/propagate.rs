//! Which trace a request says it belongs to: W3C Trace Context and B3, read from its headers.

use std::str::FromStr as _;

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A format of headers that carry a trace from caller to callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// `traceparent` and `tracestate`, <https://www.w3.org/TR/trace-context/>.
    TraceContext,
    /// The header `b3`, or `x-b3-traceid` and its kin, <https://github.com/openzipkin/b3-propagation>.
    B3,
}

/// The caller's part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Trace and span; none of a caller that only said whether to sample.
    pub(crate) ids: Option<(u128, u64)>,
    /// None where the decision is left to us, which B3 can say.
    pub(crate) sampled: Option<bool>,
}

impl Parent {
    /// As OpenTelemetry has it. `trace` and `span` stand in where the caller named none.
    pub(crate) fn context(self, headers: &HeaderMap, trace: u128, span: u64) -> SpanContext {
        let (trace, span) = self.ids.unwrap_or((trace, span));
        let flags = if self.sampled == Some(true) { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let state = headers.get("tracestate").and_then(|value| TraceState::from_str(value.to_str().ok()?).ok());
        SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, true, state.unwrap_or_default())
    }
}

/// What the first format that is there says.
pub(crate) fn parent(headers: &HeaderMap, formats: &[Propagator]) -> Option<Parent> {
    formats.iter().find_map(|format| match format {
        Propagator::TraceContext => traceparent(text(headers, "traceparent")?),
        Propagator::B3 => b3(headers),
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Version, 32, 16 and 2 lower-case hexadecimal digits with `-` between them; later versions may go on.
fn traceparent(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let mut next = |len: usize| {
        parts.next().filter(|part| {
            part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    };
    let version = next(2)?;
    let trace = u128::from_str_radix(next(32)?, 16).ok()?;
    let span = u64::from_str_radix(next(16)?, 16).ok()?;
    let flags = u8::from_str_radix(next(2)?, 16).ok()?;
    let ends = version != "00" || parts.next().is_none();
    let valid = version != "ff" && trace != 0 && span != 0 && ends;
    valid.then_some(Parent { ids: Some((trace, span)), sampled: Some(flags & 1 == 1) })
}

/// The single header wins over the many.
fn b3(headers: &HeaderMap) -> Option<Parent> {
    if let Some(single) = text(headers, "b3") {
        let mut parts = single.split('-');
        let first = parts.next()?;
        let Some(span) = parts.next() else {
            return Some(Parent { ids: None, sampled: Some(decision(first)?) });
        };
        let sampled = match parts.next() {
            None => None,
            Some(state) => Some(decision(state)?),
        };
        return Some(Parent { ids: Some(b3_ids(first, span)?), sampled });
    }
    let debug = text(headers, "x-b3-flags") == Some("1");
    let sampled = if debug { Some(true) } else { text(headers, "x-b3-sampled").and_then(decision) };
    let ids = text(headers, "x-b3-traceid").zip(text(headers, "x-b3-spanid"));
    let ids = ids.and_then(|(trace, span)| b3_ids(trace, span));
    (ids.is_some() || sampled.is_some()).then_some(Parent { ids, sampled })
}

/// `d` asks for debugging, which is more than sampling; `true` and `false` are what old tracers sent.
fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// 32 or 16 hexadecimal digits, and 16.
fn b3_ids(trace: &str, span: &str) -> Option<(u128, u64)> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sizes = (trace.len() == 32 || trace.len() == 16) && span.len() == 16;
    if !sizes || !digits(trace) || !digits(span) {
        return None;
    }
    let ids = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (ids.0 != 0 && ids.1 != 0).then_some(ids)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<Parent> {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        parent(&headers.collect(), &[Propagator::TraceContext, Propagator::B3])
    }

    fn of(sampled: Option<bool>) -> Option<Parent> {
        Some(Parent { ids: Some((TRACE, SPAN)), sampled })
    }

    #[test]
    fn the_traceparent_is_read() {
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read(&[("traceparent", sampled)]), of(Some(true)));
        let not = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert_eq!(read(&[("traceparent", not)]), of(Some(false)));
        assert_eq!(read(&[("traceparent", sampled), ("b3", "0")]), of(Some(true)), "the first format wins");
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
            assert_eq!(read(&[("traceparent", text)]), None, "{text}");
        }
        for text in [
            "",
            "2",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "4bf92f3577b34da6-1",
            "4bf92f3577b34da6a3ce929d0e0e47360-00f067aa0ba902b7-1",
            "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-maybe",
            "+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00000000000000000000000000000000-00f067aa0ba902b7-1",
        ] {
            assert_eq!(read(&[("b3", text)]), None, "{text}");
        }
    }

    #[test]
    fn one_b3_header_says_it_all() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        assert_eq!(read(&[("b3", ids)]), of(None));
        assert_eq!(read(&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")]), of(Some(true)));
        assert_eq!(
            read(&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-d-05e3ac9a4f6e3b90")]),
            of(Some(true))
        );
        assert_eq!(read(&[("b3", "4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-0")]), of(Some(false)));
        assert_eq!(read(&[("b3", "0")]), Some(Parent { ids: None, sampled: Some(false) }));
        let short = Parent { ids: Some((0xa3ce_929d_0e0e_4736, SPAN)), sampled: Some(true) };
        assert_eq!(read(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")]), Some(short));
    }

    #[test]
    fn many_b3_headers_say_it_all() {
        let (trace, span) = (("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"), ("x-b3-spanid", "00f067aa0ba902b7"));
        assert_eq!(read(&[trace, span]), of(None));
        assert_eq!(read(&[trace, span, ("x-b3-sampled", "1")]), of(Some(true)));
        assert_eq!(read(&[trace, span, ("x-b3-sampled", "false")]), of(Some(false)));
        assert_eq!(read(&[trace, span, ("x-b3-flags", "1")]), of(Some(true)));
        assert_eq!(read(&[("x-b3-sampled", "0")]), Some(Parent { ids: None, sampled: Some(false) }));
        assert_eq!(read(&[trace]), None);
    }
}
