//! The messages of a gRPC call: those of the request as they come, and an answer of one message.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use corymb_engine::Permit;
use corymb_wire::Coding;
use corymb_wire::grpc::{Head, Message, PREFIX, first_name};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::inflate::inflate;
use super::{BODY, next_data};
use crate::app::App;
use crate::observe::name_model;
use crate::status::ServerError;

static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// How long the first bytes of a message are waited for whose request is refused anyway.
const GLIMPSE: Duration = Duration::from_millis(100);

/// The messages of a request.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Body,
    /// Of the last frame, not yet looked at.
    rest: Bytes,
    coding: Option<Coding>,
    max: usize,
    stall: Duration,
    unread: Unread,
    /// Whether anything was read.
    begun: bool,
    /// The model that a message names which was not read to its end.
    glimpsed: Option<String>,
}

/// What is left of the message whose prefix was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// Nothing: a prefix comes next.
    Nothing,
    /// All of it.
    Message(Head),
    /// Part of it, or it could not be read: where the next one begins is not known.
    Broken,
}

impl Messages {
    /// Messages of at most `max` bytes, before and after decompression.
    pub(crate) fn new(app: &App, headers: &HeaderMap, body: Body, max: usize) -> Result<Self, ServerError> {
        let coding = coding(headers)?;
        Ok(Self::of(body, coding, max, app.options.body_timeout))
    }

    fn of(body: Body, coding: Option<Coding>, max: usize, stall: Duration) -> Self {
        let (rest, unread) = (Bytes::new(), Unread::Nothing);
        Self { body, rest, coding, max, stall, unread, begun: false, glimpsed: None }
    }

    /// Names, for the log, the model of a message that was refused before anything of it was read. Its first bytes came with the
    /// headers, or come right behind them.
    pub(crate) async fn name_unread(&mut self) {
        if !self.begun
            && let Ok(Some(begin)) = next_data(&mut self.body, None, GLIMPSE).await
            && let Some((&[compressed, ..], begin)) = begin.split_first_chunk::<PREFIX>()
        {
            self.glimpse(compressed != 0, begin);
        }
        self.name_glimpsed();
    }

    /// Names the model of the last message that was not read to its end, as far as it was seen.
    pub(crate) fn name_glimpsed(&mut self) {
        if let Some(name) = self.glimpsed.take() {
            name_model(&name);
        }
    }

    fn glimpse(&mut self, compressed: bool, begin: &[u8]) {
        self.glimpsed = (!compressed).then(|| first_name(begin)).flatten().map(str::to_owned);
    }

    /// How the request's messages may be compressed; answers are compressed alike.
    pub(crate) fn coding(&self) -> Option<Coding> {
        self.coding
    }

    /// What precedes the next message, none when there is no more. The first byte may take `wait`.
    pub(crate) async fn head(&mut self, wait: Duration) -> Result<Option<Head>, ServerError> {
        self.begun = true;
        let mut prefix = [0; PREFIX];
        let mut filled = 0;
        while filled < PREFIX {
            if self.rest.is_empty() {
                let wait = if filled == 0 { wait } else { self.stall };
                match next_data(&mut self.body, None, wait).await? {
                    Some(data) => self.rest = data,
                    None if filled == 0 => return Ok(None),
                    None => return Err(cut_off()),
                }
            }
            let len = self.rest.len().min(PREFIX - filled);
            self.rest.split_to(len).copy_to_slice(&mut prefix[filled..filled + len]);
            filled += len;
        }
        let head = Head::parse(prefix, self.coding, self.max);
        let head = head.inspect_err(|_| self.glimpse(prefix[0] != 0, &self.rest.clone()))?;
        self.unread = Unread::Message(head);
        Ok(Some(head))
    }

    /// The message behind a head, decompressed, its bytes held by the permit where there is one. A message that lies
    /// in one frame is not copied.
    pub(crate) async fn payload(
        &mut self,
        app: &App,
        head: Head,
        mut permit: Option<&mut Permit>,
    ) -> Result<Bytes, ServerError> {
        self.unread = Unread::Broken;
        let message = self.collect(head, permit.as_deref_mut()).await?;
        self.unread = Unread::Nothing;
        match self.coding {
            Some(coding) if head.compressed => inflate(app, permit, coding, message, self.max).await,
            _ => Ok(message),
        }
    }

    async fn collect(&mut self, head: Head, permit: Option<&mut Permit>) -> Result<Bytes, ServerError> {
        let mut message = BytesMut::new();
        let collected = self.fill(&mut message, head.len, permit).await;
        collected.inspect_err(|_| {
            let begin = if message.is_empty() { self.rest.clone() } else { message.freeze() };
            self.glimpse(head.compressed, &begin);
        })
    }

    async fn fill(
        &mut self,
        message: &mut BytesMut,
        len: usize,
        mut permit: Option<&mut Permit>,
    ) -> Result<Bytes, ServerError> {
        // As it comes, not as it is announced: else liars could hold the budget of everybody.
        let reserve = |permit: &mut Option<&mut Permit>, bytes| {
            permit.as_mut().map_or(Ok(()), |permit| permit.reserve(BODY, bytes))
        };
        if len <= self.rest.len() {
            reserve(&mut permit, len)?;
            return Ok(self.rest.split_to(len));
        }
        // Copied once: frames are small, and decoders need the message in one piece.
        message.reserve(len);
        loop {
            let piece = self.rest.len().min(len - message.len());
            reserve(&mut permit, piece)?;
            message.extend_from_slice(&self.rest.split_to(piece));
            if message.len() == len {
                return Ok(message.split().freeze());
            }
            let next = next_data(&mut self.body, permit.as_deref_mut(), self.stall).await?;
            self.rest = next.ok_or_else(cut_off)?;
        }
    }

    /// Reads past what is left of a message, if anything is; whether another one can be read behind it.
    pub(crate) async fn pass_over(&mut self) -> Result<bool, ServerError> {
        let Head { compressed, len: mut left } = match self.unread {
            Unread::Nothing => return Ok(true),
            Unread::Broken => return Ok(false),
            Unread::Message(head) => head,
        };
        self.unread = Unread::Broken;
        let mut is_begin = true;
        loop {
            if is_begin && !self.rest.is_empty() {
                is_begin = false;
                let begin = self.rest.slice(..self.rest.len().min(left));
                self.glimpse(compressed, &begin);
            }
            let len = self.rest.len().min(left);
            self.rest.advance(len);
            left -= len;
            if left == 0 {
                self.unread = Unread::Nothing;
                return Ok(true);
            }
            self.rest = next_data(&mut self.body, None, self.stall).await?.ok_or_else(cut_off)?;
        }
    }

    /// The only message of a request: none, or a second one, is an error.
    pub(crate) async fn only(&mut self, app: &App, permit: Option<&mut Permit>) -> Result<Bytes, ServerError> {
        let head = self.head(self.stall).await?.ok_or_else(|| ServerError::invalid("the request has no message"))?;
        let message = self.payload(app, head, permit).await?;
        match self.head(self.stall).await? {
            None => Ok(message),
            Some(_) => Err(ServerError::invalid("the request has more than one message; this method takes one")),
        }
    }
}

/// Its end was sent, so it is not that the connection was lost.
fn cut_off() -> ServerError {
    ServerError::invalid("the request ended inside a message")
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

/// The headers that every answer with messages begins with.
pub(crate) fn respond(body: Body, coding: Option<Coding>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    if let Some(coding) = coding {
        headers.insert(&ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}

/// The trailers that end a successful answer.
pub(crate) fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(&STATUS, HeaderValue::from_static("0"));
    trailers
}

/// One message and the trailers.
#[derive(Debug)]
pub(crate) struct UnaryBody {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl UnaryBody {
    pub(crate) fn new(message: Message) -> Self {
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
    use corymb_core::Code;

    use super::*;

    fn messages(frames: &[&'static [u8]], coding: Option<Coding>) -> Messages {
        let frames: Vec<_> = frames.iter().map(|frame| Ok::<_, Infallible>(Bytes::from_static(frame))).collect();
        let body = Body::from_stream(futures::stream::iter(frames));
        let stall = Duration::from_secs(60);
        Messages::of(body, coding, 8, stall)
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
        assert_eq!(head(&[&[0, 0, 0]], None).await, Err(Code::InvalidArgument));
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
}
