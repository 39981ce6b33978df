//! Where the bytes of a prediction come from.

use axum::body::Body;
use bytes::Bytes;
use corymb_engine::Permit;
use corymb_wire::grpc::Head;
use http::HeaderMap;

use crate::app::App;
use crate::body::{self, Messages};
use crate::status::ServerError;

/// One of the ways to read a request's bytes, each within the limits and on the account of its permit.
pub(crate) enum Source<'a> {
    /// A whole body of HTTP.
    Body(Body),
    /// The only message of a gRPC call.
    Only(&'a mut Messages),
    /// A message of a gRPC stream, whose prefix has been read.
    Next(&'a mut Messages, Head),
}

impl Source<'_> {
    pub(super) async fn read(self, app: &App, headers: &HeaderMap, permit: &mut Permit) -> Result<Bytes, ServerError> {
        let bytes = match self {
            Source::Body(body) => body::read(app, permit, headers, body).await,
            Source::Only(messages) => messages.only(app, Some(permit)).await,
            Source::Next(messages, head) => messages.payload(app, head, Some(permit)).await,
        }?;
        permit.arrived()?;
        Ok(bytes)
    }
}
