//! `ModelInfer`: one message in, one out.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use corymb_core::{Error, Signature, Tensor, Tensors};
use corymb_wire::{Budget, Decoded, Limits, grpc, timeout};
use http::{HeaderMap, Request};

use super::pipeline::{Arrival, Outcome, predict};
use super::protocol::{Asked, Place, Protocol};
use super::source::Source;
use crate::app::App;
use crate::body::{Messages, UnaryBody, respond};
use crate::observe::name_model;
use crate::target::Target;

/// The messages of `ModelInfer`, or of `ModelStreamInfer`, which wraps its answers.
pub(super) struct Grpc<const STREAM: bool>;

impl<const STREAM: bool> Protocol for Grpc<STREAM> {
    const NAME: corymb_engine::Protocol = corymb_engine::Protocol::V2Grpc;
    type Ask = ();
    type Answer = grpc::Message;

    fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
        timeout::of_grpc(headers)
    }

    fn target(place: Place<'_>, limits: &Limits) -> Result<Option<Asked>, Error> {
        let Place::Message(message) = place else { return Ok(None) };
        let grpc::Look { model, version, id, timeout } = grpc::look(message, limits).inspect_err(|_| {
            if let Some(name) = grpc::first_name(message) {
                name_model(name);
            }
        })?;
        name_model(&model);
        Ok(Some(Asked { target: Target { model, version }, id, timeout }))
    }

    fn decode(
        _: &Signature,
        _: &HeaderMap,
        message: &Bytes,
        limits: &Limits,
        budget: &mut dyn Budget,
    ) -> Result<Decoded<()>, Error> {
        grpc::decode(message, limits, budget)
    }

    fn encode(
        _: &Signature,
        (): (),
        response: corymb_core::Response,
        budget: &mut dyn Budget,
    ) -> Result<grpc::Message, Error> {
        grpc::encode(response, if STREAM { grpc::Form::Stream } else { grpc::Form::Unary }, budget)
    }

    /// Elements of a fixed size go out of the tensor's own buffer.
    fn copied(outputs: &Tensors) -> usize {
        outputs
            .iter()
            .filter(|(_, tensor)| tensor.elements().is_some())
            .map(|(_, tensor)| Tensor::byte_len(tensor))
            .sum()
    }
}

/// Answers one call.
pub(crate) async fn model_infer(app: &App, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let mut messages = match Messages::new(app, &parts.headers, body, app.options.max_body) {
        Ok(messages) => messages,
        Err(error) => return error.into_grpc(),
    };
    let coding = messages.coding();
    let arrival = Arrival::now(&parts.headers, coding);
    let Outcome { result, .. } = predict::<Grpc<false>>(app, &arrival, None, Source::Only(&mut messages)).await;
    match result {
        Ok(message) => respond(Body::new(UnaryBody::new(message)), coding),
        Err(error) => {
            messages.name_unread().await;
            error.into_grpc()
        }
    }
}
