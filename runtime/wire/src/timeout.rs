//! How long a caller waits, as headers say it: `x-request-timeout` of REST and `grpc-timeout`.

use std::time::Duration;

use corymb_core::{Code, Error};
use http::{HeaderMap, HeaderName};

static REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that `x-request-timeout` names; none without it.
///
/// It is a whole number and its unit: `250ms`, `2s`, `900us`. A bare number is refused: too many clients mean another unit
/// than their server.
///
/// # Errors
/// [`Code::InvalidArgument`] says what a timeout looks like.
pub fn of_rest(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    read(headers, &REQUEST_TIMEOUT, |value| request_timeout(std::str::from_utf8(value).ok()?)).map_err(|given| {
        let expected = "expected a number and a unit, as in 250ms, 2s or 900us";
        invalid(format!("header {REQUEST_TIMEOUT} is '{given}'; {expected}"))
    })
}

/// The time that `grpc-timeout` names; none without it.
///
/// It is up to eight digits and one of `H M S m u n`, by gRPC's specification.
///
/// # Errors
/// [`Code::InvalidArgument`] says what a timeout looks like.
pub fn of_grpc(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    read(headers, &GRPC_TIMEOUT, grpc_timeout).map_err(|given| {
        invalid(format!("{GRPC_TIMEOUT} '{given}' is not understood; expected up to 8 digits and one of H M S m u n"))
    })
}

fn read(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&[u8]) -> Option<Duration>,
) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    parse(value.as_bytes()).map(Some).ok_or_else(|| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn request_timeout(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    match unit.trim_start() {
        "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "us" | "µs" => Some(Duration::from_micros(number)),
        _ => None,
    }
}

fn grpc_timeout(value: &[u8]) -> Option<Duration> {
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

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_number_and_its_unit() {
        assert_eq!(request_timeout("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(request_timeout(" 2 s "), Some(Duration::from_secs(2)));
        assert_eq!(request_timeout("900us"), Some(Duration::from_micros(900)));
        for refused in ["250", "", "ms", "1.5s", "-1s", "0ms", "1m", "1h", "99999999999999999999s"] {
            assert_eq!(request_timeout(refused), None, "{refused}");
        }
    }

    #[test]
    fn grpc_timeouts_have_a_unit_and_eight_digits() {
        assert_eq!(grpc_timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(grpc_timeout(b"0n"), Some(Duration::ZERO));
        for refused in [&b""[..], b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b" 1S"] {
            assert_eq!(grpc_timeout(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_wrong_timeout_is_named() {
        let with = |name: &HeaderName, value| HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))]);
        let rest = |value| of_rest(&with(&REQUEST_TIMEOUT, value)).map_err(|error| error.message);
        let grpc = |value| of_grpc(&with(&GRPC_TIMEOUT, value)).map_err(|error| error.message);
        assert_eq!(rest("250ms"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(grpc("1m"), Ok(Some(Duration::from_millis(1))));
        assert_eq!(of_rest(&HeaderMap::new()).map_err(|error| error.message), Ok(None));
        // Each protocol has its own header.
        assert_eq!(of_grpc(&with(&REQUEST_TIMEOUT, "250")).map_err(|error| error.message), Ok(None));
        let message = "grpc-timeout '1x' is not understood; expected up to 8 digits and one of H M S m u n";
        assert_eq!(grpc("1x"), Err(message.to_owned()));
        let message = "header x-request-timeout is '250'; expected a number and a unit, as in 250ms, 2s or 900us";
        assert_eq!(rest("250"), Err(message.to_owned()));
    }
}
