//! The shared conformance suite on ONNX Runtime.

mod place;

#[test]
fn conformance() {
    let Some(backend) = place::backend() else { return };
    corymb_core::conformance::run(&backend, &place::fixtures(), &[]);
}
