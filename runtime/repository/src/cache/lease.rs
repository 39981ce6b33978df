//! What a living process uses of the cache, written where others see it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A file that is locked for as long as its process lives, with one thing that it uses in each line.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    file: Mutex<(File, BTreeSet<String>)>,
}

impl Lease {
    /// A new one in `folder`.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        loop {
            let file = tempfile::Builder::new().prefix("process-").tempfile_in(folder)?;
            let (file, path) = file.keep().map_err(|error| error.error)?;
            file.lock()?;
            // Between its making and its locking it may have been taken for a dead process's.
            if path.exists() {
                return Ok(Self { path, file: Mutex::new((file, BTreeSet::new())) });
            }
        }
    }

    /// Adds a line, once.
    pub(crate) fn hold(&self, what: &str) -> io::Result<()> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, lines) = &mut *held;
        if !lines.contains(what) {
            file.write_all(format!("{what}\n").as_bytes())?;
            lines.insert(what.to_owned());
        }
        Ok(())
    }

    /// All lines of living processes. What dead ones left is removed.
    pub(crate) fn all(folder: &Path) -> io::Result<BTreeSet<String>> {
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Ok(mut file) = File::options().read(true).write(true).open(&path) else { continue };
            if file.try_lock().is_ok() {
                let _ = fs::remove_file(&path);
                continue;
            }
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            held.extend(text.lines().map(str::to_owned));
        }
        Ok(held)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_heard_and_the_dead_are_buried() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("dead"), "blob old\n").expect("written");
        let lease = Lease::take(folder.path()).expect("taken");
        lease.hold("blob a").expect("written");
        lease.hold("tree b").expect("written");
        let held = Lease::all(folder.path()).expect("read");
        assert_eq!(held, BTreeSet::from(["blob a".to_owned(), "tree b".to_owned()]));
        assert!(!folder.path().join("dead").exists());
        drop(lease);
        assert!(Lease::all(folder.path()).expect("read").is_empty());
    }
}
