//! The zoo on ONNX Runtime: no model is answered wrongly, and what is refused is refused by name.

mod place;

#[test]
fn zoo() {
    let Some(backend) = place::backend() else { return };
    corymb_tests_zoo::run(&backend);
}
