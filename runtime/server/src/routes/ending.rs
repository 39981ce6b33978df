//! Streams of the standard gRPC services, ended when their connection is over.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use corymb_core::Code;
use corymb_listener::Connection;
use http_body::{Frame, SizeHint};

use crate::status::ServerError;

/// A body that ends with UNAVAILABLE as soon as its connection is over, unless it ends by itself. tonic hands over whole
/// messages, so that is between two of them.
pub(super) struct Ending {
    inner: Body,
    connection: Connection,
    /// Made when it is first needed: most answers have all they say at once.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_over: bool,
    ended: bool,
}

impl Ending {
    pub(super) fn wrap(inner: Body, connection: &Connection) -> Body {
        Body::new(Self { inner, connection: connection.clone(), over: None, is_over: false, ended: false })
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Self { inner, connection, over, is_over, ended } = &mut *self;
        if *is_over {
            *ended = true;
            let error = ServerError::new(Code::Draining, "the connection is to end; open another stream");
            return Poll::Ready(Some(Ok(Frame::trailers(error.into_trailers()))));
        }
        let frame = Pin::new(inner).poll_frame(context);
        if matches!(&frame, Poll::Ready(frame) if !matches!(frame, Some(Ok(frame)) if frame.is_data())) {
            return frame;
        }
        let over = over.get_or_insert_with(|| Box::pin(connection.over()));
        *is_over = over.as_mut().poll(context).is_ready();
        if *is_over && frame.is_pending() {
            return self.poll_frame(context);
        }
        // A body that always has something to say ends behind this frame.
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("ended", &self.ended).finish_non_exhaustive()
    }
}
