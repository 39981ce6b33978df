//! Predictions by REST: V1's and V2's documents.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use corymb_core::{Error, Signature};
use corymb_wire::raw::JSON_LENGTH;
use corymb_wire::{Budget, Decoded, Encoded, Limits, timeout, v1, v2};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};

use super::pipeline::{Arrival, Outcome, predict};
use super::protocol::{Asked, Place, Protocol};
use super::source::Source;
use crate::app::App;
use crate::target::Target;

struct V1;

impl Protocol for V1 {
    const NAME: corymb_engine::Protocol = corymb_engine::Protocol::V1;
    type Ask = v1::Form;
    type Answer = Encoded;

    fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
        timeout::of_rest(headers)
    }

    fn target(place: Place<'_>, _: &Limits) -> Result<Option<Asked>, Error> {
        Ok(of_url(place).map(Target::of_v1).map(Asked::of_url))
    }

    fn decode(
        signature: &Signature,
        headers: &HeaderMap,
        message: &Bytes,
        limits: &Limits,
        budget: &mut dyn Budget,
    ) -> Result<Decoded<v1::Form>, Error> {
        v1::decode(signature, headers, message, limits, budget)
    }

    fn encode(
        signature: &Signature,
        ask: v1::Form,
        response: corymb_core::Response,
        budget: &mut dyn Budget,
    ) -> Result<Encoded, Error> {
        v1::encode(signature, ask, &response, budget)
    }
}

struct V2;

impl Protocol for V2 {
    const NAME: corymb_engine::Protocol = corymb_engine::Protocol::V2;
    type Ask = v2::Ask;
    type Answer = Encoded;

    fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
        timeout::of_rest(headers)
    }

    fn target(place: Place<'_>, _: &Limits) -> Result<Option<Asked>, Error> {
        Ok(of_url(place).map(Asked::of_url))
    }

    fn patience(headers: &HeaderMap, message: &Bytes, limits: &Limits) -> Option<Duration> {
        v2::timeout(headers, message, limits)
    }

    fn decode(
        signature: &Signature,
        headers: &HeaderMap,
        message: &Bytes,
        limits: &Limits,
        budget: &mut dyn Budget,
    ) -> Result<Decoded<v2::Ask>, Error> {
        v2::decode(signature, headers, message, limits, budget)
    }

    fn encode(
        _: &Signature,
        ask: v2::Ask,
        response: corymb_core::Response,
        budget: &mut dyn Budget,
    ) -> Result<Encoded, Error> {
        v2::encode(&ask, &response, budget)
    }
}

fn of_url(place: Place<'_>) -> Option<Target> {
    match place {
        Place::Url(target) => target,
        Place::Message(_) => None,
    }
}

/// `POST /v1/models/M[/versions/V]:predict`.
pub(crate) async fn v1(app: &App, target: Target, request: Request<Body>) -> Response {
    answer::<V1>(app, target, request).await
}

/// `POST /v2/models/M[/versions/V]/infer`.
pub(crate) async fn v2(app: &App, target: Target, request: Request<Body>) -> Response {
    answer::<V2>(app, target, request).await
}

async fn answer<P: Protocol<Answer = Encoded>>(app: &App, target: Target, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let arrival = Arrival::now(&parts.headers, None);
    let Outcome { result, .. } = predict::<P>(app, &arrival, Some(target), Source::Body(body)).await;
    match result {
        Ok(encoded) => respond(encoded),
        Err(error) => error.into_response(),
    }
}

fn respond(encoded: Encoded) -> Response {
    let (content_type, json_len) = (encoded.content_type(), encoded.json_len);
    let mut response = Response::new(Body::from(encoded.body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(json_len) = json_len {
        response.headers_mut().insert(&JSON_LENGTH, HeaderValue::from(json_len));
    }
    response
}
