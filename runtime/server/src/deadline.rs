//! How long a REST caller waits: the header `x-request-timeout`, and V2's parameter `timeout`.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use crate::status::ServerError;

static HEADER: HeaderName = HeaderName::from_static("x-request-timeout");

/// The deadline that the headers of a request received at `begin` set; none without the header.
///
/// The value is a whole number and its unit: `250ms`, `2s`, `900us`. A bare number is refused: too many clients mean
/// another unit than their server.
pub(crate) fn of_headers(headers: &HeaderMap, begin: Instant) -> Result<Option<Instant>, ServerError> {
    let Some(value) = headers.get(&HEADER) else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
        let given = String::from_utf8_lossy(value.as_bytes());
        ServerError::invalid(format!(
            "header {HEADER} is '{given}'; expected a number and a unit, as in 250ms, 2s or 900us"
        ))
    })?;
    Ok(after(begin, timeout))
}

/// The earlier of a deadline and the end of `timeout`, both counted from `begin`.
pub(crate) fn earlier(deadline: Option<Instant>, begin: Instant, timeout: Option<Duration>) -> Option<Instant> {
    let other = timeout.and_then(|timeout| after(begin, timeout));
    match (deadline, other) {
        (Some(deadline), Some(other)) => Some(deadline.min(other)),
        (deadline, other) => deadline.or(other),
    }
}

/// What lies beyond the clock's end is no deadline.
fn after(begin: Instant, timeout: Duration) -> Option<Instant> {
    begin.checked_add(timeout)
}

fn parse(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_number_and_its_unit() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse(" 2 s "), Some(Duration::from_secs(2)));
        assert_eq!(parse("900us"), Some(Duration::from_micros(900)));
        for refused in ["250", "", "ms", "1.5s", "-1s", "0ms", "1m", "1h", "99999999999999999999s"] {
            assert_eq!(parse(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_message_says_what_a_timeout_looks_like() {
        let mut headers = HeaderMap::new();
        let begin = Instant::now();
        assert_eq!(of_headers(&headers, begin), Ok(None));
        headers.insert(&HEADER, HeaderValue::from_static("250"));
        let message = of_headers(&headers, begin).expect_err("refused").message;
        assert_eq!(
            message,
            "header x-request-timeout is '250'; expected a number and a unit, as in 250ms, 2s or 900us"
        );
        headers.insert(&HEADER, HeaderValue::from_static("250ms"));
        assert_eq!(of_headers(&headers, begin), Ok(Some(begin + Duration::from_millis(250))));
        headers.insert(&HEADER, HeaderValue::from_static("18446744073709551615s"));
        assert_eq!(of_headers(&headers, begin), Ok(None));
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let begin = Instant::now();
        let header = Some(begin + Duration::from_secs(2));
        assert_eq!(earlier(None, begin, None), None);
        assert_eq!(earlier(header, begin, None), header);
        assert_eq!(earlier(header, begin, Some(Duration::from_secs(3))), header);
        let second = Duration::from_secs(1);
        assert_eq!(earlier(header, begin, Some(second)), Some(begin + second));
        assert_eq!(earlier(None, begin, Some(second)), Some(begin + second));
    }
}
