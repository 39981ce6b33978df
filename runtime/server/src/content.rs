//! What tells gRPC from REST: the content type, not the path.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// What follows `application/grpc` in the content type, without parameters; none for any other type.
pub(crate) fn grpc_content(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::to_str)?.ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    let rest = essence.strip_prefix("application/grpc")?;
    (rest.is_empty() || rest.starts_with(['+', '-'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            grpc_content(&headers).map(str::to_owned)
        };
        assert_eq!(of("application/grpc"), Some(String::new()));
        assert_eq!(of("application/grpc+proto; v=1"), Some("+proto".to_owned()));
        assert_eq!(of("application/grpc-web"), Some("-web".to_owned()));
        assert_eq!(of("application/grpcx"), None);
        assert_eq!(of("text/plain"), None);
        assert_eq!(grpc_content(&HeaderMap::new()), None);
    }
}
