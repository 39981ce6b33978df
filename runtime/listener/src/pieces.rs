//! Bodies that go out in small pieces, so that the progress of their readers can be seen.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Bytes of the largest piece.
const PIECE: usize = 64 * 1024;

pin_project! {
    /// A body whose data frames of more than 64 KiB are split into frames of at most that. No byte is copied, and
    /// trailers pass.
    ///
    /// A listener gives up a response whose reader takes nothing for
    /// [`stall_timeout`](crate::ListenerOptions::stall_timeout). What it sees is that the next frame is asked for, so a
    /// large frame would make a slow reader look like one that does not read.
    #[derive(Debug)]
    pub struct Pieces<B> {
        #[pin]
        inner: B,
        // What is left of a frame that was larger than a piece.
        rest: Bytes,
    }
}

impl<B> Pieces<B> {
    /// Splits the frames of `body`.
    pub fn new(body: B) -> Self {
        Self { inner: body, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes>> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let body = self.project();
        if body.rest.is_empty() {
            match ready!(body.inner.poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *body.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = body.rest.split_to(PIECE.min(body.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_large_frame_goes_out_in_pieces() {
        let bytes = Bytes::from((0..PIECE * 2 + 10).map(|at| at as u8).collect::<Vec<_>>());
        let mut body = Pieces::new(Full::new(bytes.clone()));
        let mut left = bytes;
        for expected in [PIECE, PIECE, 10] {
            assert!(!body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(left.len() as u64));
            let piece = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
            assert_eq!(piece, left.split_to(expected));
        }
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn trailers_pass() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("1"))]);
        let ended = trailers.clone();
        let body = Full::new(Bytes::from_static(b"abc")).with_trailers(async move { Some(Ok(ended)) });
        let collected = Pieces::new(body).collect().await.expect("no error");
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "abc");
    }
}
