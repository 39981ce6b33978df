//! gRPC on an HTTP/2 connection of its own.

use corymb_proto::inference::ModelInferRequest;
use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

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
            None => self.connect().await.ok_or(Failure::Connect)?,
        };
        let answer = client.model_infer(request.clone()).await;
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
                Code::Unknown | Code::Unavailable if std::error::Error::source(&status).is_some() => Failure::Lost,
                code => Failure::Grpc(code),
            }),
        }
    }

    /// As [`send`](Self::send), with the server's own words.
    pub(super) async fn ask(&mut self, request: &ModelInferRequest) -> Result<(), String> {
        let mut client = self.connect().await.ok_or_else(|| Failure::Connect.to_string())?;
        match client.model_infer(request.clone()).await {
            Ok(_) => Ok(()),
            Err(status) => Err(format!("gRPC {:?}: {}", status.code(), status.message())),
        }
    }

    async fn connect(&self) -> Option<GrpcInferenceServiceClient<Channel>> {
        let endpoint = Endpoint::from_shared(self.target.to_string()).ok()?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect()
            .await
            .ok()?;
        Some(GrpcInferenceServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }
}
