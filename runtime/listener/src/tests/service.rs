//! The service of the tests: what it does stands in the path of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

use crate::{Connection, Pieces, RequestBody, Service};

type Inner = UnsyncBoxBody<Bytes, hyper::Error>;

/// More than the kernel's buffers and the windows of HTTP/2 take.
pub(super) const LARGE: usize = 48 << 20;

/// What the service has seen; clones share it.
#[derive(Clone, Default)]
pub(super) struct Seen {
    begun: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Seen {
    pub(super) fn service(&self) -> Echo {
        Echo(self.clone())
    }

    /// Requests that the service was handed.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Requests whose answers are not dropped yet.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Open {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }
}

struct Open(Seen);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `/echo` answers with the request's body, `/sleep/MILLISECONDS` late, `/refuse` without looking at the body, `/large`
/// at length, `/over` when the connection is over, `/stream` at once with what ends then, everything else at once.
pub(super) struct Echo(Seen);

impl Service for Echo {
    type Body = Held;
    type Answer = Pin<Box<dyn Future<Output = Response<Held>> + Send>>;

    fn call(&self, request: Request<RequestBody>, connection: &Connection) -> Self::Answer {
        let open = self.0.enter();
        let answer = answer(request, connection.clone());
        Box::pin(async move { answer.await.map(|inner| Held { inner, _open: open }) })
    }
}

/// A body that holds the count of its request.
pub(super) struct Held {
    inner: Inner,
    _open: Open,
}

impl Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

async fn answer(request: Request<RequestBody>, connection: Connection) -> Response<Inner> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/echo" => match request.into_body().collect().await {
            Ok(body) => text(body.to_bytes()),
            Err(error) => refusal(StatusCode::BAD_REQUEST, error.to_string()),
        },
        "/refuse" => refusal(StatusCode::PAYLOAD_TOO_LARGE, "no".to_owned()),
        "/large" => Response::new(Pieces::new(text(vec![1; LARGE]).into_body()).boxed_unsync()),
        "/over" => {
            connection.over().await;
            text("over")
        }
        "/stream" => {
            let over = connection.over();
            let last = stream::once(async move {
                over.await;
                Bytes::from_static(b"over")
            });
            let frames = stream::iter([Bytes::from_static(b"first,")]).chain(last);
            Response::new(StreamBody::new(frames.map(|data| Ok(Frame::data(data)))).boxed_unsync())
        }
        path => {
            if let Some(time) = path.strip_prefix("/sleep/") {
                tokio::time::sleep(Duration::from_millis(time.parse().expect("milliseconds"))).await;
            }
            text("ok")
        }
    }
}

fn text(text: impl Into<Bytes>) -> Response<Inner> {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync())
}

fn refusal(status: StatusCode, why: String) -> Response<Inner> {
    let mut response = text(why);
    *response.status_mut() = status;
    response
}
