//! One REST prediction from its headers to its answer, the same for every format of body.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use corymb_core::{Error, Parameters, Request, Signature, Tensors, Value};
use corymb_engine::{Call, Permit, Protocol, Stage};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::app::App;
use crate::json::v2_reply::Encoded;
use crate::observe::ModelName;
use crate::routes::Target;
use crate::status::ServerError;
use crate::{binary, body, deadline};

/// Bodies and answers up to this size are decoded and encoded where they are: handing them over would take longer.
/// Larger ones go to the compute pool, so that other requests' bytes keep moving.
const IN_PLACE: usize = 256 * 1024;

/// A protocol's way from bytes to tensors and back.
pub(crate) trait Wire: 'static {
    const PROTOCOL: Protocol;

    /// What the answer needs to know of the request.
    type Ask: Send + 'static;

    fn decode(signature: &Signature, headers: &HeaderMap, body: &Bytes) -> Result<Decoded<Self::Ask>, Error>;

    fn encode(signature: &Signature, ask: &Self::Ask, response: &corymb_core::Response) -> Result<Encoded, Error>;
}

/// A body as tensors.
#[derive(Debug)]
pub(crate) struct Decoded<A> {
    pub(crate) id: String,
    pub(crate) inputs: Tensors,
    pub(crate) parameters: Parameters,
    /// Names; empty for all.
    pub(crate) outputs: Vec<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) ask: A,
}

impl<A> Decoded<A> {
    /// Tensors and nothing else.
    pub(crate) fn of(inputs: Tensors, ask: A) -> Self {
        Self { id: String::new(), inputs, parameters: Parameters::new(), outputs: Vec::new(), timeout: None, ask }
    }
}

/// Answers one request for a prediction.
pub(crate) async fn predict<W: Wire>(
    app: &App,
    target: &Target,
    request: http::Request<Body>,
) -> Result<Response, ServerError> {
    let begin = Instant::now();
    let (parts, body) = request.into_parts();
    let deadline = deadline::of_headers(&parts.headers, begin)?;
    let mut permit = app.admit()?;
    let call = app.begin(&target.model, target.version.as_deref(), W::PROTOCOL, deadline).await?;
    let outcome = answer::<W>(app, &call, &mut permit, &parts.headers, body, begin, deadline).await;
    let name = ModelName(call.name().to_owned());
    call.finish(outcome.as_ref().map(|_| ()).map_err(|error| error.code));
    outcome.map(|mut response| {
        response.extensions_mut().insert(name);
        response
    })
}

async fn answer<W: Wire>(
    app: &App,
    call: &Call,
    permit: &mut Permit,
    headers: &HeaderMap,
    body: Body,
    begin: Instant,
    deadline: Option<Instant>,
) -> Result<Response, ServerError> {
    let body = body::read(app, permit, headers, body).await?;
    let decoded = decode::<W>(app, call, headers, body.clone()).await?;
    permit.reserve(held_beside(&body, &decoded.inputs))?;
    drop(body);
    let request = Request {
        id: decoded.id,
        model: call.name().to_owned(),
        version: Some(call.version().to_owned()),
        parameters: with_headers(decoded.parameters, call.headers(), headers),
        inputs: decoded.inputs,
        outputs: decoded.outputs,
        deadline: deadline::earlier(deadline, begin, decoded.timeout),
        ..Request::default()
    };
    let response = call.infer(request).await?;
    Ok(reply(encode::<W>(app, call, decoded.ask, response).await?))
}

async fn decode<W: Wire>(
    app: &App,
    call: &Call,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Decoded<W::Ask>, ServerError> {
    let (decoded, time) = if body.len() <= IN_PLACE {
        timed(|| W::decode(call.signature(), headers, &body))
    } else {
        let (signature, headers) = (call.signature().clone(), headers.clone());
        app.engine.compute(Stage::Decode, move || timed(|| W::decode(&signature, &headers, &body))).await?
    };
    call.record(Stage::Decode, time);
    Ok(decoded?)
}

async fn encode<W: Wire>(
    app: &App,
    call: &Call,
    ask: W::Ask,
    response: corymb_core::Response,
) -> Result<Encoded, ServerError> {
    let (encoded, time) = if response.outputs.byte_len() <= IN_PLACE {
        timed(|| W::encode(call.signature(), &ask, &response))
    } else {
        let signature = call.signature().clone();
        app.engine.compute(Stage::Encode, move || timed(|| W::encode(&signature, &ask, &response))).await?
    };
    call.record(Stage::Encode, time);
    Ok(encoded?)
}

/// Bytes that tensors hold beside the body that they were read from: what is a slice of it has been accounted.
fn held_beside(body: &Bytes, tensors: &Tensors) -> usize {
    let range = body.as_ptr_range();
    let beside = |bytes: &Bytes| if range.contains(&bytes.as_ptr()) { 0 } else { bytes.len() };
    let held = tensors.iter().map(|(_, tensor)| match (tensor.bytes(), tensor.elements()) {
        (Some(bytes), _) => beside(bytes),
        (_, Some(elements)) => elements.iter().map(|element| size_of::<Bytes>() + beside(element)).sum(),
        _ => 0,
    });
    held.sum()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// Adds the headers that the model may see. What a body says under such a name does not count, whether the header is
/// there or not: whoever sets these headers may not be whoever writes the body.
pub(crate) fn with_headers(given: Parameters, names: &[String], headers: &HeaderMap) -> Parameters {
    if names.is_empty() {
        return given;
    }
    let kept = given.iter().filter(|(name, _)| !names.iter().any(|header| header == name));
    let mut parameters: Parameters = kept.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    for name in names {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        if !values.is_empty() {
            parameters.set(name, Value::Text(values.join(", ")));
        }
    }
    parameters
}

fn reply(encoded: Encoded) -> Response {
    let content_type = if encoded.json_len.is_some() { "application/octet-stream" } else { "application/json" };
    let mut response = Response::new(Body::from(encoded.body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(json_len) = encoded.json_len {
        response.headers_mut().insert(binary::HEADER.clone(), HeaderValue::from(json_len));
    }
    response
}

#[cfg(test)]
mod tests {
    use corymb_core::Tensor;

    use super::*;

    #[test]
    fn memory_beside_the_body_is_counted() {
        let body = Bytes::from(vec![0; 64]);
        let tensors = Tensors::from_iter([
            ("in place", Tensor::new(corymb_core::DType::Uint8, [8], body.slice(8..16)).expect("valid")),
            ("copied", Tensor::from_slice([8], &[0_u8; 8]).expect("valid")),
            ("texts", Tensor::from_elements([2], vec![body.slice(..3), Bytes::from_static(b"abcd")]).expect("valid")),
        ]);
        assert_eq!(held_beside(&body, &tensors), 8 + 2 * size_of::<Bytes>() + 4);
    }

    #[test]
    fn headers_replace_what_the_body_says_under_their_names() {
        let mut given = Parameters::new();
        given.set("x-tenant", Value::Text("forged".into()));
        given.set("x-user", Value::Text("forged".into()));
        given.set("threshold", Value::Double(0.5));
        let mut headers = HeaderMap::new();
        headers.append("x-tenant", HeaderValue::from_static("a"));
        headers.append("x-tenant", HeaderValue::from_static("b"));
        let names = ["x-tenant".to_owned(), "x-user".to_owned()];
        let parameters = with_headers(given.clone(), &names, &headers);
        assert_eq!(parameters.get("x-tenant"), Some(&Value::Text("a, b".into())));
        assert_eq!(parameters.get("x-user"), None);
        assert_eq!(parameters.get("threshold"), Some(&Value::Double(0.5)));
        assert_eq!(with_headers(given.clone(), &[], &headers), given);
    }
}
