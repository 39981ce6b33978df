//! Reads a request's body, or its gRPC messages: bounded, accounted, given up when they stall, and decompressed.

mod inflate;
mod messages;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use corymb_core::Code;
use corymb_engine::Permit;
use corymb_wire::Coding;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use self::inflate::inflate;
pub(crate) use self::messages::{Messages, UnaryBody, ok_trailers, respond};
use crate::app::App;
use crate::status::ServerError;

/// What the memory of a body is for.
const BODY: &str = "the body of the request";

/// The whole body, decompressed, its bytes held by `permit`.
///
/// What is too large by its own `Content-Length`, or in a coding that is not understood, is refused before the first
/// byte is asked for: a client that sent `Expect: 100-continue` never starts. A body in one piece is not copied.
pub(crate) async fn read(
    app: &App,
    permit: &mut Permit,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, ServerError> {
    let coding = content_coding(headers)?;
    let declared = content_length(headers);
    let max = app.options.max_body;
    if let Some(length) = declared.filter(|length| *length > max as u64) {
        return Err(ServerError::too_large(format!("the body has {length} bytes; at most {max} are accepted")));
    }
    let expected = declared.and_then(|length| usize::try_from(length).ok());
    let bytes = collect(permit, body, expected, max, app.options.body_timeout).await?;
    match coding {
        None => Ok(bytes),
        Some(coding) => inflate(app, Some(permit), coding, bytes, max).await,
    }
}

async fn collect(
    permit: &mut Permit,
    mut body: Body,
    expected: Option<usize>,
    max: usize,
    stall: Duration,
) -> Result<Bytes, ServerError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut reserved = 0;
    while let Some(data) = next_data(&mut body, Some(permit), stall).await? {
        let so_far = first.len() + rest.len();
        if data.len() > max - so_far {
            return Err(ServerError::too_large(format!("the body has more than {max} bytes, which is the limit")));
        }
        let len = so_far + data.len();
        // As it comes, not as it is announced: else liars could hold the memory of everybody.
        let mut needed = len;
        if so_far > 0 && expected.is_none() && len > rest.capacity() {
            // It grows by copying into a buffer that is twice as large.
            needed = 2 * len;
        }
        if needed > reserved {
            permit.reserve(BODY, needed - reserved)?;
            reserved = needed;
        }
        if so_far == 0 {
            first = data;
            continue;
        }
        if !first.is_empty() {
            // Copied once: the decoders need the body in one piece, and it came in several.
            rest.reserve(expected.unwrap_or(2 * len));
            rest.extend_from_slice(&std::mem::take(&mut first));
        } else if len > rest.capacity() {
            rest.reserve(2 * len - rest.len());
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// The next data of a body, none at its end; an error when nothing comes for `stall`, or where another request has had the place
/// of the one with the `permit`.
async fn next_data(
    body: &mut Body,
    mut permit: Option<&mut Permit>,
    stall: Duration,
) -> Result<Option<Bytes>, ServerError> {
    loop {
        if body.is_end_stream() {
            return Ok(None);
        }
        match next_frame(body, permit.as_deref_mut(), stall).await? {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => return Ok(None),
            },
            Some(Err(error)) => return Err(broken(&error)),
        }
    }
}

/// What is wrong with a body that goes no further: its chunks, or the connection was lost.
fn broken(error: &axum::Error) -> ServerError {
    let first: &dyn std::error::Error = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    let malformed = causes.find_map(|cause| {
        let cause = cause.downcast_ref::<io::Error>()?;
        matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData).then(|| cause.to_string())
    });
    match malformed {
        Some(reason) => ServerError::invalid(format!("the request's body is malformed: {reason}")),
        None => ServerError::new(Code::Cancelled, "the request's body ended early").with_details(error.to_string()),
    }
}

/// The next frame. A timer is set only when a second look finds nothing either: by then the bytes that came with the head have
/// been handed over, and a timer is under a lock that all cores share.
async fn next_frame(
    body: &mut Body,
    permit: Option<&mut Permit>,
    stall: Duration,
) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, ServerError> {
    let mut looked = false;
    let soon = poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    if let Some(frame) = soon.await {
        return Ok(frame);
    }
    let arrival = permit.map(Permit::arriving);
    let displaced = async {
        match &arrival {
            Some(arrival) => arrival.displaced().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        frame = tokio::time::timeout(stall, body.frame()) => frame.map_err(|_| {
            let reason = format!("the request's body made no progress for {stall:?}");
            ServerError::new(Code::DeadlineExceeded, reason)
        }),
        error = displaced => Err(error.into()),
    }
}

/// Absent or malformed lengths are none: hyper refuses the malformed ones before we see them.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, ServerError> {
    let mut codings = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned())
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let Some(name) = codings.next() else { return Ok(None) };
    match (Coding::from_name(&name), codings.next()) {
        (Some(coding), None) => Ok(Some(coding)),
        (_, second) => {
            let given = second.map_or(name.clone(), |second| format!("{name}, {second}"));
            Err(ServerError::unsupported_media_type(format!(
                "content encoding '{given}' is not supported; expected one of gzip, deflate, identity"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn coding(values: &[&'static str]) -> Result<Option<Coding>, ServerError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        content_coding(&headers)
    }

    #[test]
    fn codings_are_told_apart() {
        assert_eq!(coding(&[]), Ok(None));
        assert_eq!(coding(&["identity", ""]), Ok(None));
        assert_eq!(coding(&["GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(coding(&["identity, deflate"]), Ok(Some(Coding::Deflate)));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "deflate"]] {
            let error = coding(refused).expect_err("refused");
            assert_eq!(error.code, Code::UnsupportedMediaType);
            assert!(error.message.contains("expected one of gzip, deflate, identity"), "{}", error.message);
        }
    }

    #[tokio::test]
    async fn a_stalled_body_is_given_up() {
        let mut body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = next_data(&mut body, None, Duration::from_millis(5)).await.expect_err("given up");
        assert_eq!(error.code, Code::DeadlineExceeded);
    }
}
