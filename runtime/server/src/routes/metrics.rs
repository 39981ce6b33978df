//! `/metrics`: the page of all metrics, in the format that its reader likes best.

use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::options::{MetricsFormat, MetricsPage};

/// Answers a request for the page.
pub(super) fn answer(method: &Method, headers: &HeaderMap, page: &MetricsPage) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let allow = [(ALLOW, HeaderValue::from_static("GET, HEAD"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
    }
    let format = wanted(headers);
    let content_type = HeaderValue::from_static(match format {
        MetricsFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
        MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    });
    ([(CONTENT_TYPE, content_type), (VARY, HeaderValue::from_name(ACCEPT))], page(format)).into_response()
}

/// OpenMetrics where it is named and liked at least as well as text; text for all others, whatever they accept: a page in a format
/// that was not asked for helps more than none.
fn wanted(headers: &HeaderMap) -> MetricsFormat {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut open, mut text) = (None, (0, 0.0));
    for range in values.flat_map(|value| value.split(',')).filter_map(Range::of) {
        let Range { kind, version, quality } = range;
        // The most specific range decides, not the best liked.
        let specific = match kind.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                open = Some(open.map_or(quality, |known: f64| known.max(quality)));
                continue;
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => 3,
            "text/*" => 2,
            "*/*" => 1,
            _ => continue,
        };
        if specific > text.0 || (specific == text.0 && quality > text.1) {
            text = (specific, quality);
        }
    }
    match open {
        Some(open) if open > 0.0 && open >= text.1 => MetricsFormat::OpenMetrics,
        _ => MetricsFormat::Text,
    }
}

/// One of the media ranges of an `Accept` header (RFC 9110, section 12.5.1).
struct Range<'a> {
    /// In lower case.
    kind: String,
    version: Option<&'a str>,
    /// From 0 to 1.
    quality: f64,
}

impl<'a> Range<'a> {
    /// None where it is not understood.
    fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { kind: parts.next()?.to_ascii_lowercase(), version: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "version" => range.version = Some(value),
                "q" | "Q" => range.quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
                _ => {}
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_chooses_the_format() {
        use MetricsFormat::{OpenMetrics, Text};
        let of = |accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            wanted(&headers)
        };
        for (accept, expected) in [
            (&[][..], Text),
            (&[""], Text),
            (&["*/*"], Text),
            (&["application/*"], Text),
            (&["application/json"], Text),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["Application/OpenMetrics-Text; version=1.0.0; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text; version=\"1.0.0\""], OpenMetrics),
            (&["application/openmetrics-text; version=2.0.0"], Text),
            (&["application/openmetrics-text;version=0.0.1"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["application/openmetrics-text;q=much"], Text),
            (&["application/openmetrics-text;q=0.5,text/plain;q=0.6"], Text),
            (&["application/openmetrics-text;q=0.5", "text/*;q=0.4, */*;q=0.9"], OpenMetrics),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Text),
            // Prometheus 2.42, and 3.
            (
                &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OpenMetrics,
            ),
            (
                &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                   application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                OpenMetrics,
            ),
        ] {
            assert_eq!(of(accept), expected, "{accept:?}");
        }
    }
}
