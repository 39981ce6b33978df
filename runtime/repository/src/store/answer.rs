//! Whether an answer is what was asked for: status, range, size and tag, before a byte of it is believed.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqwest::Response;

use crate::store::Object;
use crate::store::body::read;
use crate::store::digests::{Digests, composite};
use crate::store::fault::{Fault, FaultKind};

/// Bytes of an object whose size nobody states.
const MAX_COUNTED: u64 = 1 << 40;
/// Of a refusal's body, where stores say why.
const MAX_REFUSAL: usize = 16 << 10;
/// Of a store's own words.
const MAX_WORDS: usize = 300;

/// What an object was when the download began; nothing of it is known at first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) size: Option<u64>,
    pub(crate) tag: Option<String>,
}

/// The content of an object, from `start` on.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response,
    /// The first byte that is in it.
    pub(crate) start: u64,
    /// Of the whole object.
    size: Option<u64>,
    /// S3's ETags are checksums, as far as they look like it.
    is_s3: bool,
}

impl Answer {
    /// Whether the server sent everything, asked or unasked.
    pub(crate) fn is_whole(&self) -> bool {
        self.response.status() == StatusCode::OK
    }

    /// The object that it is of.
    pub(crate) fn object(&self) -> Result<Object, Fault> {
        let Some(size) = self.size else { return Err(Fault::refused("the server does not say how large it is")) };
        let headers = self.response.headers();
        let digests = Digests::of_headers(headers, size, self.is_s3);
        let composite = composite(headers).filter(|_| self.is_s3 && digests.0.is_empty());
        Ok(Object { size, tag: tag(headers), digests, composite })
    }

    /// Whether it says how many bytes the whole object has.
    pub(crate) fn has_size(&self) -> bool {
        self.size.is_some()
    }

    /// The object that it is of, when only its end tells how large that is.
    pub(crate) async fn counted(&mut self) -> Result<Object, Fault> {
        if !self.is_whole() {
            return Err(Fault::refused("the server does not say how large it is"));
        }
        let mut size = 0;
        while let Some(piece) = self.piece().await? {
            size += piece.len() as u64;
            if size > MAX_COUNTED {
                return Err(Fault::refused(format!("it has more than {MAX_COUNTED} bytes, and does not say how many")));
            }
        }
        self.size = Some(size);
        self.object()
    }

    /// The next bytes; none at the end. What the client's patience allows has passed when it fails.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        self.response.chunk().await.map_err(Fault::transport)
    }

    /// The whole of it, at most `limit` bytes.
    pub(crate) async fn read(self, limit: usize) -> Result<Bytes, Fault> {
        read(self.response, limit).await
    }
}

/// Takes a response for what it is worth.
pub(crate) async fn check(
    response: Response,
    range: Option<Range<u64>>,
    expected: &Expected,
    is_s3: bool,
) -> Result<Answer, Fault> {
    let status = response.status();
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        // A range of the empty object cannot be had; of another one it means that it has become shorter.
        let size = content_range(response.headers()).and_then(|(_, size)| size);
        if size == Some(0) && expected.size.is_none() {
            return Ok(Answer { response, start: 0, size, is_s3 });
        }
        return Err(Fault::changed("it is shorter than it was"));
    }
    if !status.is_success() {
        return Err(refusal(response).await);
    }
    let headers = response.headers();
    let (start, size) = match (status, &range) {
        (StatusCode::PARTIAL_CONTENT, Some(wanted)) => match content_range(headers) {
            Some((Some(got), size)) if got.start == wanted.start => (got.start, size),
            Some((Some(got), _)) => {
                let reason = format!("bytes from {} were asked for, bytes from {} came", wanted.start, got.start);
                return Err(Fault::passing(reason));
            }
            _ => return Err(Fault::passing("a part of it came that does not say which")),
        },
        (StatusCode::OK, _) => (0, content_length(headers)),
        _ => return Err(Fault::refused(format!("an answer of status {status}"))),
    };
    if let (Some(known), Some(size)) = (expected.size, size)
        && known != size
    {
        return Err(Fault::changed(format!("it has {size} bytes, and had {known} when the download began")));
    }
    if let (Some(known), Some(now)) = (&expected.tag, tag(headers))
        && *known != now
    {
        return Err(Fault::changed("it was replaced while it was being downloaded"));
    }
    Ok(Answer { response, start, size, is_s3 })
}

/// The ETag without quotes and without the mark of a weak one, as listings give it; else the date.
fn tag(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::ETAG) {
        Some(etag) => Some(normal_tag(etag)),
        None => text(header::LAST_MODIFIED).map(|date| format!("of {date}")),
    }
}

/// Listings give ETags with quotes or without.
pub(crate) fn normal_tag(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `bytes 0-9/10`, `bytes */10`, `bytes 0-9/*`
fn content_range(headers: &HeaderMap) -> Option<(Option<Range<u64>>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let size = size.parse().ok();
    let Some((first, last)) = range.split_once('-') else { return Some((None, size)) };
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| (Some(first..last.saturating_add(1)), size))
}

/// What a response says that is not a success.
pub(crate) async fn refusal(response: Response) -> Fault {
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = retry_after.and_then(|text| wait(text, SystemTime::now()));
    let region = response.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = tokio::time::timeout(Duration::from_secs(2), read(response, MAX_REFUSAL)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let words = words(&String::from_utf8_lossy(&body));
    let mut reason = format!("the server answered {status}");
    if let Some(words) = words {
        reason.push_str(&format!(" ({words})"));
    }
    let kind = match status.as_u16() {
        404 | 410 => FaultKind::Missing,
        // What is not implemented will not be in a second.
        501 | 505 => FaultKind::Refused,
        408 | 425 | 429 | 500..=599 => FaultKind::Passing(wait),
        _ => FaultKind::Refused,
    };
    if let Some(region) = region.filter(|_| status.is_redirection() || status == StatusCode::BAD_REQUEST) {
        reason.push_str(&format!("; the bucket is in the region {region}: set AWS_REGION"));
    }
    Fault { kind, reason }
}

/// Seconds or a date, by RFC 9110, 10.2.3.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The code and the message of a store's refusal, which is XML, or JSON with an `error`. Nothing else of it: stores
/// repeat the access key and the text that was signed.
fn words(body: &str) -> Option<String> {
    let element = |name: &str| {
        let from = body.find(&format!("<{name}>"))? + name.len() + 2;
        let to = from + body[from..].find(&format!("</{name}>"))?;
        Some(&body[from..to])
    };
    let said = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => {
            let json: serde_json::Value = serde_json::from_str(body).ok()?;
            let (error, first) = (&json["error"], &json["errors"][0]);
            match (first["code"].as_str(), first["message"].as_str()) {
                // A registry's.
                (Some(code), Some(message)) => format!("{code}: {message}"),
                _ => error.as_str().or_else(|| error["message"].as_str())?.to_owned(),
            }
        }
    };
    let line = said.lines().next().unwrap_or_default();
    let printable: String = line.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect();
    // A message may quote the URL with its signature.
    Some(
        printable
            .split_whitespace()
            .map(|word| if word.contains("://") { "(a URL)" } else { word })
            .collect::<Vec<_>>()
            .join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(header::HeaderName, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.clone(), value.parse().expect("valid"))).collect()
    }

    fn response(status: u16, all: &[(header::HeaderName, &str)], body: &'static str) -> Response {
        let mut response = http::Response::builder().status(status).body(body).expect("valid");
        *response.headers_mut() = headers(all);
        response.into()
    }

    fn checked(response: Response, range: Option<Range<u64>>, expected: &Expected) -> Result<Answer, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(check(response, range, expected, false))
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let part = |range: &str| response(206, &[(header::CONTENT_RANGE, range), (header::ETAG, "\"a\"")], "");
        let known = Expected { size: Some(100), tag: Some("a".to_owned()) };
        assert_eq!(checked(part("bytes 10-19/100"), Some(10..20), &known).expect("right").start, 10);
        // Shorter than asked is a beginning.
        assert!(checked(part("bytes 10-12/100"), Some(10..20), &known).is_ok());
        let kind = |range: &str, tag: &str| {
            let known = Expected { size: Some(100), tag: Some(tag.to_owned()) };
            checked(part(range), Some(10..20), &known).expect_err(range).kind
        };
        assert_eq!(kind("bytes 0-9/100", "a"), FaultKind::Passing(None));
        assert_eq!(kind("bytes 10-19/99", "a"), FaultKind::Changed);
        assert_eq!(kind("bytes 10-19/100", "b"), FaultKind::Changed);
        assert_eq!(kind("nonsense", "a"), FaultKind::Passing(None));
        // A server that knows no ranges sends all.
        let whole = checked(response(200, &[], ""), Some(10..20), &Expected::default()).expect("right");
        assert!(whole.is_whole() && whole.start == 0);
    }

    #[test]
    fn refusals_know_whether_to_ask_again() {
        let fault = |status, all: &[(header::HeaderName, &str)], body| {
            checked(response(status, all, body), None, &Expected::default()).expect_err("refused")
        };
        assert_eq!(fault(404, &[], "").kind, FaultKind::Missing);
        assert_eq!(fault(403, &[], "").kind, FaultKind::Refused);
        assert_eq!(fault(500, &[], "").kind, FaultKind::Passing(None));
        assert_eq!(fault(501, &[], "").kind, FaultKind::Refused);
        let busy = fault(503, &[(header::RETRY_AFTER, "7")], "");
        assert_eq!(busy.kind, FaultKind::Passing(Some(Duration::from_secs(7))));
        let expired = "<Error><Code>ExpiredToken</Code><Message>The token is old</Message>\
                       <AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>";
        let reason = fault(400, &[], expired).reason;
        assert_eq!(reason, "the server answered 400 Bad Request (ExpiredToken: The token is old)");
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:05 GMT", now), Some(Duration::from_secs(5)));
        assert_eq!(wait("soon", now), None);
    }

    #[test]
    fn tags_compare_across_headers_and_listings() {
        for etag in ["\"abc\"", "W/\"abc\"", "abc"] {
            assert_eq!(tag(&headers(&[(header::ETAG, etag)])).as_deref(), Some("abc"));
        }
        assert_eq!(tag(&headers(&[(header::LAST_MODIFIED, "x")])).as_deref(), Some("of x"));
        assert_eq!(tag(&headers(&[])), None);
    }
}
