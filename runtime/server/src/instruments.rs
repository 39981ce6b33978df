//! The HTTP and RPC instruments of OpenTelemetry's semantic conventions.

use std::time::Duration;

use http::{Method, Version};
use opentelemetry::metrics::{Histogram, UpDownCounter};
use opentelemetry::{KeyValue, StringValue, global};

/// Seconds, from 100 µs to 30 s: the conventions' own begin at 5 ms, which hides a fast model.
const BUCKETS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Records into whatever meter provider the process has set.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    duration: Histogram<f64>,
    calls: Histogram<f64>,
    active: UpDownCounter<i64>,
}

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
        }
    }

    pub(crate) fn begin(&self, method: &Method) {
        self.active.add(1, &active(method));
    }

    pub(crate) fn end(&self, method: &Method, version: Version, status: u16, took: Duration) {
        self.active.add(-1, &active(method));
        let attributes = [
            KeyValue::new("http.request.method", known(method)),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("network.protocol.version", if version < Version::HTTP_2 { "1.1" } else { "2" }),
            KeyValue::new("url.scheme", "http"),
        ];
        self.duration.record(took.as_secs_f64(), &attributes);
    }

    /// A call of a gRPC method by its path; `code` is none when the caller went away.
    pub(crate) fn call(&self, path: &str, code: Option<usize>, took: Duration) {
        // A method that does not exist must not make a series of its own; whether it does is not known of a call whose
        // caller left first.
        let unknown = code.is_none_or(|code| code == tonic::Code::Unimplemented as usize);
        let method = if unknown { "_OTHER".to_owned() } else { path.trim_start_matches('/').to_owned() };
        let code = code.and_then(|code| CODES.get(code)).copied().unwrap_or("CANCELLED");
        let attributes = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", code),
        ];
        self.calls.record(took.as_secs_f64(), &attributes);
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

fn active(method: &Method) -> [KeyValue; 2] {
    [KeyValue::new("http.request.method", known(method)), KeyValue::new("url.scheme", "http")]
}

/// The conventions' word: methods that are not known must not multiply the series.
fn known(method: &Method) -> StringValue {
    let word = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    };
    word.into()
}
