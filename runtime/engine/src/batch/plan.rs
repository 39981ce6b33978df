//! The decision how a request's rows are divided over runs: pure, so that it can be tested without threads.

use corymb_core::{Profile, Tensors};

/// How many runs a request makes: none where it runs whole, else one per row.
///
/// A backend whose batches do not pay is fed single rows, which run in parallel on its instances. Inputs without rows, or
/// of different numbers of rows, are one run: the backend knows what they mean.
pub(super) fn rows_apart(profile: &Profile, inputs: &Tensors) -> Option<usize> {
    if !profile.batch_axis || profile.batches_pay {
        return None;
    }
    let mut rows = inputs.iter().map(|(_, tensor)| tensor.rows());
    let first = rows.next().flatten()?;
    (first > 1 && rows.all(|other| other == Some(first))).then_some(first)
}

#[cfg(test)]
mod tests {
    use corymb_core::Tensor;

    use super::*;

    fn inputs(shapes: &[&[usize]]) -> Tensors {
        let zeros = |shape: &[usize]| Tensor::from_slice(shape, &vec![0_u8; shape.iter().product()]).expect("valid");
        shapes.iter().enumerate().map(|(index, shape)| (format!("x{index}"), zeros(shape))).collect()
    }

    #[test]
    fn only_rows_that_may_and_should_be_apart_are() {
        let apart = |batch_axis, batches_pay, shapes: &[&[usize]]| {
            let profile = Profile { batch_axis, batches_pay, batch_sizes: vec![1], max_threads: 1 };
            rows_apart(&profile, &inputs(shapes))
        };
        assert_eq!(apart(true, false, &[&[3, 2], &[3]]), Some(3));
        assert_eq!(apart(true, false, &[&[1, 2]]), None);
        assert_eq!(apart(true, false, &[&[0, 2]]), None);
        assert_eq!(apart(true, false, &[&[3, 2], &[2]]), None);
        assert_eq!(apart(true, false, &[&[3, 2], &[]]), None);
        assert_eq!(apart(true, false, &[]), None);
        assert_eq!(apart(true, true, &[&[3, 2]]), None);
        assert_eq!(apart(false, false, &[&[3, 2]]), None);
    }
}
