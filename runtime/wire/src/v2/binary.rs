//! Where the JSON of a V2 body ends and its binary data begin.

use bytes::Bytes;
use corymb_core::{Code, Error};
use http::HeaderMap;

use crate::raw::JSON_LENGTH;

/// What a V2 body consists of.
#[derive(Debug, PartialEq)]
pub(super) enum Parts {
    /// JSON, and the binary data behind it, which may be empty.
    Json(Bytes, Bytes),
    /// One input's data and nothing else.
    Raw(Bytes),
}

/// Takes a body apart as its header says.
pub(super) fn split(headers: &HeaderMap, body: &Bytes) -> Result<Parts, Error> {
    let Some(value) = headers.get(&JSON_LENGTH) else { return Ok(Parts::Json(body.clone(), Bytes::new())) };
    let given = String::from_utf8_lossy(value.as_bytes());
    match given.trim().parse::<usize>() {
        Ok(0) => Ok(Parts::Raw(body.clone())),
        Ok(json) if json <= body.len() => Ok(Parts::Json(body.slice(..json), body.slice(json..))),
        _ => {
            let expected = body.len();
            let message = format!("header {JSON_LENGTH} is '{given}'; expected 0 to {expected}, the body's length");
            Err(Error::new(Code::InvalidArgument, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_header_splits_the_body() {
        let body = Bytes::from_static(b"{}ABCD");
        let split = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&JSON_LENGTH, HeaderValue::from_static(value));
            split(&headers, &body).map_err(|error| error.message)
        };
        assert_eq!(split("2"), Ok(Parts::Json(body.slice(..2), body.slice(2..))));
        assert_eq!(split("6"), Ok(Parts::Json(body.clone(), Bytes::new())));
        assert_eq!(split("0"), Ok(Parts::Raw(body.clone())));
        for refused in ["7", "-1", "x", "", "99999999999999999999"] {
            let expected = format!("header {JSON_LENGTH} is '{refused}'; expected 0 to 6, the body's length");
            assert_eq!(split(refused), Err(expected));
        }
        let whole = super::split(&HeaderMap::new(), &body).expect("all of it is JSON");
        assert_eq!(whole, Parts::Json(body.clone(), Bytes::new()));
    }
}
