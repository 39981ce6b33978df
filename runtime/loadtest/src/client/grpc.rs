//! gRPC on an HTTP/2 connection of its own.

use std::error::Error;

use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use http::Uri;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Extensions, Request};

use super::{CONNECT_TIMEOUT, MAX_ANSWER};
use crate::outcome::{Failure, Outcome};
use crate::target::Target;

/// Larger than HTTP/2's default of 64 KiB, so that a picture needs no second round trip.
const WINDOW: u32 = 4 << 20;

pub(super) struct Grpc {
    target: Target,
    client: Option<GrpcInferenceServiceClient<Channel>>,
}

impl Grpc {
    pub(super) fn new(target: &Target) -> Self {
        Self { target: target.clone(), client: None }
    }

    pub(super) async fn send(&mut self, request: &ModelInferRequest) -> Outcome {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await.map_err(|_| Failure::Connect)?,
        };
        let answer = client.model_infer(self.request(request)).await;
        // The channel connects again by itself.
        self.client = Some(client);
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let raw = answer.raw_output_contents.iter().map(|bytes| bytes.len()).sum::<usize>();
                Ok(raw as u64)
            }
            Err(status) => Err(match status.code() {
                // What tonic says when the transport broke; a server's own `Unknown` has no source.
                Code::Unknown | Code::Unavailable if Error::source(&status).is_some() => Failure::Lost,
                code => Failure::Grpc(code),
            }),
        }
    }

    /// As [`send`](Self::send), with the server's own words.
    pub(super) async fn ask(&mut self, request: &ModelInferRequest) -> Result<(), String> {
        let mut client = self.connect().await.map_err(|words| format!("{}: {words}", Failure::Connect))?;
        match client.model_infer(self.request(request)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(format!("gRPC {:?}: {}", status.code(), status.message())),
        }
    }

    /// With the headers that every request has, as metadata.
    fn request(&self, request: &ModelInferRequest) -> Request<ModelInferRequest> {
        let metadata = MetadataMap::from_headers(self.target.headers().clone());
        Request::from_parts(metadata, Extensions::default(), request.clone())
    }

    async fn connect(&self) -> Result<GrpcInferenceServiceClient<Channel>, String> {
        let in_words = |error: &dyn Error| {
            let mut words = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                words.push_str(&format!(": {error}"));
                cause = error.source();
            }
            words
        };
        let mut endpoint = Endpoint::from_shared(self.target.to_string())
            .map_err(|error| in_words(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let scheme = if self.target.is_tls() { "https" } else { "http" };
        let origin = format!("{scheme}://{}", self.target.named()).parse::<Uri>().map_err(|error| in_words(&error))?;
        endpoint = endpoint.origin(origin);
        if self.target.is_tls() {
            let tls = ClientTlsConfig::new().with_enabled_roots().domain_name(self.target.certified());
            let roots = self.target.roots();
            let tls = if roots.is_empty() { tls } else { tls.ca_certificate(Certificate::from_pem(roots)) };
            endpoint = endpoint.tls_config(tls).map_err(|error| in_words(&error))?;
        }
        let channel = endpoint.connect().await.map_err(|error| in_words(&error))?;
        Ok(GrpcInferenceServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }
}
