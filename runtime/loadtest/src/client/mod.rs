//! One connection to the server under load, with one request in flight at most.

mod grpc;
mod probe;
mod rest;

use std::time::Duration;

pub use probe::{fetch, probe};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::target::Target;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 << 20;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects when it is first used, and again after it was lost. A REST and a gRPC connection are never both open in
/// one run: its calls are of one kind.
pub(crate) struct Client {
    rest: rest::Rest,
    grpc: grpc::Grpc,
}

impl Client {
    pub(crate) fn new(target: &Target) -> Self {
        Self { rest: rest::Rest::new(target), grpc: grpc::Grpc::new(target) }
    }

    /// Sends one request and reads its answer to the last byte. A future that is dropped gives up the connection.
    pub(crate) async fn send(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Rest(call) => self.rest.send(call).await,
            Call::Grpc(request) => self.grpc.send(request).await,
        }
    }
}
