//! Whether the committed flowers plugin was built from the sources beside it. After a change: `plugins/build.sh`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Files below `folder`, as paths from `root`.
fn files(root: &Path, folder: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(folder)).expect(folder) {
        let entry = entry.expect(folder);
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("a plain name"));
        if entry.file_type().expect(folder).is_dir() {
            files(root, &path, found);
        } else {
            found.push(path);
        }
    }
}

/// What `plugins/build.sh --stamp` prints; described there.
fn stamp(root: &Path, plugin: &str) -> String {
    let mut paths =
        [format!("{plugin}/Cargo.toml"), format!("{plugin}/Cargo.lock"), "plugins/sdk/Cargo.toml".to_owned()].to_vec();
    for folder in [&format!("{plugin}/src"), "plugins/sdk/src", "plugins/wit"] {
        files(root, folder, &mut paths);
    }
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(format!("{path}\n"));
        hash.update(std::fs::read(root.join(&path)).expect(&path));
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn the_committed_flowers_plugin_is_up_to_date() {
    let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect();
    let committed = std::fs::read_to_string(root.join("deploy/models/flowers/flowers.wasm.stamp"));
    let committed = committed.expect("the stamp is committed");
    assert_eq!(committed.trim(), stamp(&root, "plugins/flowers"), "sources changed: run plugins/build.sh");
}
