//! Who a request is: its trace and its `x-request-id`, taken from its headers or made here, and the model that it names.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt as _, TraceId};
use tokio::task_local;

use super::model::shown;
use super::propagate::{self, Parent, Propagator};
use super::span::{Tracing, server_span};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

task_local! {
    /// The request whose handler, or whose answer's body, is being polled.
    static CURRENT: Arc<Identity>;
}

/// Who a request is, for its handler, for its own log line and for every line between.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) trace: TraceContext,
    pub(crate) request_id: RequestId,
    /// Of a request whose URL names none. Nothing is awaited while it is held.
    model: Mutex<Option<String>>,
}

impl Identity {
    pub(crate) fn new(trace: TraceContext, request_id: RequestId) -> Arc<Self> {
        Arc::new(Self { trace, request_id, model: Mutex::default() })
    }

    /// The model that [`name_model`] was told.
    pub(crate) fn take_model(&self) -> Option<String> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The model that the current request was said to name, fit for a line of the log.
pub(crate) fn named_model() -> Option<String> {
    let named = CURRENT.try_with(|identity| identity.model.lock().unwrap_or_else(PoisonError::into_inner).clone());
    named.ok().flatten().map(|name| shown(name.into()).into_owned())
}

/// Polls `handler` as the one of this request.
pub(crate) fn scoped<F: Future>(identity: Arc<Identity>, handler: F) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(identity, handler)
}

/// Does `work` as a part of this request.
pub(crate) fn within<T>(identity: &Arc<Identity>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(Arc::clone(identity), work)
}

/// The message of the current request names this model; of a stream's messages, the last one counts. Whether there is such a model
/// makes no difference: the log line and the span of a request tell what was asked for.
pub(crate) fn name_model(model: &str) {
    let _ = CURRENT.try_with(|identity| {
        *identity.model.lock().unwrap_or_else(PoisonError::into_inner) = Some(model.to_owned());
    });
}

/// Calls `take` with the trace id, the span id and the request id where a request's handler is being polled. For the log: a line of
/// whatever happens there says to which request it belongs.
pub fn with_current_request(take: impl FnOnce(&dyn fmt::Display, &dyn fmt::Display, &dyn fmt::Display)) {
    let _ = CURRENT.try_with(|identity| take(&identity.trace.id(), &identity.trace.span_id(), &identity.request_id));
}

/// A random number; unguessable is not needed, never twice is. SplitMix64 (Steele, Lea and Flood, 2014), from a seed of
/// its own on each thread.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    let mut mixed = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The last `DIGITS` hexadecimal digits.
fn hex<const DIGITS: usize>(number: u128) -> [u8; DIGITS] {
    std::array::from_fn(|index| b"0123456789abcdef"[(number >> (4 * (DIGITS - 1 - index))) as usize & 15])
}

/// The trace that a request belongs to, and our part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
    /// Whether the caller named the trace, and so may want to hear of our part.
    inherited: bool,
}

impl TraceContext {
    /// And the span that the parts of the request are recorded below, if it is traced. Probes never are: they come by
    /// the second and say nothing.
    pub(crate) fn of<B>(
        request: &Request<B>,
        probe: bool,
        grpc: bool,
        propagators: &[Propagator],
        tracing: Option<&dyn Tracing>,
    ) -> (Self, Option<Context>) {
        let headers = request.headers();
        let parent = propagate::parent(headers, propagators);
        let inherited = parent.and_then(|parent| parent.ids);
        let trace = inherited.map_or_else(|| u128::from(random()) << 64 | u128::from(random()), |(trace, _)| trace);
        let mut made = Self { trace, span: random(), sampled: false, inherited: inherited.is_some() };
        let Some(tracing) = tracing.filter(|_| !probe) else {
            made.sampled = parent.is_some_and(|parent| parent.sampled == Some(true));
            return (made, None);
        };
        let span = made.span;
        let context = |parent: Parent| parent.context(headers, trace, span);
        let decided = parent.filter(|parent| parent.sampled.is_some()).map(context);
        made.sampled = tracing.sampled(decided.as_ref(), TraceId::from(trace));
        if !made.sampled {
            return (made, None);
        }
        let above = parent.filter(|parent| parent.ids.is_some()).map(context);
        let recording = tracing.start(above, TraceId::from(trace), server_span(request, grpc));
        made.span = u64::from_be_bytes(recording.span().span_context().span_id().to_bytes());
        (made, Some(recording))
    }

    /// The trace's id, 32 hexadecimal digits.
    pub(crate) fn id(&self) -> impl fmt::Display + use<> {
        Hex::<32>(self.trace)
    }

    /// Our part's id, 16 hexadecimal digits.
    pub(crate) fn span_id(&self) -> impl fmt::Display + use<> {
        Hex::<16>(self.span.into())
    }

    /// `traceresponse`, where the request named its trace.
    pub(crate) fn response_header(&self) -> Option<HeaderValue> {
        let text = || format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled));
        self.inherited.then(|| HeaderValue::try_from(text()).ok()).flatten()
    }
}

struct Hex<const DIGITS: usize>(u128);

impl<const DIGITS: usize> fmt::Display for Hex<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&hex::<DIGITS>(self.0)).unwrap_or_default())
    }
}

/// The caller's name for a request, or ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// Longer names are replaced: they would fill the log.
    const MAX: usize = 128;

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&REQUEST_ID).filter(|value| {
            (1..=Self::MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
        });
        let made = || HeaderValue::from_bytes(&hex::<16>(random().into())).unwrap_or(HeaderValue::from_static("0"));
        Self(given.cloned().unwrap_or_else(made))
    }

    /// Says it in an answer.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        let mut value = self.0.clone();
        // HTTP/2 remembers header values for the next answers of a connection, except those marked so: this one never
        // comes again.
        value.set_sensitive(true);
        headers.insert(REQUEST_ID.clone(), value);
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::{SpanBuilder, SpanContext};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    /// Does as the caller says, else as it was made; remembers what it was asked.
    #[derive(Default)]
    struct Asked {
        otherwise: bool,
        started: Mutex<Vec<(Option<SpanContext>, TraceId, SpanBuilder)>>,
    }

    impl Tracing for Asked {
        fn sampled(&self, parent: Option<&SpanContext>, _: TraceId) -> bool {
            parent.map_or(self.otherwise, SpanContext::is_sampled)
        }

        fn start(&self, parent: Option<SpanContext>, trace: TraceId, span: SpanBuilder) -> Context {
            self.started.lock().expect("not poisoned").push((parent, trace, span));
            Context::new()
        }
    }

    fn of(headers: &[(&'static str, &'static str)], probe: bool, tracing: Option<&Arc<Asked>>) -> TraceContext {
        let mut request = Request::post("/v1/models/flowers:predict");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let tracing = tracing.map(|tracing| &**tracing as &dyn Tracing);
        let propagators = [Propagator::TraceContext, Propagator::B3];
        TraceContext::of(&request.body(()).expect("valid"), probe, false, &propagators, tracing).0
    }

    #[test]
    fn a_trace_is_taken_over_or_made() {
        let made = of(&[], false, None);
        assert_ne!(made.trace, of(&[], false, None).trace);
        assert_eq!(made.response_header(), None);

        let taken = of(&[("traceparent", PARENT)], false, None);
        assert_eq!(taken.id().to_string(), TRACE);
        assert_eq!(taken.span_id().to_string().len(), 16);
        let answer = taken.response_header().expect("wanted");
        let answer = answer.to_str().expect("text");
        assert!(answer.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && answer.ends_with("-01"), "{answer}");
    }

    #[test]
    fn the_caller_decides_whether_a_request_is_traced_else_the_sampler() {
        let traced = |headers: &[(&'static str, &'static str)], otherwise| {
            let asked = Arc::new(Asked { otherwise, started: Mutex::default() });
            let trace = of(headers, false, Some(&asked));
            let started = asked.started.lock().expect("not poisoned").pop();
            assert_eq!(started.is_some(), trace.sampled);
            started.map(|(parent, trace, span)| (parent.map(|parent| parent.span_id()), trace, span.name))
        };
        let (parent, trace, name) = traced(&[("traceparent", PARENT)], false).expect("the caller asks for it");
        assert_eq!(
            (parent.map(|id| id.to_string()).as_deref(), trace.to_string().as_str()),
            (Some("00f067aa0ba902b7"), TRACE)
        );
        assert_eq!(name, "POST /v1/models/{model}:predict");
        assert!(traced(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")], true).is_none());
        assert!(traced(&[("b3", "0")], true).is_none());
        let (parent, ..) = traced(&[("b3", "1")], false).expect("the caller asks for it");
        assert_eq!(parent, None, "who names no span has none");
        let undecided = ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7");
        let (parent, trace, _) = traced(&[undecided], true).expect("left to us");
        assert!(parent.is_some() && trace.to_string() == TRACE);
        assert!(traced(&[undecided], false).is_none());
        assert!(traced(&[], true).is_some_and(|(parent, ..)| parent.is_none()));
    }

    #[test]
    fn probes_are_not_traced() {
        let asked = Arc::new(Asked { otherwise: true, started: Mutex::default() });
        of(&[("traceparent", PARENT)], true, Some(&asked));
        assert!(asked.started.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn request_ids_are_echoed_when_they_are_sane() {
        let mut headers = HeaderMap::new();
        let made = RequestId::of(&headers);
        assert_eq!(made.to_string().len(), 16);
        headers.insert("x-request-id", HeaderValue::from_static("abc-1"));
        assert_eq!(RequestId::of(&headers).to_string(), "abc-1");
        headers.insert("x-request-id", HeaderValue::from_static("with space"));
        assert_ne!(RequestId::of(&headers).to_string(), "with space");
        headers.insert("x-request-id", HeaderValue::try_from("a".repeat(129)).expect("valid"));
        assert_eq!(RequestId::of(&headers).to_string().len(), 16);
    }
}
