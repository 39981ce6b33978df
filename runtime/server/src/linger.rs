//! Reads on for a moment when a body was refused, so that the client gets to read why.
//!
//! Closing a connection on which the client still writes resets it, and the answer is lost with it. So what a handler of
//! HTTP/1.1 leaves unread is read and thrown away, up to a limit. HTTP/2 ends a stream without ending the connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// How long a refused body is read on.
const TIME: Duration = Duration::from_secs(2);

/// How much of it.
const BYTES: usize = 64 << 20;

/// A request's body that outlives its handler for a moment.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// None once it is handed to the task that reads on.
    inner: Option<Incoming>,
    /// Whether the client is sending. One that waits for "100 Continue" is told so by the first poll.
    sending: bool,
}

impl Lingering {
    /// The request with its body wrapped.
    pub(crate) fn wrap(request: Request<Incoming>) -> Request<axum::body::Body> {
        if request.version() >= Version::HTTP_2 {
            return request.map(axum::body::Body::new);
        }
        let sending = !request.headers().contains_key(EXPECT);
        request.map(|inner| axum::body::Body::new(Self { inner: Some(inner), sending }))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.sending = true;
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.inner.take().filter(|body| self.sending && !body.is_end_stream()) else { return };
        // Outside a runtime, that is while it ends, nobody reads on.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(read_on(body));
        }
    }
}

async fn read_on(mut body: Incoming) {
    let all = async {
        let mut left = BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(read) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(TIME, all).await;
}
