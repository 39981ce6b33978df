//! Timeouts in headers: each is read as it was written, the shorter counts, and what is refused is named.

use std::time::Duration;

use corymb_core::Code;
use corymb_wire::timeout::of_grpc;
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
    let one = |name: HeaderName| {
        let value = headers.get(&name).cloned();
        of_grpc(&value.map(|value| (name, value)).into_iter().collect())
    };
    match (of_grpc(&headers), one(REQUEST), one(GRPC)) {
        (Ok(both), Ok(request), Ok(grpc)) => {
            assert_eq!(both, [request, grpc].into_iter().flatten().min());
            assert_eq!(
                (request.is_some(), grpc.is_some()),
                (headers.contains_key(REQUEST), headers.contains_key(GRPC))
            );
            assert_ne!(request, Some(Duration::ZERO));
            assert!(grpc.is_none_or(|timeout| timeout <= LONGEST), "{grpc:?}");
        }
        (Err(error), request, grpc) => {
            assert_eq!(error.code, Code::InvalidArgument);
            let name = if request.is_err() { REQUEST } else { GRPC };
            assert!(request.is_err() || grpc.is_err(), "refused together, but not alone: {error}");
            assert!(error.message.contains(name.as_str()), "{error}");
        }
        (both, ..) => panic!("{both:?} of {headers:?}"),
    }
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
        for (name, unit_name) in [(REQUEST, request), (GRPC, grpc)] {
            let value = HeaderValue::try_from(format!("{number}{unit_name}")).expect("a header");
            let expected = unit * u32::try_from(number).expect("24 bits and one");
            assert_eq!(of_grpc(&HeaderMap::from_iter([(name, value)])).expect("a timeout"), Some(expected));
        }
    }
}
