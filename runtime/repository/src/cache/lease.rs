//! What a living process uses of the cache, written where others see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Before what is not used any more.
const RELEASED: &str = "-";
/// So many lines of such things are worth a new file.
const MANY: usize = 1000;

/// A file that is locked for as long as its process lives. Each line names something that is used from there on, or not
/// any more. Lines are only ever added, since others read them at any time.
#[derive(Debug)]
pub(crate) struct Lease {
    folder: PathBuf,
    /// Held, alone, by who reads what is used.
    lock: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    path: PathBuf,
    file: File,
    /// What is used, and how often.
    used: BTreeMap<String, usize>,
    released: usize,
}

/// Something that stays in the cache as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    lease: Arc<Lease>,
    what: String,
}

impl Lease {
    /// A new one in `folder`. Whoever reads them all holds `lock` meanwhile, alone.
    pub(crate) fn take(folder: &Path, lock: PathBuf) -> io::Result<Self> {
        let (file, path) = new_file(folder)?;
        let written = Mutex::new(Written { path, file, used: BTreeMap::new(), released: 0 });
        Ok(Self { folder: folder.to_owned(), lock, written })
    }

    /// From now on `what` is used.
    pub(crate) fn hold(self: &Arc<Self>, what: String) -> io::Result<Hold> {
        let mut written = self.written();
        if !written.used.contains_key(&what) {
            written.file.write_all(format!("{what}\n").as_bytes())?;
        }
        *written.used.entry(what.clone()).or_default() += 1;
        drop(written);
        Ok(Hold { lease: Arc::clone(self), what })
    }

    fn release(&self, what: &str) -> io::Result<()> {
        let mut written = self.written();
        let Some(count) = written.used.get_mut(what) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        written.used.remove(what);
        written.file.write_all(format!("{RELEASED}{what}\n").as_bytes())?;
        written.released += 1;
        if written.released >= MANY { self.start_anew(&mut written) } else { Ok(()) }
    }

    /// Another file of what is used now; the old one goes when the new one is complete. While somebody reads them it is left for the
    /// next time: who had seen neither would take all of it for unused.
    fn start_anew(&self, written: &mut Written) -> io::Result<()> {
        let lock = File::options().create(true).truncate(false).write(true).open(&self.lock)?;
        if lock.try_lock_shared().is_err() {
            return Ok(());
        }
        let (mut file, path) = new_file(&self.folder)?;
        let lines: String = written.used.keys().flat_map(|what| [what, "\n"]).collect();
        if let Err(error) = file.write_all(lines.as_bytes()) {
            let _ = fs::remove_file(path);
            return Err(error);
        }
        let old = std::mem::replace(&mut written.path, path);
        written.file = file;
        written.released = 0;
        fs::remove_file(old)
    }

    /// Everything that living processes use, for who holds the lock. What dead ones left is removed.
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
            let mut own = BTreeSet::new();
            for line in text.lines() {
                match line.strip_prefix(RELEASED) {
                    Some(released) => own.remove(released),
                    None => own.insert(line),
                };
            }
            held.extend(own.into_iter().map(str::to_owned));
        }
        Ok(held)
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An empty file that is locked.
fn new_file(folder: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let file = tempfile::Builder::new().prefix("process-").tempfile_in(folder)?;
        let (file, path) = file.keep().map_err(|error| error.error)?;
        file.lock()?;
        // Between its making and its locking it may have been taken for a dead process's.
        if path.exists() {
            return Ok((file, path));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.written().path);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Err(error) = self.lease.release(&self.what) {
            tracing::warn!(folder = %self.lease.folder.display(), %error, "the cache keeps what is not used any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(folder: &Path) -> Vec<String> {
        Lease::all(folder).expect("read").into_iter().collect()
    }

    #[test]
    fn the_living_are_heard_and_the_dead_are_buried() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lock = tempfile::NamedTempFile::new().expect("a file");
        fs::write(folder.path().join("dead"), "blob old\n").expect("written");
        let lease = Arc::new(Lease::take(folder.path(), lock.path().to_owned()).expect("taken"));
        let hold = |what: &str| lease.hold(what.to_owned()).expect("written");
        let (first, again, other) = (hold("blob a"), hold("blob a"), hold("tree b"));
        assert_eq!(held(folder.path()), ["blob a", "tree b"]);
        assert!(!folder.path().join("dead").exists());
        drop(first);
        assert_eq!(held(folder.path()), ["blob a", "tree b"]);
        drop(again);
        assert_eq!(held(folder.path()), ["tree b"]);
        let back = hold("blob a");
        assert_eq!(held(folder.path()), ["blob a", "tree b"]);
        drop((lease, back, other));
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0);
    }

    #[test]
    fn what_is_said_stays_short() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lock = tempfile::NamedTempFile::new().expect("a file");
        let lease = Arc::new(Lease::take(folder.path(), lock.path().to_owned()).expect("taken"));
        let _stays = lease.hold("tree stays".to_owned()).expect("written");
        for number in 0..3 * MANY {
            drop(lease.hold(format!("tree {number}")).expect("written"));
        }
        assert_eq!(held(folder.path()), ["tree stays"]);
        let files: Vec<fs::DirEntry> = fs::read_dir(folder.path()).expect("read").flatten().collect();
        assert_eq!(files.len(), 1);
        assert!(files[0].metadata().expect("read").len() < 100);
    }
}
