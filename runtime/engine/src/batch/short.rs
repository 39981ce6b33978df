//! Requests whose runs were short. Where shapes bound the cost of a run, that of a request which is nowhere larger is short, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use corymb_core::Tensors;

/// Requests that are kept. None of them is larger than another in every respect.
const KEPT: usize = 4;

/// Shapes, and bytes of text, of requests whose runs were short.
#[derive(Debug, Default)]
pub(super) struct ShortRuns(Mutex<Vec<Extent>>);

/// How large a request is: the shape and the bytes of each input, in their order.
#[derive(Debug, PartialEq, Eq)]
struct Extent(Vec<(Vec<usize>, usize)>);

impl Extent {
    fn of(inputs: &Tensors) -> Self {
        Self(inputs.iter().map(|(_, tensor)| (tensor.shape().to_vec(), tensor.byte_len())).collect())
    }

    /// Whether these inputs are nowhere larger.
    fn covers(&self, inputs: &Tensors) -> bool {
        let Self(known) = self;
        known.len() == inputs.len()
            && known.iter().zip(inputs.iter()).all(|((shape, bytes), (_, tensor))| {
                shape.len() == tensor.shape().len()
                    && shape.iter().zip(tensor.shape()).all(|(known, size)| size <= known)
                    && tensor.byte_len() <= *bytes
            })
    }
}

impl ShortRuns {
    /// A run of these inputs was short.
    pub(super) fn note(&self, inputs: &Tensors) {
        let mut known = self.lock();
        if known.iter().any(|extent| extent.covers(inputs)) {
            return;
        }
        if known.len() == KEPT {
            known.remove(0);
        }
        known.push(Extent::of(inputs));
    }

    /// Whether a run of these inputs is known to be short.
    pub(super) fn holds(&self, inputs: &Tensors) -> bool {
        self.lock().iter().any(|extent| extent.covers(inputs))
    }

    /// Nothing is half written when a panic passes.
    fn lock(&self) -> MutexGuard<'_, Vec<Extent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use corymb_core::{DType, Tensor};

    use super::*;

    fn request(rows: usize, columns: usize) -> Tensors {
        let bytes = vec![0_u8; rows * columns];
        let tensor = Tensor::new(DType::Uint8, vec![rows, columns], bytes.into()).expect("a tensor");
        [("x", tensor)].into_iter().collect()
    }

    #[test]
    fn what_is_nowhere_larger_is_known() {
        let short = ShortRuns::default();
        assert!(!short.holds(&request(1, 1)));
        short.note(&request(2, 8));
        short.note(&request(8, 2));
        for (rows, columns, known) in [(2, 8, true), (1, 8, true), (8, 1, true), (3, 8, false), (8, 8, false)] {
            assert_eq!(short.holds(&request(rows, columns)), known, "{rows} x {columns}");
        }
        assert!(!short.holds(&Tensors::default()));
        for rows in 10..10 + KEPT {
            short.note(&request(rows, 1));
        }
        assert!(!short.holds(&request(2, 8)), "others came since");
    }
}
