//! The body of a request, which reads on for a moment when it was refused, so that the client gets to read why.
//!
//! Closing a connection on which the client still writes resets it, and the answer is lost with it. So what a service
//! leaves unread over HTTP/1.1 is read and thrown away, up to a limit. HTTP/2 ends a stream without ending the
//! connection.

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

/// The body of a request.
///
/// A client that sent `Expect: 100-continue` is told to go on by the first poll. A service that refuses such a request
/// should not poll the body.
#[derive(Debug)]
pub struct RequestBody {
    /// None once it is handed to the task that reads on.
    inner: Option<Incoming>,
    /// Whether somebody reads on what the service leaves: the client is sending, over HTTP/1.1.
    lingers: bool,
    /// Whether the client waits to be told to go on.
    expects: bool,
}

impl RequestBody {
    /// The request with its body wrapped.
    pub(crate) fn wrap(request: Request<Incoming>) -> Request<Self> {
        let http1 = request.version() < Version::HTTP_2;
        let expects = http1 && request.headers().contains_key(EXPECT);
        request.map(|inner| Self { inner: Some(inner), lingers: http1 && !expects, expects })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Told to go on by this poll, the client is sending.
        self.lingers |= self.expects;
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

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.inner.take().filter(|body| self.lingers && !body.is_end_stream()) else { return };
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
