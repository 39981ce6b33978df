//! One unary call of a small method, and the deadline that a call may carry.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Request};

use super::frames::{Message, Messages, UnaryBody, respond};
use crate::app::App;
use crate::status::ServerError;

/// Bytes of a message that names a model and little else.
const MAX: usize = 64 * 1024;

static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Answers a method that takes and gives little: no admission, so that it works on an overloaded server too.
pub(super) async fn small<Q, A>(
    app: &App,
    request: Request<Body>,
    answer: impl FnOnce(&App, Q) -> Result<A, ServerError>,
) -> Response
where
    Q: prost::Message + Default,
    A: prost::Message,
{
    small_later(app, request, |app, question, _| std::future::ready(answer(&app, question))).await
}

/// The same for an answer that takes its time, at most until the deadline, if there is one.
pub(super) async fn small_later<Q, A, F>(
    app: &App,
    request: Request<Body>,
    answer: impl FnOnce(App, Q, Option<Instant>) -> F,
) -> Response
where
    Q: prost::Message + Default,
    A: prost::Message,
    F: Future<Output = Result<A, ServerError>>,
{
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    let answered = async {
        let bytes = Messages::new(app, &parts.headers, body, MAX)?.only(app, None).await?;
        let question = Q::decode(bytes).map_err(super::wire::malformed)?;
        let deadline = deadline(&parts.headers, arrived)?;
        Message::of(&answer(app.clone(), question, deadline).await?)
    };
    match answered.await {
        Ok(message) => respond(Body::new(UnaryBody::new(message)), None),
        Err(error) => error.into_grpc(),
    }
}

/// When the caller stops waiting, by its `grpc-timeout`; none without one.
pub(super) fn deadline(headers: &HeaderMap, arrived: Instant) -> Result<Option<Instant>, ServerError> {
    let Some(value) = headers.get(&TIMEOUT) else { return Ok(None) };
    match timeout(value.as_bytes()) {
        // Beyond what a clock can hold is as good as none.
        Some(timeout) => Ok(arrived.checked_add(timeout)),
        None => {
            let given = String::from_utf8_lossy(value.as_bytes()).into_owned();
            Err(ServerError::invalid(format!(
                "grpc-timeout '{given}' is not understood; expected up to 8 digits and one of H M S m u n"
            )))
        }
    }
}

fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit_and_eight_digits() {
        assert_eq!(timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout(b"0n"), Some(Duration::ZERO));
        for refused in [&b""[..], b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S"] {
            assert_eq!(timeout(refused), None, "{refused:?}");
        }
    }
}
