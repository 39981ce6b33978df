//! The shared conformance suite on tract, with what tract lacks by name.

use std::path::Path;

use corymb_backend_tract::Tract;

#[test]
fn conformance() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models");
    corymb_core::conformance::run(
        &Tract::default(),
        &fixtures,
        &[
            ("identity BF16", "tract's ONNX reader does not know bfloat16"),
            ("identity BYTES", "tract has no operators on text"),
        ],
    );
}
