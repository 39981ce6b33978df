//! Against a library that answers as NVIDIA's would, since few machines that run the tests have a GPU.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use corymb_hardware::Nvidia;

const PATIENT: Duration = Duration::from_secs(60);

/// Compiles `fake_nvml.c` for a case; building the project needs a C compiler anyway.
fn library(case: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("libnvidia-ml.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_nvml.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&path).arg(format!("-D{case}")).arg(source).status();
    assert!(compiled.expect("a C compiler").success());
    (folder, path)
}

#[test]
fn two_gpus_one_of_them_divided() {
    let (_folder, path) = library("WORKS");
    let nvidia = Nvidia::read(path.as_os_str(), PATIENT).expect("it answers");
    assert_eq!((nvidia.driver.as_str(), nvidia.cuda.as_deref()), ("580.65.06", Some("13.0")));
    assert_eq!(nvidia.gpus.len(), 3);
    let whole = &nvidia.gpus[0];
    assert_eq!((whole.name.as_str(), whole.uuid.as_deref()), ("Fake H100", Some("GPU-0")));
    assert_eq!((whole.memory_total_bytes, whole.memory_free_bytes), (Some(80 << 30), Some(79 << 30)));
    assert_eq!(whole.compute_capability.as_deref(), Some("9.0"));
    let mig = whole.mig.as_ref().expect("divisible");
    assert!(!mig.enabled && mig.instances.is_empty());
    let divided = nvidia.gpus[1].mig.as_ref().expect("divisible");
    let parts: Vec<_> = divided.instances.iter().map(|part| (part.name.as_str(), part.memory_total_bytes)).collect();
    assert_eq!((divided.enabled, parts), (true, vec![("Fake MIG", Some(80 << 30)), ("Fake MIG", Some(80 << 30))]));
    assert_eq!(nvidia.gpus[2].fault.as_deref(), Some("device fell off the bus or has otherwise become inacessible"));
}

#[test]
fn drivers_in_trouble() {
    for (case, expected) in [
        ("MISMATCH", "are of different versions"),
        ("NOT_LOADED", "the kernel has no NVIDIA driver loaded"),
        ("EMPTY", "function symbol failed to load"),
    ] {
        let (_folder, path) = library(case);
        let reason = Nvidia::read(path.as_os_str(), PATIENT).expect_err(case);
        assert!(reason.contains(expected), "{case}: {reason}");
    }
}

#[test]
fn a_driver_that_never_answers_is_left_alone() {
    let (_folder, path) = library("HANGS");
    let reason = Nvidia::read(path.as_os_str(), Duration::from_millis(50)).expect_err("it sleeps for an hour");
    assert!(reason.contains("did not answer within 50ms"), "{reason}");
}
