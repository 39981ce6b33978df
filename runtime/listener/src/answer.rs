//! An answer on its way out: counted until its last byte, and noted while its reader has to take it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::activity::ActiveRequest;
use crate::counts::OpenRequest;
use crate::service::Connection;
use crate::stall::Sending;

/// One request, counted on its connection and on the listener.
pub(crate) type Guards = (ActiveRequest, OpenRequest);

pin_project! {
    /// The answer of a service, which becomes an answer of the listener.
    pub(crate) struct Answering<A> {
        // Before the guards, so that it is dropped while the request is still counted.
        #[pin]
        answer: A,
        // Of a request over HTTP/1.1.
        connection: Option<Connection>,
        guards: Option<Guards>,
    }
}

impl<A> Answering<A> {
    /// `connection` is that of an HTTP/1.1 request: the head of its answer says whether it was the last.
    pub(crate) fn new(answer: A, connection: Option<Connection>, guards: Guards) -> Self {
        Self { answer, connection, guards: Some(guards) }
    }
}

impl<A: Future<Output = Response<B>>, B> Future for Answering<A> {
    type Output = Result<Response<AnswerBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(context));
        let guards = this.guards.take().expect("an answer is not polled after it is ready");
        // hyper reads the header too, and ends the connection behind the answer.
        if this.connection.as_ref().is_some_and(Connection::is_leaving) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let sending = guards.0.sending();
        Poll::Ready(Ok(response.map(|inner| AnswerBody { inner, note: Note(sending), _guards: guards })))
    }
}

pin_project! {
    /// The body of an answer.
    pub(crate) struct AnswerBody<B> {
        #[pin]
        inner: B,
        note: Note,
        // Behind the body, so that it is dropped while the request is still counted.
        _guards: Guards,
    }
}

/// What [`Sending`] is told; a body that is dropped waits for nobody.
struct Note(Sending);

impl Drop for Note {
    fn drop(&mut self) {
        self.0.taken();
    }
}

impl<B: Body<Data = Bytes>> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        this.note.0.taken();
        let frame = ready!(this.inner.poll_frame(context));
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            this.note.0.handed_over();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
