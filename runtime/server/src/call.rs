//! One unary gRPC call of a small method.

use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use corymb_wire::grpc::{Message, malformed};
use corymb_wire::timeout;
use http::Request;

use crate::app::App;
use crate::body::{Messages, UnaryBody, respond};
use crate::predict::deadline;
use crate::status::ServerError;

/// Bytes of a message that names a model and little else.
const MAX: usize = 64 * 1024;

/// Answers a method that takes and gives little: no admission, so that it works on an overloaded server too.
pub(crate) async fn small<Q, A>(
    app: &App,
    request: Request<Body>,
    answer: impl FnOnce(&App, Q) -> Result<A, ServerError>,
) -> Response
where
    Q: corymb_proto::Message + Default,
    A: corymb_proto::Message,
{
    small_later(app, request, |app, question, _| std::future::ready(answer(&app, question))).await
}

/// The same for an answer that takes its time, at most until the deadline, if there is one.
pub(crate) async fn small_later<Q, A, F>(
    app: &App,
    request: Request<Body>,
    answer: impl FnOnce(App, Q, Option<Instant>) -> F,
) -> Response
where
    Q: corymb_proto::Message + Default,
    A: corymb_proto::Message,
    F: Future<Output = Result<A, ServerError>>,
{
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    let answered = async {
        let bytes = Messages::new(app, &parts.headers, body, MAX)?.only(app, None).await?;
        let question = Q::decode(bytes).map_err(malformed)?;
        let deadline = deadline(arrived, timeout::of_grpc(&parts.headers)?);
        Ok::<_, ServerError>(Message::of(&answer(app.clone(), question, deadline).await?)?)
    };
    match answered.await {
        Ok(message) => respond(Body::new(UnaryBody::new(message)), None),
        Err(error) => error.into_grpc(),
    }
}
