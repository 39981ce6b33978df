//! The HTTP and RPC instruments of OpenTelemetry's semantic conventions.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode, Version};
use opentelemetry::metrics::{BoundHistogram, BoundUpDownCounter, Histogram, UpDownCounter};
use opentelemetry::{KeyValue, global};

/// Seconds, from 100 µs to 30 s: the conventions' own begin at 5 ms, which hides a fast model.
const BUCKETS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Records into whatever meter provider the process has set.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    duration: Histogram<f64>,
    calls: Histogram<f64>,
    active: UpDownCounter<i64>,
    bound: Arc<Bound>,
}

/// The series of nearly all requests, made when they are first needed: found without hashing any attributes.
#[derive(Debug, Default)]
struct Bound {
    active: [OnceLock<BoundUpDownCounter<i64>>; METHODS.len()],
    /// Of answers with 200: HTTP/1.1 and HTTP/2.
    ok: [[OnceLock<BoundHistogram<f64>>; 2]; METHODS.len()],
    /// Of [`INFER`] with OK.
    infer: OnceLock<BoundHistogram<f64>>,
}

/// The gRPC method that is called most.
const INFER: &str = "inference.GRPCInferenceService/ModelInfer";

impl Instruments {
    pub(crate) fn new() -> Self {
        let meter = global::meter("corymb");
        Self {
            duration: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_description("From a request's headers to the last byte of its answer.")
                .with_boundaries(BUCKETS.to_vec())
                .build(),
            calls: meter
                .f64_histogram("rpc.server.call.duration")
                .with_unit("s")
                .with_description("From a gRPC call's headers to the last byte of its answer.")
                .with_boundaries(BUCKETS.to_vec())
                .build(),
            active: meter
                .i64_up_down_counter("http.server.active_requests")
                .with_unit("{request}")
                .with_description("Requests that are not yet answered to their last byte.")
                .build(),
            bound: Arc::default(),
        }
    }

    pub(crate) fn begin(&self, method: &Method) {
        self.add(known(method), 1);
    }

    pub(crate) fn end(&self, method: &Method, version: Version, status: u16, took: Duration) {
        let method = known(method);
        self.add(method, -1);
        let http2 = version >= Version::HTTP_2;
        let attributes = || {
            [
                KeyValue::new("http.request.method", METHODS[method]),
                KeyValue::new("http.response.status_code", i64::from(status)),
                KeyValue::new("network.protocol.version", if http2 { "2" } else { "1.1" }),
                KeyValue::new("url.scheme", "http"),
            ]
        };
        if status == StatusCode::OK {
            let ok = &self.bound.ok[method][usize::from(http2)];
            ok.get_or_init(|| self.duration.bind(&attributes())).record(took.as_secs_f64());
        } else {
            self.duration.record(took.as_secs_f64(), &attributes());
        }
    }

    fn add(&self, method: usize, change: i64) {
        let attributes =
            || [KeyValue::new("http.request.method", METHODS[method]), KeyValue::new("url.scheme", "http")];
        self.bound.active[method].get_or_init(|| self.active.bind(&attributes())).add(change);
    }

    /// A call of a gRPC method by its path; `code` is none when the caller went away.
    pub(crate) fn call(&self, path: &str, code: Option<usize>, took: Duration) {
        let attributes = |method: String, code: &'static str| {
            [
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", method),
                KeyValue::new("rpc.response.status_code", code),
            ]
        };
        let method = path.trim_start_matches('/');
        if method == INFER && code == Some(tonic::Code::Ok as usize) {
            let infer = self.bound.infer.get_or_init(|| self.calls.bind(&attributes(INFER.to_owned(), "OK")));
            return infer.record(took.as_secs_f64());
        }
        // A method that does not exist must not make a series of its own; whether it does is not known of a call whose
        // caller left first.
        let unknown = code.is_none_or(|code| code == tonic::Code::Unimplemented as usize);
        let method = if unknown { "_OTHER" } else { method };
        let code = rpc_code(code);
        self.calls.record(took.as_secs_f64(), &attributes(method.to_owned(), code));
    }
}

/// gRPC's names of its codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// gRPC's name of a code. A call without one was left by its caller.
pub(crate) fn rpc_code(code: Option<usize>) -> &'static str {
    code.and_then(|code| CODES.get(code)).copied().unwrap_or("CANCELLED")
}

/// The conventions' word for a method.
pub(crate) fn method_word(method: &Method) -> &'static str {
    METHODS[known(method)]
}

/// The conventions' words for methods; the last is for all others, which must not multiply the series.
const METHODS: [&str; 10] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE", "_OTHER"];

/// The place of a method's word in [`METHODS`].
fn known(method: &Method) -> usize {
    let given = method.as_str();
    METHODS.iter().position(|word| *word == given).unwrap_or(METHODS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_share_one_word() {
        assert_eq!(METHODS[known(&Method::POST)], "POST");
        let invented = Method::from_bytes(b"BREW").expect("a token");
        assert_eq!(METHODS[known(&invented)], "_OTHER");
    }
}
