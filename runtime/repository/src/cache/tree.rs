//! Folders of hard links: a version of a model as its source has it, opened like any other folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Hold, key, read_json, write_json};

/// A folder that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
}

/// Whose a tree is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TreeRecord {
    /// Of its source, without secrets.
    pub(crate) uri: String,
    /// Paths in it, and the keys of their blobs.
    pub(crate) files: BTreeMap<String, String>,
}

impl TreeRecord {
    /// Whether it is from `root`, a URI without secrets, or from below it.
    pub(crate) fn is_below(&self, root: &str) -> bool {
        self.uri.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Cache {
    /// The tree of these files, made when it is not there; it stays as long as what comes with it lives.
    pub(crate) fn tree(&self, uri: &str, files: BTreeMap<String, String>) -> io::Result<(Tree, Hold)> {
        let mut words = vec!["tree", uri];
        words.extend(files.iter().flat_map(|(path, blob)| [path.as_str(), blob.as_str()]));
        let key = key(&words);
        let trees = self.folder.join("trees");
        let path = trees.join(&key);
        let _shared = self.lock(false)?;
        let hold = self.lease.hold(format!("tree {key}"))?;
        if !self.is_whole(&path, &files) {
            let made = tempfile::Builder::new()
                .prefix("new-")
                .suffix(".tmp")
                .permissions(fs::Permissions::from_mode(0o755))
                .tempdir_in(&trees)?;
            for (name, blob) in &files {
                let link = made.path().join(name);
                if let Some(folder) = link.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::hard_link(self.blob(blob), link)?;
            }
            // Of a cache that outlived a power failure it may be a ruin; another process's is as good as ours.
            if path.exists() && !self.is_whole(&path, &files) {
                fs::remove_dir_all(&path)?;
            }
            let made = made.keep();
            if let Err(error) = fs::rename(&made, &path) {
                let _ = fs::remove_dir_all(&made);
                if !self.is_whole(&path, &files) {
                    return Err(error);
                }
            }
        }
        // Also says when it was last used.
        write_json(&trees.join(format!("{key}.json")), &TreeRecord { uri: uri.to_owned(), files })?;
        Ok((Tree { key, path }, hold))
    }

    fn is_whole(&self, path: &Path, files: &BTreeMap<String, String>) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        files.iter().all(|(name, blob)| {
            let inode = |path: PathBuf| fs::metadata(path).map(|meta| meta.ino()).ok();
            let linked = inode(path.join(name));
            linked.is_some() && linked == inode(self.blob(blob))
        })
    }

    /// Every tree, with its record and its last use; the least recent first.
    pub(crate) fn trees(&self) -> io::Result<Vec<(Tree, TreeRecord, std::time::SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder.join("trees"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(key) = name.strip_suffix(".json") else { continue };
            let Some(record) = read_json::<TreeRecord>(&path) else { continue };
            let used = fs::metadata(&path)?.modified()?;
            found.push((Tree { key: key.to_owned(), path: path.with_extension("") }, record, used));
        }
        found.sort_by_key(|(_, _, used)| *used);
        Ok(found)
    }

    /// Removes a tree, and what is then linked by none.
    pub(super) fn drop_tree(&self, tree: &Tree) {
        let _ = fs::remove_file(tree.path.with_extension("json"));
        let _ = fs::remove_dir_all(&tree.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_stands_for_what_is_below_it() {
        let is_below = |uri: &str| TreeRecord { uri: uri.to_owned(), files: BTreeMap::new() }.is_below("s3://b/a");
        assert!(is_below("s3://b/a"));
        assert!(is_below("s3://b/a/m.onnx"));
        assert!(!is_below("s3://b/ab"));
    }
}
