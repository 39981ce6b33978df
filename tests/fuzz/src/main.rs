//! libFuzzer's entry: runs the target that the environment variable `CORYMB_FUZZ` names.
#![no_main]

use std::sync::LazyLock;

use corymb_tests_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("CORYMB_FUZZ").unwrap_or_default();
    let target = TARGETS.iter().find(|(name, _)| *name == wanted);
    let names = TARGETS.map(|(name, _)| name).join(", ");
    target.unwrap_or_else(|| panic!("CORYMB_FUZZ is '{wanted}'; expected one of {names}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (*TARGET)(data);
});
