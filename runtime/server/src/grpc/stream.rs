//! `ModelStreamInfer`: requests and answers in turn on one stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use corymb_core::Code;
use futures::stream;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::StreamBody;

use super::call::deadline;
use super::frames::{Head, Message, Messages, ok_trailers, respond};
use super::infer::{Context, answer, read};
use super::reply::{Form, refusal};
use crate::app::App;
use crate::drain::Phase;
use crate::status::ServerError;

pub(super) async fn model_stream_infer(State(app): State<App>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let opened = Messages::new(&app, &parts.headers, body, app.options.max_body)
        .and_then(|messages| Ok((messages, deadline(&parts.headers, Instant::now())?)));
    match opened {
        Ok((messages, deadline)) => {
            let coding = messages.coding();
            let turns = Turns { app, headers: parts.headers, messages, deadline, pieces: VecDeque::new(), done: false };
            respond(Body::new(StreamBody::new(stream::unfold(turns, Turns::next))), coding)
        }
        Err(error) => error.into_grpc(),
    }
}

/// A stream between two frames of its answer. The next request is read only when the last answer is on its way, so a
/// client that does not read holds one request at most.
struct Turns {
    app: App,
    headers: HeaderMap,
    messages: Messages,
    deadline: Option<Instant>,
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
                    return Some((Ok(Frame::trailers(trailers(error))), self));
                }
            }
        }
    }

    /// The next answer, none at the end. An error ends the stream; what ends only one request is an answer.
    async fn turn(&mut self) -> Result<Option<Message>, ServerError> {
        let drain = self.app.drain.clone();
        let head = tokio::select! {
            biased;
            // A client may think as long as it likes between requests.
            head = self.messages.head(Duration::MAX) => head?,
            () = drain.reached(Phase::Closing) => {
                return Err(ServerError::new(Code::Draining, "the server is stopping; open another stream"));
            }
        };
        let Some(head) = head else { return Ok(None) };
        let mut id = String::new();
        let answered = self.request(head, &mut id).await?;
        let message = match answered {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(code = error.code.name(), %error, details = error.details, "a request of a stream failed");
                let message = refusal(id, &error)?;
                match self.messages.coding() {
                    Some(coding) => message.compressed(&self.app, coding).await?,
                    None => message,
                }
            }
        };
        Ok(Some(message))
    }

    /// One request. The outer error leaves the stream unreadable.
    async fn request(&mut self, head: Head, id: &mut String) -> Result<Result<Message, ServerError>, ServerError> {
        let arrived = Instant::now();
        let mut permit = match self.app.admit() {
            Ok(permit) => permit,
            Err(error) => {
                self.messages.skip(head).await?;
                return Ok(Err(error));
            }
        };
        let bytes = self.messages.payload(&self.app, head, Some(&mut permit)).await?;
        let begin = Instant::now();
        let (deadline, coding) = (self.deadline, self.messages.coding());
        let context = Context { headers: &self.headers, arrived, deadline, coding, form: Form::Stream };
        let app = &self.app;
        let answered = async {
            let (decoded, _permit) = read(app, bytes, permit).await?;
            id.clone_from(&decoded.id);
            answer(app, &context, decoded, begin.elapsed()).await
        };
        Ok(answered.await)
    }
}

fn trailers(error: ServerError) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if tonic::Status::from(error).add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", (tonic::Code::Internal as i32).into());
    }
    trailers
}
