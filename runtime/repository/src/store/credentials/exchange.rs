//! Requests that bring credentials: few, small, and with a time limit; what they carry is secret.

use std::error::Error as _;
use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::DateTime;
use http::header::CONTENT_TYPE;
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::store::client::Client;
use crate::store::fault::{Fault, FaultKind, causes};

/// A server of credentials that has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A GET of `url` with headers.
pub(super) fn get(url: &str, headers: &[(&str, &str)]) -> Result<HttpRequest, Fault> {
    request(http::Method::GET, url, headers, String::new())
}

/// A POST of a form.
pub(super) fn form(url: &str, fields: &[(&str, &str)]) -> Result<HttpRequest, Fault> {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    request(http::Method::POST, url, &[(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")], body)
}

/// A POST of JSON on behalf of who holds the token `bearer`.
pub(super) fn json(url: &str, bearer: &str, body: &Value) -> Result<HttpRequest, Fault> {
    let authorization = format!("Bearer {bearer}");
    let headers = [(CONTENT_TYPE.as_str(), "application/json"), ("authorization", authorization.as_str())];
    request(http::Method::POST, url, &headers, body.to_string())
}

fn request(method: http::Method, url: &str, headers: &[(&str, &str)], body: String) -> Result<HttpRequest, Fault> {
    let mut builder = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    // The error would name what it does not like, which may be a token.
    builder
        .body(HttpRequestBody::from(body))
        .map_err(|_| Fault::refused("its address or a header of the request is not valid"))
}

/// The body of the answer to `request`.
pub(super) async fn ask(client: &Client, request: HttpRequest) -> Result<Bytes, Fault> {
    let asked = async {
        let answer = client.call(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().bytes().await?))
    };
    let answered: Result<_, object_store::client::HttpError> = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered,
        Err(_) => return Err(Fault::passing(format!("no answer for {} s", PATIENCE.as_secs()))),
    };
    match answered {
        Ok((status, body)) if status.is_success() => Ok(body),
        // Our client lets the refusals of metadata servers through.
        Ok((status, _)) => Err(Fault::refused(format!("the server answered {status}"))),
        Err(error) => Err(match error.source().and_then(|source| source.downcast_ref::<Fault>()) {
            Some(fault) => fault.clone(),
            None => Fault::refused(causes(&error)),
        }),
    }
}

/// As [`ask`], of JSON.
pub(super) async fn ask_json(client: &Client, request: HttpRequest) -> Result<Value, Fault> {
    let body = ask(client, request).await?;
    // The reader's own words might quote it.
    serde_json::from_slice(&body).map_err(|_| Fault::refused("its answer is not JSON"))
}

/// The text at a name in JSON that holds secrets.
pub(super) fn text<'a>(json: &'a Value, name: &str) -> Result<&'a str, Fault> {
    given(json, name).ok_or_else(|| Fault::refused(format!("it has no '{name}'")))
}

/// The text at a name, where there is one.
pub(super) fn given<'a>(json: &'a Value, name: &str) -> Option<&'a str> {
    json[name].as_str().filter(|text| !text.is_empty())
}

/// A time as AWS and Google write it: RFC 3339, and `UTC` for `Z` in files of older versions of AWS's command line.
pub(super) fn time(text: &str) -> Result<SystemTime, Fault> {
    let parsed = DateTime::parse_from_rfc3339(&text.trim().replace("UTC", "Z"));
    parsed.map(SystemTime::from).map_err(|_| Fault::refused("it does not say when the credentials expire"))
}

/// What went wrong, and for whom. That there is nothing at the address of a token server says nothing about the model,
/// so it is not [`FaultKind::Missing`].
pub(super) fn within(what: impl Display) -> impl FnOnce(Fault) -> Fault {
    move |fault| {
        let kind = if fault.kind == FaultKind::Missing { FaultKind::Refused } else { fault.kind };
        Fault { kind, reason: format!("{what}: {}", fault.reason) }
    }
}

/// The fault in an error of `object_store` that one of our providers gave.
pub(super) fn fault_of(error: &object_store::Error) -> Fault {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = next {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return fault.clone();
        }
        next = inner.source();
    }
    Fault::refused(causes(error))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{FaultKind, time, within};
    use crate::store::fault::Fault;

    #[test]
    fn times_are_read_as_tools_write_them() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        for text in
            ["1970-01-02T00:00:00Z", "1970-01-02T00:00:00UTC", "1970-01-02T02:00:00+02:00", "1970-01-02T00:00:00.0Z"]
        {
            assert_eq!(time(text).ok(), Some(expected), "{text}");
        }
        assert!(time("soon").is_err());
    }

    #[test]
    fn a_token_server_that_is_not_there_is_no_missing_model() {
        let missing = Fault { kind: FaultKind::Missing, reason: "the server answered 404 Not Found".to_owned() };
        let fault = within("STS")(missing);
        assert_eq!((fault.kind, fault.reason.as_str()), (FaultKind::Refused, "STS: the server answered 404 Not Found"));
    }
}
