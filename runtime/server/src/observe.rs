//! Around every request: counted from its headers to its last byte, named, timed and logged once.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use corymb_core::Code;
use corymb_engine::{InFlight, in_span};
use futures::FutureExt;
use http::header::{CONNECTION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use opentelemetry::Context as SpanContext;

use crate::activity::{ActiveRequest, Activity};
use crate::app::{App, Routes, grpc_content};
use crate::drain::{Drain, Phase};
use crate::instruments::Instruments;
use crate::linger::Lingering;
use crate::listen::{Connections, OpenRequest};
use crate::options::ServerOptions;
use crate::span::{self, Ended};
use crate::stall::Sending;
use crate::stats;
use crate::status::{Refusal, ServerError};
use crate::trace::{RequestId, TraceContext, scoped};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static KUBELET_PROBE: HeaderName = HeaderName::from_static("k-kubelet-probe");
static NETWORK_PROBE: HeaderName = HeaderName::from_static("k-network-probe");

/// A response goes out in pieces of at most this size, so that a reader's progress can be seen.
const PIECE: usize = 64 * 1024;

/// Put by a handler into its response's extensions: the model that it speaks of.
#[derive(Clone, Debug)]
pub(crate) struct ModelName(pub(crate) String);

/// Hands requests to the routes and sees to everything that is the same for all of them; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    app: App,
    routes: Routes,
    instruments: Instruments,
}

impl Observer {
    pub(crate) fn new(app: App, routes: Routes) -> Self {
        Self(Arc::new(Shared { app, routes, instruments: Instruments::new() }))
    }

    pub(crate) fn options(&self) -> &ServerOptions {
        &self.0.app.options
    }

    pub(crate) fn drain(&self) -> &Drain {
        &self.0.app.drain
    }

    /// The answer to one request. Counting begins with the call, not with the first poll. Boxed, since it is large and
    /// moves through several hands on its way to the task that drives it.
    pub(crate) fn answer(
        &self,
        request: Request<Incoming>,
        activity: &Activity,
        connections: &Connections,
    ) -> Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>> {
        let guards = (activity.request(), connections.request());
        let record = Record::begin(&self.0, &request, guards);
        let shared = Arc::clone(&self.0);
        let activity = activity.clone();
        Box::pin(async move {
            // In one expression: a future that has a name of its own is held twice.
            let answered = AssertUnwindSafe(scoped(
                record.trace,
                record.request_id.clone(),
                in_span(record.span.clone(), shared.routes.answer(Lingering::wrap(request))),
            ))
            .catch_unwind()
            .await;
            let response = answered.unwrap_or_else(|panic| {
                let error = ServerError::internal(format!("a handler panicked: {}", panic_text(&*panic)));
                if record.grpc { error.into_grpc() } else { error.into_response() }
            });
            record.respond(response, activity.sending(), shared.app.drain.phase())
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
    shared: Arc<Shared>,
    begin: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    grpc: bool,
    probe: bool,
    trace: TraceContext,
    /// Of a request that is traced.
    span: Option<SpanContext>,
    request_id: RequestId,
    /// None until the handler has answered.
    status: Option<u16>,
    grpc_status: Option<HeaderValue>,
    model: Option<String>,
    refusal: Option<Refusal>,
    bytes: u64,
    complete: bool,
    /// In the server's concurrency; none for probes.
    _in_flight: Option<InFlight>,
    /// The same for Knative, where somebody reads it.
    _knative: Option<stats::Counted>,
    _guards: (ActiveRequest, OpenRequest),
}

impl Record {
    fn begin<B>(shared: &Arc<Shared>, request: &Request<B>, guards: (ActiveRequest, OpenRequest)) -> Box<Self> {
        let headers = request.headers();
        let probe = is_probe(request.method(), request.uri().path(), headers);
        let grpc = grpc_content(headers).is_some();
        let (trace, span) = TraceContext::of(request, probe, grpc, &shared.app.options);
        shared.instruments.begin(request.method());
        // Boxed, since it goes through many hands.
        Box::new(Self {
            begin: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            grpc,
            probe,
            trace,
            span,
            request_id: RequestId::of(headers),
            status: None,
            grpc_status: None,
            model: None,
            refusal: None,
            bytes: 0,
            complete: false,
            _in_flight: (!probe).then(|| shared.app.engine.track()),
            _knative: shared.app.options.knative_stats.as_ref().filter(|_| !probe).map(|stats| stats.enter(headers)),
            _guards: guards,
            shared: Arc::clone(shared),
        })
    }

    fn respond(mut self: Box<Self>, response: Response, sending: Sending, phase: Phase) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        self.status = Some(parts.status.as_u16());
        self.grpc_status = parts.headers.get(&GRPC_STATUS).cloned();
        self.refusal = parts.extensions.remove::<Refusal>();
        self.model = parts.extensions.remove::<ModelName>().map(|name| name.0);
        self.request_id.put(&mut parts.headers);
        if let Some(traceresponse) = self.trace.response_header() {
            parts.headers.insert("traceresponse", traceresponse);
        }
        // A stopping server's clients should connect elsewhere before it closes what they keep.
        if phase >= Phase::Leaving && self.version < Version::HTTP_2 {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.method == Method::HEAD {
            self.complete = true;
        }
        Response::from_parts(parts, ResponseBody { inner: body, rest: Bytes::new(), sending, record: self })
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
        self.shared.instruments.end(&self.method, self.version, status, took);
        let code = self.grpc_status.as_ref().and_then(|code| code.to_str().ok()?.parse().ok());
        if self.grpc && (self.grpc_status.is_some() || self.status.is_none()) {
            self.shared.instruments.call(self.uri.path(), code, took);
        }
        if let Some(span) = &self.span {
            let (model, message) = (self.model.as_deref(), self.refusal.as_ref().map(|refusal| &*refusal.message));
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
                    model = self.model.as_deref(),
                    protocol = self.protocol(),
                    bytes = self.bytes,
                    duration_ms = took.as_micros() as f64 / 1e3,
                    complete = self.complete,
                    error = self.refusal.as_ref().map(|refusal| &*refusal.message),
                    details = self.refusal.as_ref().and_then(|refusal| refusal.details.as_deref()),
                    trace_id = %self.trace.id(),
                    span_id = %self.trace.span_id(),
                    request_id = %self.request_id,
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

/// A response's body on its way out.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    inner: Body,
    /// What is left of a frame that was larger than a piece.
    rest: Bytes,
    sending: Sending,
    record: Box<Record>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = &mut *self;
        body.sending.taken();
        if body.rest.is_empty() {
            match ready!(Pin::new(&mut body.inner).poll_frame(context)) {
                None => {
                    body.record.complete = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => body.rest = data,
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            body.record.grpc_status = trailers.get(&GRPC_STATUS).cloned();
                            body.record.complete = true;
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                },
            }
        }
        let piece = body.rest.split_to(PIECE.min(body.rest.len()));
        body.record.bytes += piece.len() as u64;
        body.sending.handed_over();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.sending.taken();
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
