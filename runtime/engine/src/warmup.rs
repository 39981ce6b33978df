//! Runs through a version before anybody waits for it.

use std::sync::Arc;

use corymb_core::{Request, Response, Tensors};
use corymb_repository::Sample;
use futures::future::join_all;

use crate::error::{EngineError, LoadError};
use crate::infer;
use crate::sample;
use crate::shared::Shared;
use crate::version::Version;

/// Runs the samples once on each instance, at the same time so that each gets its share. Without samples zeros are
/// tried, and what they bring is not held against the model: zeros may be no valid input.
pub(crate) async fn warm_up(
    shared: &Arc<Shared>,
    version: &Arc<Version>,
    samples: &[Sample],
    instances: usize,
) -> Result<(), LoadError> {
    let (inputs, required) = match samples {
        [] => match sample::row_of(&version.signature) {
            Some(inputs) => (inputs, None),
            None => return Ok(()),
        },
        samples => {
            let names = samples.iter().map(|sample| sample.file.name()).collect::<Vec<_>>().join(", ");
            let tensors = samples.iter().map(|sample| Ok((sample.input.clone(), sample.tensor()?)));
            let tensors = tensors.collect::<Result<Tensors, corymb_repository::RepositoryError>>();
            let inputs = tensors.map_err(|error| {
                let reason = error.to_string();
                // It begins with the name of the one at fault.
                let reason = reason.strip_prefix(&format!("{names}: ")).map_or(reason.clone(), str::to_owned);
                LoadError::WarmUp { sample: names.clone(), reason }
            })?;
            (inputs, Some(names))
        }
    };
    let request = || Request { model: version.model.clone(), inputs: inputs.clone(), ..Request::default() };
    let runs = (0..instances.max(1)).map(|_| infer::infer(shared, version, request()));
    // All are waited for, also when one fails: what runs on would be taken for a request's.
    let ran: Result<Vec<Response>, EngineError> = join_all(runs).await.into_iter().collect();
    match (ran, required) {
        (Ok(_), _) => Ok(()),
        (Err(error), None) => {
            tracing::debug!(model = version.model, %error, "warm-up with zeros failed");
            Ok(())
        }
        (Err(error), Some(sample)) => {
            let details = error.details().map(|details| format!(" ({details})")).unwrap_or_default();
            Err(LoadError::WarmUp { sample, reason: format!("{error}{details}") })
        }
    }
}
