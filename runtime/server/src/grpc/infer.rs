//! `ModelInfer`: one request from its first byte to its answer.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use corymb_engine::{Permit, Protocol, Stage};
use http::{HeaderMap, Request};

use super::call::deadline;
use super::frames::{Message, Messages, UnaryBody, respond};
use super::reply::{Form, encode};
use super::request::{Decoded, decode};
use crate::app::App;
use crate::deadline::earlier;
use crate::inflate::Coding;
use crate::observe::ModelName;
use crate::predict::with_headers;
use crate::status::ServerError;

/// Smaller messages are decoded where they arrive: the way to the compute pool and back takes longer.
const LARGE: usize = 256 * 1024;

/// Answers one call.
pub(crate) async fn model_infer(app: &App, request: Request<Body>) -> Response {
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    let mut model = None;
    let answered = async {
        // First the place, then the body.
        let mut permit = app.admit()?;
        let deadline = deadline(&parts.headers, arrived)?;
        let mut messages = Messages::new(app, &parts.headers, body, app.options.max_body)?;
        let bytes = messages.only(app, Some(&mut permit)).await?;
        let begin = Instant::now();
        let (decoded, permit) = read(app, bytes, permit).await?;
        model = Some(decoded.model.clone());
        let context =
            Context { headers: &parts.headers, arrived, deadline, coding: messages.coding(), form: Form::Unary };
        let message = answer(app, &context, decoded, begin.elapsed()).await?;
        drop(permit);
        Ok::<_, ServerError>((message, messages.coding()))
    };
    let answered = answered.await;
    let mut response = match answered {
        Ok((message, coding)) => respond(Body::new(UnaryBody::new(message)), coding),
        Err(error) => error.into_grpc(),
    };
    if let Some(model) = model {
        response.extensions_mut().insert(ModelName(model));
    }
    response
}

/// Decodes a message, a large one on the compute pool. The permit goes along, since tensors may take more than the
/// message did.
pub(super) async fn read(app: &App, bytes: Bytes, mut permit: Permit) -> Result<(Decoded, Permit), ServerError> {
    let large = bytes.len() >= LARGE;
    let work = move || {
        let decoded = decode(bytes, &mut permit);
        decoded.map(|decoded| (decoded, permit))
    };
    if large { app.engine.compute(Stage::Decode, work).await? } else { work() }
}

/// What a request came with beside its message.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) arrived: Instant,
    /// Of the whole call.
    pub(super) deadline: Option<Instant>,
    pub(super) coding: Option<Coding>,
    pub(super) form: Form,
}

/// From the decoded request to the encoded answer. `took` is what decoding took.
pub(super) async fn answer(
    app: &App,
    context: &Context<'_>,
    decoded: Decoded,
    took: Duration,
) -> Result<Message, ServerError> {
    let Decoded { model, version, id: _, timeout, request } = decoded;
    let deadline = earlier(context.deadline, context.arrived, timeout);
    let call = app.begin(&model, version.as_deref(), Protocol::V2Grpc, deadline).await?;
    call.record(Stage::Decode, took);
    let answered = async {
        let mut request = request?;
        request.deadline = deadline;
        request.parameters = with_headers(request.parameters, call.headers(), context.headers);
        let response = call.infer(request).await?;
        let begin = Instant::now();
        let mut message = encode(response, context.form)?;
        if let Some(coding) = context.coding {
            message = message.compressed(app, coding).await?;
        }
        call.record(Stage::Encode, begin.elapsed());
        Ok(message)
    };
    let answered: Result<Message, ServerError> = answered.await;
    call.finish(answered.as_ref().map(|_| ()).map_err(|error| error.code));
    answered
}
