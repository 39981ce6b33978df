//! Requests without rows, which many graphs cannot run on though their answer is known.

use corymb_core::{BackendError, Buffer, Dim, Signature, Tensor, TensorSpec, Tensors, element_count, format_dims};

/// What the dimensions of a tensor without elements may multiply to, zeros left out. The outputs may have elements: a
/// sum over an axis of size 0 has as many as the other axes say, and a request of a few bytes would name any number.
const MAX_EMPTY: usize = 1 << 24;

/// Checks that a tensor without elements names no absurd dimensions.
///
/// # Errors
/// [`BackendError::InvalidInput`].
pub fn check_empty((name, tensor): (&str, &Tensor)) -> Result<(), BackendError> {
    let claimed = || tensor.shape().iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim.max(1)));
    if tensor.is_empty() && claimed().is_none_or(|product| product > MAX_EMPTY) {
        let shape = format_dims(tensor.shape());
        return Err(BackendError::InvalidInput(format!(
            "input '{name}' has shape {shape}: no elements, but dimensions that multiply to more than {MAX_EMPTY}"
        )));
    }
    Ok(())
}

/// The answer to no rows, where the signature says its shapes. For models whose axis 0 is a batch.
#[must_use]
pub fn answer_without_rows(
    signature: &Signature,
    inputs: &Tensors,
    is_wanted: impl Fn(&TensorSpec) -> bool,
) -> Option<Tensors> {
    if inputs.is_empty() || inputs.iter().any(|(_, tensor)| tensor.rows() != Some(0)) {
        return None;
    }
    let wanted = signature.outputs.iter().filter(|spec| is_wanted(spec));
    wanted.map(|spec| Some((spec.name.as_str(), no_rows(spec, signature, inputs)?))).collect()
}

fn no_rows(spec: &TensorSpec, signature: &Signature, inputs: &Tensors) -> Option<Tensor> {
    let size_of = |symbol: &Dim| {
        signature.inputs.iter().find_map(|input| {
            let axis = input.shape.iter().position(|dim| dim == symbol)?;
            inputs.get(&input.name)?.shape().get(axis).copied()
        })
    };
    let dims = spec.shape.iter().enumerate().map(|(axis, dim)| match dim {
        _ if axis == 0 => Some(0),
        Dim::Fixed(size) => Some(*size),
        Dim::Symbol(_) => size_of(dim),
        Dim::Unknown => None,
    });
    let shape = dims.collect::<Option<Vec<_>>>()?;
    element_count(&shape).ok()?;
    if spec.dtype.size().is_none() {
        return Tensor::from_elements(shape, Vec::new()).ok();
    }
    Tensor::from_buffer(spec.dtype, shape, Buffer::default()).ok()
}
