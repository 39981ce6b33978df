//! gRPC's framing: messages behind five bytes that say whether they are compressed and how long they are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use corymb_core::Code;
use corymb_engine::{Permit, Stage};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use crate::app::App;
use crate::body::next_data;
use crate::inflate::{Coding, inflate};
use crate::status::ServerError;

/// Bytes before each message: a flag, and the length in network order.
pub(super) const PREFIX: usize = 5;

static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// From here on compressing an answer is left to the compute pool.
const LARGE: usize = 64 * 1024;

/// What precedes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    compressed: bool,
    len: usize,
}

/// The messages of a request.
#[derive(Debug)]
pub(super) struct Messages {
    body: Body,
    /// Of the last frame, not yet looked at.
    rest: Bytes,
    coding: Option<Coding>,
    max: usize,
    stall: Duration,
}

impl Messages {
    /// Messages of at most `max` bytes, before and after decompression.
    pub(super) fn new(app: &App, headers: &HeaderMap, body: Body, max: usize) -> Result<Self, ServerError> {
        let coding = coding(headers)?;
        Ok(Self { body, rest: Bytes::new(), coding, max, stall: app.options.body_timeout })
    }

    /// How the request's messages may be compressed; answers are compressed alike.
    pub(super) fn coding(&self) -> Option<Coding> {
        self.coding
    }

    /// What precedes the next message, none when there is no more. The first byte may take `wait`.
    pub(super) async fn head(&mut self, wait: Duration) -> Result<Option<Head>, ServerError> {
        let mut prefix = [0; PREFIX];
        let mut filled = 0;
        while filled < PREFIX {
            if self.rest.is_empty() {
                let wait = if filled == 0 { wait } else { self.stall };
                match next_data(&mut self.body, wait).await? {
                    Some(data) => self.rest = data,
                    None if filled == 0 => return Ok(None),
                    None => return Err(cut_off()),
                }
            }
            let len = self.rest.len().min(PREFIX - filled);
            self.rest.split_to(len).copy_to_slice(&mut prefix[filled..filled + len]);
            filled += len;
        }
        let [flag, length @ ..] = prefix;
        let len = u32::from_be_bytes(length) as usize;
        // Before anything is allocated for it.
        if len > self.max {
            return Err(ServerError::too_large(format!(
                "the message has {len} bytes; at most {} are accepted",
                self.max
            )));
        }
        let compressed = match (flag, self.coding) {
            (0, _) => false,
            (1, Some(_)) => true,
            // The code that gRPC's specification demands.
            (1, None) => return Err(ServerError::new(Code::Internal, "a compressed message needs a grpc-encoding")),
            _ => return Err(ServerError::new(Code::Internal, format!("compression flag {flag}; expected 0 or 1"))),
        };
        Ok(Some(Head { compressed, len }))
    }

    /// The message behind a head, decompressed, its bytes held by the permit where there is one. A message that lies
    /// in one frame is not copied.
    pub(super) async fn payload(
        &mut self,
        app: &App,
        head: Head,
        mut permit: Option<&mut Permit>,
    ) -> Result<Bytes, ServerError> {
        // As it comes, not as it is announced: else liars could hold the budget of everybody.
        let mut reserve = |bytes| permit.as_mut().map_or(Ok(()), |permit| permit.reserve(bytes));
        let message = if head.len <= self.rest.len() {
            reserve(head.len)?;
            self.rest.split_to(head.len)
        } else {
            // Copied once: frames are small, and decoders need the message in one piece.
            let mut message = BytesMut::with_capacity(head.len);
            loop {
                let piece = self.rest.split_to(self.rest.len().min(head.len - message.len()));
                reserve(piece.len())?;
                message.extend_from_slice(&piece);
                if message.len() == head.len {
                    break message.freeze();
                }
                self.rest = next_data(&mut self.body, self.stall).await?.ok_or_else(cut_off)?;
            }
        };
        match self.coding {
            Some(coding) if head.compressed => inflate(app, permit, coding, message, self.max).await,
            _ => Ok(message),
        }
    }

    /// Reads past a message.
    pub(super) async fn skip(&mut self, head: Head) -> Result<(), ServerError> {
        let mut left = head.len;
        loop {
            let len = self.rest.len().min(left);
            self.rest.advance(len);
            left -= len;
            if left == 0 {
                return Ok(());
            }
            self.rest = next_data(&mut self.body, self.stall).await?.ok_or_else(cut_off)?;
        }
    }

    /// The only message of a request: none, or a second one, is an error.
    pub(super) async fn only(&mut self, app: &App, permit: Option<&mut Permit>) -> Result<Bytes, ServerError> {
        let head = self.head(self.stall).await?.ok_or_else(|| ServerError::invalid("the request has no message"))?;
        let message = self.payload(app, head, permit).await?;
        match self.head(self.stall).await? {
            None => Ok(message),
            Some(_) => Err(ServerError::invalid("the request has more than one message; this method takes one")),
        }
    }
}

fn cut_off() -> ServerError {
    ServerError::new(Code::Cancelled, "the request ended inside a message")
}

fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ServerError> {
    let Some(value) = headers.get(&ENCODING) else { return Ok(None) };
    match value.to_str().unwrap_or_default().trim() {
        "identity" | "" => Ok(None),
        name => Coding::from_name(name).map(Some).ok_or_else(|| {
            ServerError::unimplemented(format!("grpc-encoding '{name}' is not supported; expected one of {ACCEPTED}"))
        }),
    }
}

const ACCEPTED: &str = "identity,gzip,deflate";

/// One message on its way out, in pieces that need not lie together.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pieces: Vec<Bytes>,
}

impl Message {
    /// A message in pieces, the first of which begins with [`PREFIX`] bytes of room for the prefix.
    pub(super) fn new(mut first: Vec<u8>, others: impl IntoIterator<Item = Bytes>) -> Result<Self, ServerError> {
        let mut pieces = vec![Bytes::new()];
        pieces.extend(others);
        let len = first.len() - PREFIX + pieces.iter().map(Bytes::len).sum::<usize>();
        first[..PREFIX].copy_from_slice(&prefix(0, len)?);
        pieces[0] = first.into();
        Ok(Self { pieces })
    }

    /// A small message.
    pub(super) fn of(message: &impl prost::Message) -> Result<Self, ServerError> {
        let mut bytes = Vec::with_capacity(PREFIX + message.encoded_len());
        bytes.put_bytes(0, PREFIX);
        message.encode(&mut bytes).map_err(|error| ServerError::internal(error.to_string()))?;
        Self::new(bytes, [])
    }

    /// The pieces, prefix included.
    pub(super) fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// The same message compressed.
    pub(super) async fn compressed(self, app: &App, coding: Coding) -> Result<Self, ServerError> {
        if self.len() < LARGE {
            return self.deflated(coding);
        }
        app.engine.compute(Stage::Encode, move || self.deflated(coding)).await?
    }

    fn deflated(self, coding: Coding) -> Result<Self, ServerError> {
        let mut out = Vec::with_capacity(self.len() / 2);
        out.put_bytes(0, PREFIX);
        let out = match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                self.write_to(&mut encoder).and_then(|()| encoder.finish())
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                self.write_to(&mut encoder).and_then(|()| encoder.finish())
            }
        };
        let mut out = out.map_err(|error| ServerError::internal(format!("compress an answer: {error}")))?;
        let len = out.len() - PREFIX;
        out[..PREFIX].copy_from_slice(&prefix(1, len)?);
        Ok(Self { pieces: vec![out.into()] })
    }

    fn write_to(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut skip = PREFIX;
        for piece in &self.pieces {
            out.write_all(&piece[skip..])?;
            skip = 0;
        }
        Ok(())
    }
}

fn prefix(flag: u8, len: usize) -> Result<[u8; PREFIX], ServerError> {
    let len = u32::try_from(len).map_err(|_too_long| {
        ServerError::too_large(format!("the answer has {len} bytes; gRPC carries at most 4 GiB"))
    })?;
    let [a, b, c, d] = len.to_be_bytes();
    Ok([flag, a, b, c, d])
}

/// The headers that every answer with messages begins with.
pub(super) fn respond(body: Body, coding: Option<Coding>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    match coding {
        Some(Coding::Gzip) => headers.insert(&ENCODING, HeaderValue::from_static("gzip")),
        Some(Coding::Deflate) => headers.insert(&ENCODING, HeaderValue::from_static("deflate")),
        None => None,
    };
    response
}

/// The trailers that end a successful answer.
pub(super) fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(&STATUS, HeaderValue::from_static("0"));
    trailers
}

/// One message and the trailers.
#[derive(Debug)]
pub(super) struct UnaryBody {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl UnaryBody {
    pub(super) fn new(message: Message) -> Self {
        Self { pieces: message.into_pieces().into(), trailers: Some(ok_trailers()) }
    }
}

impl http_body::Body for UnaryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.pieces.pop_front().map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // No exact size: a Content-Length is not customary in gRPC.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(frames: &[&'static [u8]], coding: Option<Coding>) -> Messages {
        let frames: Vec<_> = frames.iter().map(|frame| Ok::<_, Infallible>(Bytes::from_static(frame))).collect();
        let body = Body::from_stream(futures::stream::iter(frames));
        Messages { body, rest: Bytes::new(), coding, max: 8, stall: Duration::from_secs(60) }
    }

    async fn head(frames: &[&'static [u8]], coding: Option<Coding>) -> Result<Option<Head>, Code> {
        messages(frames, coding).head(Duration::from_secs(60)).await.map_err(|error| error.code)
    }

    #[tokio::test]
    async fn the_length_is_checked_before_anything_is_reserved() {
        assert_eq!(head(&[&[0, 0, 0, 0, 8]], None).await, Ok(Some(Head { compressed: false, len: 8 })));
        assert_eq!(head(&[&[0, 0], &[0, 0], &[9]], None).await, Err(Code::TooLarge));
        assert_eq!(head(&[&[0, 0xff, 0xff, 0xff, 0xff]], None).await, Err(Code::TooLarge));
        assert_eq!(crate::status::statuses(Code::TooLarge).grpc, tonic::Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn malformed_prefixes_are_refused() {
        assert_eq!(head(&[], None).await, Ok(None));
        assert_eq!(head(&[&[0, 0, 0]], None).await, Err(Code::Cancelled));
        assert_eq!(head(&[&[1, 0, 0, 0, 1]], None).await, Err(Code::Internal));
        assert_eq!(head(&[&[2, 0, 0, 0, 1]], Some(Coding::Gzip)).await, Err(Code::Internal));
        let expected = Head { compressed: true, len: 1 };
        assert_eq!(head(&[&[1, 0, 0, 0, 1]], Some(Coding::Gzip)).await, Ok(Some(expected)));
    }

    #[test]
    fn encodings_are_told() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&ENCODING, HeaderValue::from_static(name));
            coding(&headers).map_err(|error| error.code)
        };
        assert_eq!(of("identity"), Ok(None));
        assert_eq!(of("gzip"), Ok(Some(Coding::Gzip)));
        assert_eq!(of("snappy"), Err(Code::Unimplemented));
    }

    #[test]
    fn pieces_are_one_message() {
        let first = vec![0, 0, 0, 0, 0, 1, 2];
        let message = Message::new(first, [Bytes::from_static(&[3; 300])]).expect("short");
        assert_eq!(message.clone().into_pieces()[0][..], [0, 0, 0, 1, 46, 1, 2]);
        let small = message.deflated(Coding::Gzip).expect("compressed").into_pieces().concat();
        assert_eq!(small[0], 1);
        assert_eq!(u32::from_be_bytes([small[1], small[2], small[3], small[4]]) as usize, small.len() - PREFIX);
    }
}
