//! The zoo on tract: no model is answered wrongly, and what is refused is refused by name.

use corymb_backend_tract::Tract;

#[test]
fn zoo() {
    corymb_tests_zoo::run(&Tract::default());
}
