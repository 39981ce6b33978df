//! Around every request: counted from its headers to its last byte, named, timed and logged once.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use corymb_core::Code;
use corymb_engine::{Engine, InFlight, in_span};
use corymb_listener::{Connection, Pieces, RequestBody};
use futures::FutureExt;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body::{Frame, SizeHint};
use opentelemetry::Context as SpanContext;

use super::instruments::Instruments;
use super::span::{self, Ended};
use super::trace::{Identity, RequestId, TraceContext, scoped, within};
use super::{ObserveOptions, knative, model};
use crate::content::grpc_content;
use crate::status::{Refusal, ServerError};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static KUBELET_PROBE: HeaderName = HeaderName::from_static("k-kubelet-probe");
static NETWORK_PROBE: HeaderName = HeaderName::from_static("k-network-probe");

/// Answers a request; what is observed.
pub(crate) trait Handler: Send + Sync + 'static {
    fn answer(&self, request: Request<Body>, connection: Option<&Connection>) -> impl Future<Output = Response> + Send;
}

/// Hands requests to a handler and sees to everything that is the same for all of them.
#[derive(Debug)]
pub(crate) struct Observer<H> {
    handler: Arc<H>,
    observed: Arc<Observed>,
}

/// What all requests are counted by.
#[derive(Debug)]
struct Observed {
    engine: Engine,
    options: ObserveOptions,
    instruments: Instruments,
}

impl<H: Handler> Observer<H> {
    pub(crate) fn new(engine: Engine, options: ObserveOptions, handler: H) -> Self {
        let observed = Observed { engine, options, instruments: Instruments::new() };
        Self { handler: Arc::new(handler), observed: Arc::new(observed) }
    }

    /// The answer to one request. Counting begins with the call, not with the first poll. Boxed, since it is large and
    /// moves through several hands on its way to the task that drives it.
    pub(crate) fn answer(
        &self,
        request: Request<RequestBody>,
        connection: &Connection,
    ) -> Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>> {
        let record = Record::begin(&self.observed, &request);
        // REST asks nothing of its connection.
        let (handler, connection) = (Arc::clone(&self.handler), record.grpc.then(|| connection.clone()));
        Box::pin(async move {
            // In one expression: a future that has a name of its own is held twice.
            let answered = AssertUnwindSafe(scoped(
                Arc::clone(&record.identity),
                in_span(record.span.clone(), handler.answer(request.map(Body::new), connection.as_ref())),
            ))
            .catch_unwind()
            .await;
            let response = answered.unwrap_or_else(|panic| {
                let error = ServerError::internal(format!("a handler panicked: {}", panic_text(&*panic)));
                if record.grpc { error.into_grpc() } else { error.into_response() }
            });
            record.respond(response)
        })
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// What is known of one request; dropping it ends the counts and writes the log line.
#[derive(Debug)]
struct Record {
    observed: Arc<Observed>,
    begin: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    grpc: bool,
    probe: bool,
    identity: Arc<Identity>,
    /// Of a request that is traced.
    span: Option<SpanContext>,
    /// None until the handler has answered.
    status: Option<u16>,
    grpc_status: Option<HeaderValue>,
    refusal: Option<Refusal>,
    bytes: u64,
    complete: bool,
    /// In the server's concurrency; none for probes.
    _in_flight: Option<InFlight>,
    /// The same for Knative, where somebody reads it.
    _knative: Option<knative::Counted>,
}

impl Record {
    fn begin<B>(observed: &Arc<Observed>, request: &Request<B>) -> Box<Self> {
        let headers = request.headers();
        let probe = is_probe(request.method(), request.uri().path(), headers);
        let grpc = grpc_content(headers).is_some();
        let ObserveOptions { tracing, propagators, knative_stats } = &observed.options;
        let (trace, span) = TraceContext::of(request, probe, grpc, propagators, tracing.as_deref());
        observed.instruments.begin(request.method());
        // Boxed, since it goes through many hands.
        Box::new(Self {
            begin: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            grpc,
            probe,
            identity: Identity::new(trace, RequestId::of(headers)),
            span,
            status: None,
            grpc_status: None,
            refusal: None,
            bytes: 0,
            complete: false,
            _in_flight: (!probe).then(|| observed.engine.track()),
            _knative: knative_stats.as_ref().filter(|_| !probe).map(|stats| stats.enter(headers)),
            observed: Arc::clone(observed),
        })
    }

    fn respond(mut self: Box<Self>, response: Response) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        self.status = Some(parts.status.as_u16());
        self.grpc_status = parts.headers.get(&GRPC_STATUS).cloned();
        self.refusal = parts.extensions.remove::<Refusal>();
        self.identity.request_id.put(&mut parts.headers);
        if let Some(traceresponse) = self.identity.trace.response_header() {
            parts.headers.insert("traceresponse", traceresponse);
        }
        if self.method == Method::HEAD {
            self.complete = true;
        }
        Response::from_parts(parts, ResponseBody { inner: Pieces::new(body), record: self })
    }

    /// The model that was asked for, by whatever name, whatever became of the request: its URL names it, or its message.
    fn model(&self) -> Option<Cow<'_, str>> {
        let named = self.identity.take_model().map(Cow::Owned).or_else(|| model::of_path(self.uri.path()));
        named.map(model::shown)
    }

    fn protocol(&self) -> &'static str {
        let path = self.uri.path();
        if self.grpc {
            "grpc"
        } else if path.starts_with("/v1/") {
            "v1"
        } else if path == "/v2" || path.starts_with("/v2/") {
            "v2"
        } else {
            "http"
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.begin.elapsed();
        // Nobody waited for the answer.
        let status = self.status.unwrap_or_else(|| crate::status::statuses(Code::Cancelled).http.as_u16());
        // Whoever keeps exemplars looks for the current span.
        let current = self.span.as_ref().map(|span| span.clone().attach());
        self.observed.instruments.end(&self.method, self.version, status, took);
        let code = self.grpc_status.as_ref().and_then(|code| code.to_str().ok()?.parse().ok());
        if self.grpc && (self.grpc_status.is_some() || self.status.is_none()) {
            self.observed.instruments.call(self.uri.path(), code, took);
        }
        drop(current);
        let model = self.model();
        if let Some(span) = &self.span {
            let (model, message) = (model.as_deref(), self.refusal.as_ref().map(|refusal| &*refusal.message));
            span::end(span, &Ended { grpc: self.grpc, status, grpc_status: code, model, message });
        }
        let failed = self.refusal.as_ref().is_some_and(|refusal| refusal.code == Code::Internal);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "corymb::access",
                    method = %self.method,
                    path = self.uri.path(),
                    status,
                    grpc_status = self.grpc_status.as_ref().and_then(|value| value.to_str().ok()),
                    model = model.as_deref(),
                    protocol = self.protocol(),
                    bytes = self.bytes,
                    duration_ms = took.as_micros() as f64 / 1e3,
                    complete = self.complete,
                    error = self.refusal.as_ref().map(|refusal| &*refusal.message),
                    details = self.refusal.as_ref().and_then(|refusal| refusal.details.as_deref()),
                    trace_id = %self.identity.trace.id(),
                    span_id = %self.identity.trace.span_id(),
                    request_id = %self.identity.request_id,
                    "request"
                )
            };
        }
        match (failed, self.probe) {
            (true, _) => line!(error),
            (false, true) => line!(debug),
            (false, false) => line!(info),
        }
    }
}

/// Whether somebody only looks if we are there: such requests are no load.
fn is_probe(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let by_path = matches!(
        path,
        "/metrics"
            | "/v2/health/live"
            | "/v2/health/ready"
            | "/inference.GRPCInferenceService/ServerLive"
            | "/inference.GRPCInferenceService/ServerReady"
    ) || path.starts_with("/grpc.health.v1.Health/")
        || (path == "/" && method != Method::POST);
    let kubelet = || headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"kube-probe/"));
    by_path || headers.contains_key(&KUBELET_PROBE) || headers.contains_key(&NETWORK_PROBE) || kubelet()
}

/// A response's body on its way out, in pieces, so that the bytes of an answer that is given up are those that were sent.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Pieces<Body>,
    record: Box<Record>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { inner, record } = &mut *self;
        let frame = if record.grpc {
            // Requests of a stream are answered here.
            let _span = record.span.as_ref().map(|span| span.clone().attach());
            ready!(within(&record.identity, || Pin::new(inner).poll_frame(context)))
        } else {
            ready!(Pin::new(inner).poll_frame(context))
        };
        match &frame {
            None => record.complete = true,
            Some(Err(_)) => {}
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    record.bytes += data.len() as u64;
                } else if let Some(trailers) = frame.trailers_ref() {
                    record.grpc_status = trailers.get(&GRPC_STATUS).cloned();
                    record.complete = true;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper does not ask again behind the last frame.
        self.record.complete |= http_body::Body::is_end_stream(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_told_from_load() {
        let mut headers = HeaderMap::new();
        assert!(is_probe(&Method::GET, "/metrics", &headers));
        assert!(is_probe(&Method::GET, "/", &headers));
        assert!(is_probe(&Method::POST, "/grpc.health.v1.Health/Check", &headers));
        assert!(!is_probe(&Method::POST, "/", &headers));
        assert!(!is_probe(&Method::POST, "/v1/models/flowers:predict", &headers));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-probe/1.35"));
        assert!(is_probe(&Method::GET, "/v1/models/flowers", &headers));
    }
}
