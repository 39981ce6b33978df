//! The runner as `run.sh` calls it.

use std::process::Command;

#[test]
fn without_cases_it_says_how_it_is_called() {
    let output = Command::new(env!("CARGO_BIN_EXE_corymb-tests-operators")).output().expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: corymb-tests-operators CASES TABLE"));
}
