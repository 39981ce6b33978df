//! One request to one model, from its name being known to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corymb_core::{Code, Request, Response, Signature};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanBuilder;

use crate::accounting::InFlight;
use crate::error::EngineError;
use crate::infer;
use crate::pool::Stage;
use crate::shared::Shared;
use crate::signals::Protocol;
use crate::spans::{self, Spans};
use crate::version::Version;

/// A request that has found its model. It counts in the model's concurrency until it ends; ended without
/// [`Call::finish`] it was cancelled.
#[derive(Debug)]
pub struct Call {
    shared: Arc<Shared>,
    version: Arc<Version>,
    protocol: Protocol,
    begin: Instant,
    outcome: Option<Result<(), Code>>,
    _in_flight: InFlight,
}

impl Call {
    pub(crate) fn new(shared: Arc<Shared>, version: Arc<Version>, in_flight: InFlight, protocol: Protocol) -> Self {
        Self { shared, version, protocol, begin: Instant::now(), outcome: None, _in_flight: in_flight }
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.version.model
    }

    /// The version that answers.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version.version
    }

    /// What the request must fit: the plugin's signature where there is a plugin, else the model's.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.version.signature
    }

    /// Lower-case names of the request headers that become parameters.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        &self.version.headers
    }

    /// Checks the request against the signature and answers it. Dropping the future cancels the request.
    ///
    /// # Errors
    /// Whatever went wrong, in the caller's terms.
    pub async fn infer(&self, request: Request) -> Result<Response, EngineError> {
        // From here: how long a caller takes to send its body is not the model's doing.
        let begin = Instant::now();
        let result =
            spans::as_span(|| predict_span(&self.version), || infer::infer(&self.shared, &self.version, request)).await;
        if result.is_ok() {
            self.version.capacity.answered(begin.elapsed());
        }
        result
    }

    /// Records the time of a stage that the engine does not see: decoding and encoding.
    pub fn record(&self, stage: Stage, time: Duration) {
        self.version.signals.stage(stage, time);
        Spans::current().ended(stage, time);
    }

    /// Ends the call.
    pub fn finish(mut self, outcome: Result<(), Code>) {
        self.outcome = Some(outcome);
    }
}

/// The span of a model's whole answer.
fn predict_span(version: &Version) -> SpanBuilder {
    SpanBuilder::from_name("predict").with_attributes([
        KeyValue::new("model", version.model.clone()),
        KeyValue::new("version", version.version.clone()),
        KeyValue::new("backend", version.backend),
        KeyValue::new("device", version.device.clone()),
    ])
}

impl Drop for Call {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(Err(Code::Cancelled));
        self.version.signals.request(self.protocol, outcome, self.begin.elapsed());
    }
}
