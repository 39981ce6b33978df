//! Requests without rows, which many graphs cannot run on though their answer is known.

use corymb_core::{
    BackendError, BatchAxes, Buffer, Dim, RowAnalysis, Signature, Tensor, TensorSpec, Tensors, element_count,
    format_dims,
};

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

/// Where the answer to a request without rows has no rows either: where each row has one of its own, or where axis 0 is one
/// and the same dimension everywhere.
#[must_use]
pub fn axes_without_rows(rows: &RowAnalysis, signature: &Signature) -> Option<BatchAxes> {
    let mut name = None;
    let mut alike = |spec: &TensorSpec| match spec.shape.first() {
        Some(Dim::Symbol(symbol)) => *name.get_or_insert_with(|| symbol.clone()) == *symbol,
        // A dimension without a name may be anything: the rank, of what says shapes.
        Some(Dim::Unknown | Dim::Fixed(_)) | None => false,
    };
    let is_one = signature.required_inputs().all(&mut alike) && signature.outputs.iter().all(alike);
    rows.axes.clone().filter(|_| rows.is_proved() || is_one)
}

/// The answer to no rows, where the signature says its shapes. For models that give a row for each row along `axes`.
#[must_use]
pub fn answer_without_rows(
    signature: &Signature,
    axes: &BatchAxes,
    inputs: &Tensors,
    is_wanted: impl Fn(&TensorSpec) -> bool,
) -> Option<Tensors> {
    let mut with_rows = axes.inputs.iter().filter_map(|(name, axis)| Some((name, (*axis)?))).peekable();
    with_rows.peek()?;
    if with_rows.any(|(name, axis)| inputs.get(name).and_then(|tensor| tensor.shape().get(axis)) != Some(&0)) {
        return None;
    }
    let wanted = signature.outputs.iter().filter(|spec| is_wanted(spec));
    wanted.map(|spec| Some((spec.name.as_str(), no_rows(spec, axes.output(&spec.name)?, signature, inputs)?))).collect()
}

fn no_rows(spec: &TensorSpec, rows: usize, signature: &Signature, inputs: &Tensors) -> Option<Tensor> {
    let size_of = |symbol: &Dim| {
        signature.inputs.iter().find_map(|input| {
            let axis = input.shape.iter().position(|dim| dim == symbol)?;
            inputs.get(&input.name)?.shape().get(axis).copied()
        })
    };
    let dims = spec.shape.iter().enumerate().map(|(axis, dim)| match dim {
        _ if axis == rows => Some(0),
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

#[cfg(test)]
mod tests {
    use corymb_core::DType;

    use super::*;
    use crate::rows::by_shape;

    #[test]
    fn without_a_proof_axis_0_must_be_one_dimension_everywhere() {
        let (n, m) = (Dim::Symbol("N".into()), Dim::Symbol("M".into()));
        let specs = |shapes: &[&[Dim]]| -> Vec<TensorSpec> {
            shapes.iter().map(|shape| TensorSpec::new("x", DType::Fp32, shape.to_vec())).collect()
        };
        let known = |inputs: &[&[Dim]], outputs: &[&[Dim]]| {
            let signature = Signature { inputs: specs(inputs), outputs: specs(outputs) };
            let rows = RowAnalysis { axes: by_shape(&signature), ..RowAnalysis::default() };
            axes_without_rows(&rows, &signature).is_some()
        };
        assert!(known(&[&[n.clone(), Dim::Fixed(3)]], &[std::slice::from_ref(&n)]));
        assert!(!known(&[&[Dim::Unknown, Dim::Fixed(3)]], &[&[Dim::Unknown]]));
        assert!(!known(&[std::slice::from_ref(&n), std::slice::from_ref(&m)], &[std::slice::from_ref(&n)]));
        assert!(!known(&[std::slice::from_ref(&n)], &[&[]]));
        assert!(!known(&[std::slice::from_ref(&n)], &[&[Dim::Fixed(1)]]));
        assert!(!known(&[], &[std::slice::from_ref(&n)]));
        assert!(!known(&[std::slice::from_ref(&n)], &[std::slice::from_ref(&m)]));
    }
}
