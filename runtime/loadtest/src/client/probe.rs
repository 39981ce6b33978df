//! One request before the load, whose refusal is shown in the server's own words, or whose answer is read.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use super::{Client, MAX_ANSWER};
use crate::call::{Call, RestCall};
use crate::target::Target;

/// What of a refusal is shown, in bytes.
const MAX_WORDS: usize = 500;

/// Sends one request of REST and reads its answer, whatever its status.
///
/// # Errors
/// Why there is none, in one line.
pub async fn fetch(target: &Target, call: &RestCall, limit: Duration) -> Result<Response<Bytes>, String> {
    let client = Client::new(target);
    let asked = async {
        let (parts, body) = client.rest.ask(call).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let late = |_| Err(format!("no answer within {} s", limit.as_secs_f64()));
    timeout(limit, asked).await.unwrap_or_else(late).map_err(|words| format!("{target}: {words}"))
}

/// Sends one request and says, in words, why there was no good answer.
///
/// # Errors
/// One line.
pub async fn probe(target: &Target, call: &Call, limit: Duration) -> Result<(), String> {
    let mut client = Client::new(target);
    let asked = async {
        match call {
            Call::Grpc(request) => client.grpc.ask(request).await.map(|_| ()),
            Call::Rest(call) => {
                let answer = client.rest.ask(call).await?;
                let status = answer.status();
                if status.is_success() {
                    return Ok(());
                }
                let mut words: Vec<u8> = Vec::new();
                let mut body = answer.into_body();
                while let Some(Ok(frame)) = body.frame().await
                    && words.len() < MAX_WORDS
                {
                    words.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref));
                }
                words.truncate(MAX_WORDS);
                Err(format!("{status}: {}", String::from_utf8_lossy(&words).trim()))
            }
        }
    };
    match timeout(limit, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(words)) => Err(format!("{target} refused the request: {words}")),
        Err(_) => Err(format!("{target} did not answer within {} s", limit.as_secs_f64())),
    }
}
