//! Exporters that push by OTLP: gRPC, or HTTP through the client that the other commands use.

use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _,
};

use super::delivery::Cause;
use crate::config::telemetry::{Push, Transport};

/// A collector's answer says little; a longer one is not from a collector.
const MAX_ANSWER: u64 = 4 << 20;

/// Builds an exporter of the kind that is wanted; everything that is not given here it reads from its variables.
macro_rules! exporter {
    ($builder:expr, $push:expr, $cause:expr) => {{
        let push: Push = $push;
        match push.transport {
            // Without a scheme of https no TLS is spoken, whatever is configured for it.
            Transport::Grpc => $builder
                .with_tonic()
                .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
                .with_timeout(push.timeout)
                .build(),
            Transport::Http => $builder
                .with_http()
                .with_http_client(Client::new(&push, $cause))
                .with_protocol(Protocol::HttpBinary)
                .with_timeout(push.timeout)
                .build(),
        }
    }};
}

pub(super) fn spans(push: Push, cause: Cause) -> Result<SpanExporter, ExporterBuildError> {
    exporter!(SpanExporter::builder(), push, cause)
}

pub(super) fn metrics(push: Push, cause: Cause) -> Result<MetricExporter, ExporterBuildError> {
    exporter!(MetricExporter::builder(), push, cause)
}

pub(super) fn logs(push: Push, cause: Cause) -> Result<LogExporter, ExporterBuildError> {
    exporter!(LogExporter::builder(), push, cause)
}

/// Blocks, which is as it should be: the SDK calls it on threads that do nothing else.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    cause: Cause,
}

impl Client {
    fn new(push: &Push, cause: Cause) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(push.timeout));
        Self { agent: config.max_redirects(0).build().into(), cause }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(parts, &body[..]))?;
        let (parts, body) = answer.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().take(MAX_ANSWER).read_to_end(&mut bytes)?;
        Ok(Response::from_parts(parts, bytes.into()))
    }
}

impl HttpClient for Client {
    // What `async_trait` would write, for one method.
    fn send_bytes<'client, 'answer>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'answer>>
    where
        'client: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            let answer = self.send(request);
            self.cause.set(answer.as_ref().err().map(ToString::to_string));
            answer
        })
    }
}
