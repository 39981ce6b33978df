//! What changes when something in a folder of this machine does.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;
use std::{fs, io};

use crate::cache::key;
use crate::error::RepositoryError;

/// Folders in folders: a repository of version trees with samples has four.
const MAX_DEPTH: usize = 8;
/// The most files that are looked at.
const MAX_FILES: usize = 100_000;

/// Names, sizes, dates and inodes of everything below `path`.
pub(crate) fn of_disk(path: &Path) -> Result<String, RepositoryError> {
    let mut words = Vec::new();
    walk(path, 0, &mut words).map_err(|reason| RepositoryError::Unreadable { path: path.to_owned(), reason })?;
    Ok(key(&words.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn walk(path: &Path, depth: usize, words: &mut Vec<String>) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        if depth == MAX_DEPTH || words.len() + entries.len() > MAX_FILES {
            return Err(io::Error::other("too many files or folders in it"));
        }
        for entry in entries {
            match walk(&entry, depth + 1, words) {
                // It may have gone since the folder was read, and a link may lead nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        return Ok(());
    }
    words.push(of_file(path, &meta)?);
    Ok(())
}

/// What changes when one file does.
pub(crate) fn word(path: &Path) -> io::Result<String> {
    of_file(path, &fs::metadata(path)?)
}

/// As [`word`], and when anything about the file was last changed, which nobody can set back. A link made elsewhere
/// changes it too.
pub(crate) fn state(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    Ok(format!("{}\0{}\0{}", of_file(path, &meta)?, meta.ctime(), meta.ctime_nsec()))
}

/// The inode too: a file that was put in another's place may be as long and as old.
fn of_file(path: &Path, meta: &Metadata) -> io::Result<String> {
    let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{}\0{}\0{}\0{}", path.display(), meta.len(), modified.as_nanos(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_another_revision() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("1")).expect("made");
        let file = folder.path().join("1/m.onnx");
        fs::write(&file, "a").expect("written");
        let before = of_disk(folder.path()).expect("read");
        assert_eq!(before, of_disk(folder.path()).expect("read"));
        fs::write(&file, "ab").expect("written");
        assert_ne!(before, of_disk(folder.path()).expect("read"));
    }
}
