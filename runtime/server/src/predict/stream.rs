//! `ModelStreamInfer`: requests and answers in turn on one stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use corymb_core::Code;
use corymb_listener::Connection;
use corymb_wire::grpc::{self, Head, Message};
use corymb_wire::timeout;
use futures::stream;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::StreamBody;

use super::grpc::Grpc;
use super::pipeline::{Arrival, Outcome, deadline, predict};
use super::source::Source;
use crate::app::App;
use crate::body::{Messages, ok_trailers, respond};
use crate::observe::named_model;
use crate::status::ServerError;

/// Answers one call, which ends with its caller, or between two messages when its connection is over.
pub(crate) fn model_stream_infer(app: &App, request: Request<Body>, connection: Option<&Connection>) -> Response {
    let (parts, body) = request.into_parts();
    let opened = Messages::new(app, &parts.headers, body, app.options.max_body)
        .and_then(|messages| Ok((messages, deadline(Instant::now(), timeout::of_grpc(&parts.headers)?))));
    match opened {
        Ok((messages, deadline)) => {
            let coding = messages.coding();
            let over: Over = match connection {
                Some(connection) => Box::pin(connection.over()),
                None => Box::pin(std::future::pending()),
            };
            let (app, headers) = (app.clone(), parts.headers);
            let turns = Turns { app, headers, messages, deadline, over, pieces: VecDeque::new(), done: false };
            respond(Body::new(StreamBody::new(stream::unfold(turns, Turns::next))), coding)
        }
        Err(error) => error.into_grpc(),
    }
}

type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream between two frames of its answer. The next request is read only when the last answer is on its way, so a
/// client that does not read holds one request at most.
struct Turns {
    app: App,
    headers: HeaderMap,
    messages: Messages,
    /// Of the whole call.
    deadline: Option<Instant>,
    /// Resolves when the connection is to end.
    over: Over,
    pieces: VecDeque<Bytes>,
    done: bool,
}

type AnswerFrame = Result<Frame<Bytes>, Infallible>;

impl Turns {
    async fn next(mut self) -> Option<(AnswerFrame, Self)> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some((Ok(Frame::data(piece)), self));
            }
            if self.done {
                return None;
            }
            match self.turn().await {
                Ok(Some(message)) => self.pieces = message.into_pieces().into(),
                Ok(None) => {
                    self.done = true;
                    return Some((Ok(Frame::trailers(ok_trailers())), self));
                }
                Err(error) => {
                    self.done = true;
                    return Some((Ok(Frame::trailers(error.into_trailers())), self));
                }
            }
        }
    }

    /// The next answer, none at the end. An error ends the stream; what ends only one request is an answer.
    async fn turn(&mut self) -> Result<Option<Message>, ServerError> {
        let head = tokio::select! {
            biased;
            // First, since the next message of a client that sends ahead is always there.
            () = &mut self.over => {
                let message = "the connection is to end; open another stream";
                return Err(ServerError::new(Code::Draining, message));
            }
            // A client may think as long as it likes between requests.
            head = self.messages.head(Duration::MAX) => head.inspect_err(|_| self.messages.name_glimpsed())?,
        };
        let Some(head) = head else { return Ok(None) };
        let Outcome { id, result, .. } = self.request(head).await;
        let error = match result {
            Ok(message) => return Ok(Some(message)),
            Err(error) => error,
        };
        // What was not read is passed over; what cannot be read any further ends the stream.
        let passed_over = self.messages.pass_over().await;
        self.messages.name_glimpsed();
        if !passed_over? {
            return Err(error);
        }
        let (code, model, details) = (error.code.name(), named_model(), error.details);
        tracing::debug!(code, model, error = %error.message, details, "a request of a stream failed");
        let message = grpc::refusal(id, &error.message)?;
        // Small, so where it is.
        Ok(Some(match self.messages.coding() {
            Some(coding) => message.deflated(coding)?,
            None => message,
        }))
    }

    async fn request(&mut self, head: Head) -> Outcome<Message> {
        let Self { app, headers, messages, deadline, .. } = self;
        let arrival = Arrival::now(headers, messages.coding()).within(*deadline);
        predict::<Grpc<true>>(app, &arrival, None, Source::Next(messages, head)).await
    }
}
