//! The contract's `inference`: a plugin asks other models of the same server, and holds no thread while it waits.

use std::sync::Arc;

use corymb_core::{Code, Request};
use futures::future::join_all;

use crate::bindings::inference::{Call, Host};
use crate::bindings::{Error, ErrorCode, Model, NamedTensor, code_to, model_to, refusal};
use crate::limits::{MAX_MESSAGE, Stop, cut};
use crate::state::State;

/// Calls that one `infer-all` may make.
const MAX_CALLS: usize = 64;

impl Host for State {
    async fn describe(&mut self, model: String, version: Option<String>) -> wasmtime::Result<Result<Model, Error>> {
        if let Err(error) = self.may_infer(1) {
            return Ok(Err(error));
        }
        let described = self.identity.models.describe(&model, version.as_deref());
        match described {
            Ok(served) => Ok(Ok(model_to(&served.name, &served.version, &served.signature))),
            Err(error) => Ok(Err(failed(error)?)),
        }
    }

    async fn infer(&mut self, call: Call) -> wasmtime::Result<Result<Vec<NamedTensor>, Error>> {
        let mut answers = self.infer_all(vec![call]).await?;
        Ok(answers.pop().unwrap_or_else(|| Err(refusal(ErrorCode::Internal, "the call was not answered"))))
    }

    async fn infer_all(&mut self, calls: Vec<Call>) -> wasmtime::Result<Vec<Result<Vec<NamedTensor>, Error>>> {
        self.call.check()?;
        let allowed = self.may_infer(calls.len());
        // Handles are taken over in any case: the guest has given them up.
        let requests = calls.into_iter().map(|call| self.request(call)).collect::<wasmtime::Result<Vec<_>>>()?;
        if let Err(error) = allowed {
            return Ok(requests.iter().map(|_| Err(error.clone())).collect());
        }
        let models = Arc::clone(&self.identity.models);
        let answers = join_all(requests.into_iter().map(|request| models.infer(request))).await;
        self.call.check()?;
        let mut given = Vec::with_capacity(answers.len());
        for answer in answers {
            given.push(match answer {
                Ok(response) => match self.charge(response.outputs.byte_len()) {
                    Ok(()) => Ok(self.push_all(response.outputs)?),
                    Err(error) => Err(error),
                },
                Err(error) => Err(failed(error)?),
            });
        }
        Ok(given)
    }
}

impl State {
    fn may_infer(&self, calls: usize) -> Result<(), Error> {
        if self.configuring {
            let message = "`configure` must answer the same for the same arguments, so it cannot ask other models";
            return Err(refusal(ErrorCode::Unavailable, message));
        }
        if calls > MAX_CALLS {
            let message = format!("{calls} calls at once; at most {MAX_CALLS} are allowed");
            return Err(refusal(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    /// The other model has until this call's end, so that no timer is needed here. Its request is cancelled by dropping
    /// its future, as this one's is, not by this one's flag. How deep models may call each other is the engine's to say.
    fn request(&mut self, call: Call) -> wasmtime::Result<Request> {
        Ok(Request {
            model: call.model,
            version: call.version,
            inputs: self.take_all(call.inputs)?,
            deadline: Some(self.call.until),
            depth: self.call.depth.saturating_add(1),
            ..Request::default()
        })
    }
}

/// The guest is told of every failure but that nobody waits any more, which ends it.
fn failed(error: corymb_core::Error) -> Result<Error, Stop> {
    if error.code == Code::Cancelled {
        return Err(Stop::Cancelled);
    }
    let details = error.details.map(|details| cut(details, MAX_MESSAGE));
    Ok(Error { code: code_to(error.code), message: error.message, details })
}
