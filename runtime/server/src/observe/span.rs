//! The span of a request's answer, by OpenTelemetry's semantic conventions for HTTP and RPC servers.

use http::header::{HOST, USER_AGENT};
use http::{Request, Uri, Version};
use opentelemetry::trace::{SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};

use super::instruments::{method_word, rpc_code};

/// Decides which requests are traced, and starts their spans. What becomes of the spans is its own affair.
pub trait Tracing: Send + Sync {
    /// Whether a request is traced: `parent` is the caller's span, where it has decided already. Asked before anything
    /// is made for the span, so that the answer no costs next to nothing.
    fn sampled(&self, parent: Option<&SpanContext>, trace: TraceId) -> bool;

    /// Starts a span of a traced request, below `parent` or as the first of `trace`.
    fn start(&self, parent: Option<SpanContext>, trace: TraceId, span: SpanBuilder) -> Context;
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) grpc: bool,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<usize>,
    pub(crate) model: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
}

/// The span of one request, by the semantic conventions for HTTP and RPC servers.
pub(crate) fn server_span<B>(request: &Request<B>, grpc: bool) -> SpanBuilder {
    let (uri, method) = (request.uri(), request.method());
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let (server, port) = host.map_or((None, None), address);
    let mut attributes = Vec::with_capacity(8);
    let name = if grpc {
        let path = uri.path().trim_start_matches('/');
        attributes.push(KeyValue::new("rpc.system.name", "grpc"));
        attributes.push(KeyValue::new("rpc.method", path.to_owned()));
        path.to_owned()
    } else {
        let route = route(uri);
        attributes.push(KeyValue::new("http.request.method", method_word(method)));
        attributes.push(KeyValue::new("url.path", uri.path().to_owned()));
        attributes.push(KeyValue::new("url.scheme", "http"));
        let version = if request.version() < Version::HTTP_2 { "1.1" } else { "2" };
        attributes.push(KeyValue::new("network.protocol.version", version));
        if let Some(agent) = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
            attributes.push(KeyValue::new("user_agent.original", agent.to_owned()));
        }
        let verb = if method_word(method) == "_OTHER" { "HTTP" } else { method.as_str() };
        match route {
            Some(route) => {
                attributes.push(KeyValue::new("http.route", route));
                format!("{verb} {route}")
            }
            None => verb.to_owned(),
        }
    };
    attributes.extend(server.map(|server| KeyValue::new("server.address", server.to_owned())));
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes)
}

/// Name and port of a `Host`.
fn address(host: &str) -> (Option<&str>, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (Some(name), port.parse().ok()),
        _ => (Some(host), None),
    }
}

/// The template that a URL follows, so that spans of different models have one name; none for a URL that is not served.
fn route(uri: &Uri) -> Option<&'static str> {
    let mut parts = uri.path().split('/').skip(1);
    let (first, second) = (parts.next()?, parts.next());
    let named = second == Some("models") && parts.next().is_some();
    let rest: Vec<&str> = parts.take(4).collect();
    let predicts = uri.path().ends_with(":predict");
    Some(match (first, second, named, rest.as_slice()) {
        ("", None, ..) => "/",
        ("v1", Some("models"), false, []) => "/v1/models",
        ("v1", _, true, []) if predicts => "/v1/models/{model}:predict",
        ("v1", _, true, []) => "/v1/models/{model}",
        ("v1", _, true, ["metadata"]) => "/v1/models/{model}/metadata",
        ("v1", _, true, ["versions", _]) if predicts => "/v1/models/{model}/versions/{version}:predict",
        ("v1", _, true, ["versions", _]) => "/v1/models/{model}/versions/{version}",
        ("v1", _, true, ["versions", _, "metadata"]) => "/v1/models/{model}/versions/{version}/metadata",
        ("v2", None, ..) => "/v2",
        ("v2", Some("repository"), ..) => "/v2/repository/index",
        ("v2", _, true, []) => "/v2/models/{model}",
        ("v2", _, true, ["ready"]) => "/v2/models/{model}/ready",
        ("v2", _, true, ["infer"]) => "/v2/models/{model}/infer",
        ("v2", _, true, ["versions", _]) => "/v2/models/{model}/versions/{version}",
        ("v2", _, true, ["versions", _, "ready"]) => "/v2/models/{model}/versions/{version}/ready",
        ("v2", _, true, ["versions", _, "infer"]) => "/v2/models/{model}/versions/{version}/infer",
        _ => return None,
    })
}

/// Ends the span of a request with what became of it.
pub(crate) fn end(recording: &Context, ended: &Ended<'_>) {
    let span = recording.span();
    if let Some(model) = ended.model {
        span.set_attribute(KeyValue::new("model", model.to_owned()));
    }
    let error = if ended.grpc {
        let code = rpc_code(ended.grpc_status);
        span.set_attribute(KeyValue::new("rpc.response.status_code", code));
        // What the conventions call a server's own failures: the others are the caller's.
        let failures = ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
        failures.contains(&code).then(|| code.to_owned())
    } else {
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(ended.status)));
        (ended.status >= 500).then(|| ended.status.to_string())
    };
    if let Some(kind) = error {
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(Status::error(ended.message.unwrap_or_default().to_owned()));
    }
    span.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_what_is_served_and_nothing_else() {
        let of = |path: &str| route(&path.parse().expect("a path"));
        assert_eq!(of("/"), Some("/"));
        assert_eq!(of("/v1/models"), Some("/v1/models"));
        assert_eq!(of("/v1/models/a%20b:predict"), Some("/v1/models/{model}:predict"));
        assert_eq!(of("/v1/models/a/versions/3:predict"), Some("/v1/models/{model}/versions/{version}:predict"));
        assert_eq!(of("/v2/models/a/infer?x=1"), Some("/v2/models/{model}/infer"));
        assert_eq!(of("/v2/models/a/versions/1/ready"), Some("/v2/models/{model}/versions/{version}/ready"));
        assert_eq!(of("/v2/models/a/stop"), None);
        assert_eq!(of("/v3/models/a"), None);
        assert_eq!(of("/v1/models/a/b/c/d/e/f"), None);
    }

    #[test]
    fn hosts_have_a_name_and_perhaps_a_port() {
        assert_eq!(address("flowers.default.example.com"), (Some("flowers.default.example.com"), None));
        assert_eq!(address("127.0.0.1:8080"), (Some("127.0.0.1"), Some(8080)));
    }
}
