//! The body of an answer, read within a bound.

use bytes::Bytes;
use reqwest::Response;

use crate::store::fault::Fault;

/// The whole body, at most `limit` bytes.
pub(crate) async fn read(mut answer: Response, limit: usize) -> Result<Bytes, Fault> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(Fault::transport)? {
        if body.len() + piece.len() > limit {
            return Err(Fault::refused(format!("an answer of more than {limit} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.into())
}
