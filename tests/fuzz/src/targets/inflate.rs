//! Compressed bodies: each step is bounded, and small steps give what large ones do.

use bytes::Bytes;
use corymb_wire::{Coding, Inflater};

use crate::input::Input;

/// Bytes of output to look at, so that a bomb costs little.
const MOST: usize = 64 * 1024;

/// A byte for the coding, a byte for the step, the compressed bytes.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let coding = if input.byte().is_multiple_of(2) { Coding::Gzip } else { Coding::Deflate };
    assert_eq!(Coding::from_name(&coding.name().to_uppercase()), Some(coding));
    let step = (usize::from(input.byte()) + 1) * 16;
    let compressed = input.body();
    let (small, small_ended) = inflated(coding, &compressed, step);
    let (large, large_ended) = inflated(coding, &compressed, MOST);
    let common = small.len().min(large.len());
    assert!(small[..common] == large[..common], "steps of {step} bytes give other bytes");
    // How much comes before a fault is found depends on the step; whether one is found does not.
    if small.len() < MOST && large.len() < MOST {
        assert_eq!(small_ended, large_ended, "steps of {step} bytes end otherwise");
        assert!(!small_ended || small.len() == large.len(), "steps of {step} bytes give fewer bytes");
    }
}

/// The output, at most about [`MOST`] bytes of it, and whether it ended well.
pub(crate) fn inflated(coding: Coding, compressed: &Bytes, step: usize) -> (Bytes, bool) {
    let mut inflater = Inflater::new(coding, compressed.clone());
    assert!(inflater.is_empty());
    let ended = loop {
        let before = inflater.len();
        match inflater.step(step) {
            Ok(grown) => {
                assert!(grown <= step, "a step of {step} bytes gave {grown}");
                assert_eq!(inflater.len(), before + grown);
                if grown < step {
                    break true;
                }
            }
            Err(_) => {
                assert!(inflater.len() <= before + step, "a step that failed gave more than {step} bytes");
                break false;
            }
        }
        if inflater.len() >= MOST {
            break true;
        }
    };
    (inflater.into_output(), ended)
}
