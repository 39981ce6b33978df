//! Runs through a version before anybody waits for it.

use std::sync::Arc;

use corymb_core::{Buffer, DType, Dim, Request, Signature, Tensor, Tensors};
use corymb_repository::Sample;
use futures::future::try_join_all;

use crate::error::LoadError;
use crate::infer;
use crate::shared::Shared;
use crate::version::Version;

/// Bytes of zeros that a model without samples is tried with at most.
const MAX_ZEROS: usize = 64 << 20;

/// Runs the samples once on each instance, at the same time so that each gets its share. Without samples zeros are
/// tried, and what they bring is not held against the model: zeros may be no valid input.
pub(crate) async fn warm_up(
    shared: &Arc<Shared>,
    version: &Arc<Version>,
    samples: &[Sample],
    instances: usize,
) -> Result<(), LoadError> {
    let (inputs, required) = match samples {
        [] => match zeros(&version.signature) {
            Some(inputs) => (inputs, None),
            None => return Ok(()),
        },
        samples => {
            let names = samples.iter().map(|sample| sample.file.name()).collect::<Vec<_>>().join(", ");
            let tensors = samples.iter().map(|sample| Ok((sample.input.clone(), sample.tensor()?)));
            let tensors = tensors.collect::<Result<Tensors, corymb_repository::RepositoryError>>();
            let inputs =
                tensors.map_err(|error| LoadError::WarmUp { sample: names.clone(), reason: error.to_string() })?;
            (inputs, Some(names))
        }
    };
    let request = || Request { model: version.model.clone(), inputs: inputs.clone(), ..Request::default() };
    let runs = (0..instances.max(1)).map(|_| infer::infer(shared, version, request()));
    match (try_join_all(runs).await, required) {
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

/// Zeros for every required input, each open dimension 1; none where an input is BYTES or the zeros would be large.
fn zeros(signature: &Signature) -> Option<Tensors> {
    let mut total = 0_usize;
    signature
        .required_inputs()
        .map(|spec| {
            let shape: Vec<usize> = spec.shape.iter().map(|dim| Dim::fixed(dim).unwrap_or(1)).collect();
            let size = DType::size(spec.dtype)?;
            let bytes = shape.iter().try_fold(size, |product, dim| product.checked_mul(*dim))?;
            total = total.checked_add(bytes).filter(|total| *total <= MAX_ZEROS)?;
            Some((spec.name.clone(), Tensor::from_buffer(spec.dtype, shape, Buffer::zeroed(bytes)).ok()?))
        })
        .collect()
}
