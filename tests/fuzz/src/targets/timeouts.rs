//! Timeouts in headers: each is read as it was written, and what is refused is named.

use std::time::Duration;

use corymb_core::Code;
use corymb_wire::timeout::{of_grpc, of_rest};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::input::Input;

const REQUEST: HeaderName = HeaderName::from_static("x-request-timeout");
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");
/// The longest that gRPC can say: eight digits of hours.
const LONGEST: Duration = Duration::from_secs(99_999_999 * 3600);

/// A byte whose lowest bits say which headers there are, the first header up to a zero byte, the second one.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let given = input.byte();
    let (first, second) = (input.before_zero(), input.rest());
    let mut headers = HeaderMap::new();
    for (name, value) in [(REQUEST, first), (GRPC, second)] {
        let wanted = given & if name == GRPC { 2 } else { 1 } != 0;
        if let (true, Ok(value)) = (wanted, HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    let (request, grpc) = (of_rest(&headers), of_grpc(&headers));
    for (name, timeout) in [(REQUEST, &request), (GRPC, &grpc)] {
        match timeout {
            Ok(timeout) => assert_eq!(timeout.is_some(), headers.contains_key(&name)),
            Err(error) => {
                assert_eq!(error.code, Code::InvalidArgument);
                assert!(error.message.contains(name.as_str()), "{error}");
            }
        }
    }
    assert!(!matches!(request, Ok(Some(Duration::ZERO))));
    assert!(!matches!(grpc, Ok(Some(timeout)) if timeout > LONGEST), "{grpc:?}");
    written_and_read(second);
}

/// A number that both headers can say, in each unit that they have.
fn written_and_read(bytes: &[u8]) {
    let number = bytes.iter().take(3).fold(0, |number, byte| number << 8 | u64::from(*byte)) + 1;
    let units = [
        ("s", "S", Duration::from_secs(1)),
        ("ms", "m", Duration::from_millis(1)),
        ("us", "u", Duration::from_micros(1)),
    ];
    for (request, grpc, unit) in units {
        let expected = Some(unit * u32::try_from(number).expect("24 bits and one"));
        let value = |unit| HeaderValue::try_from(format!("{number}{unit}")).expect("a header");
        assert_eq!(of_rest(&HeaderMap::from_iter([(REQUEST, value(request))])).expect("a timeout"), expected);
        assert_eq!(of_grpc(&HeaderMap::from_iter([(GRPC, value(grpc))])).expect("a timeout"), expected);
    }
}
