//! Runs every target on its corpus, and keeps the corpus small.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use corymb_tests_fuzz::{CORPUS, TARGETS};

/// Files of one target.
const FILES: usize = 64;
/// Bytes of them all.
const TOTAL: usize = 256 * 1024;
/// Bytes of one.
const LARGEST: usize = 8 * 1024;

fn names(folder: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn every_target_passes_on_its_corpus() {
    let mut failed = Vec::new();
    for (name, run) in TARGETS {
        let paths = names(&Path::new(CORPUS).join(name));
        assert!(!paths.is_empty(), "{name} has no corpus");
        let mut total = 0;
        for path in &paths {
            let data = fs::read(path).expect("read");
            assert!(data.len() <= LARGEST, "{} has {} bytes; at most {LARGEST}", path.display(), data.len());
            total += data.len();
            // All of those that fail are named, each behind its panic.
            if catch_unwind(|| run(&data)).is_err() {
                failed.push(path.display().to_string());
            }
        }
        assert!(paths.len() <= FILES, "{name} has {} files; at most {FILES}", paths.len());
        assert!(total <= TOTAL, "{name} has {total} bytes; at most {TOTAL}");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_folder_of_the_corpus_has_a_target() {
    let folders = names(Path::new(CORPUS));
    let known = TARGETS.map(|(name, _)| Path::new(CORPUS).join(name));
    assert_eq!(folders, BTreeSet::from(known));
}

#[test]
fn no_input_is_needed() {
    for (name, run) in TARGETS {
        assert!(catch_unwind(|| run(b"")).is_ok(), "{name} panics on nothing");
    }
}
