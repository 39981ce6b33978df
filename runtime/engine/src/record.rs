//! What was measured of a model, as a file of the cache: by model, engine and cores.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corymb_core::{FileSource, ModelFiles};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Raised when what is measured, or its meaning, changes.
const FORMAT: u32 = 2;
/// A record is a few hundred bytes; what is larger is something else.
const MAX_BYTES: u64 = 64 << 10;

/// What was measured so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Of one run of several rows against each alone: how many, and empty when the answers agree, else how they differ. None
    /// while it has not been made.
    pub(crate) compared: Option<(usize, String)>,
    /// Rows of one run, ascending, and its time in microseconds.
    pub(crate) times: Vec<(usize, u64)>,
    /// Threads of a run that has all workers, and its time in microseconds, 0 when it failed.
    pub(crate) wide: Option<(usize, u64)>,
    /// Nothing is left to measure.
    pub(crate) complete: bool,
}

impl Record {
    pub(crate) fn time_of(&self, rows: usize) -> Option<Duration> {
        self.times.iter().find_map(|(known, micros)| (*known == rows).then(|| Duration::from_micros(*micros)))
    }

    pub(crate) fn set_time(&mut self, rows: usize, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.times.retain(|(known, _)| *known != rows);
        self.times.push((rows, micros));
        self.times.sort_unstable();
    }

    /// Whether the largest run so far was better for each row than the one before.
    pub(crate) fn still_gaining(&self) -> bool {
        let per_row = |(rows, micros): &(usize, u64)| *micros as f64 / *rows as f64;
        match self.times.as_slice() {
            [.., before, last] => per_row(last) < 1.02 * per_row(before),
            _ => true,
        }
    }

    fn path(cache: &Path, key: &str) -> PathBuf {
        cache.join("measured").join(format!("{key}.json"))
    }

    /// What was kept; none when there is nothing that can be read.
    pub(crate) fn load(cache: &Path, key: &str) -> Option<Self> {
        let path = Self::path(cache, key);
        if std::fs::metadata(&path).ok()?.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Keeps it. Another process may do the same: the last one stays.
    pub(crate) fn store(&self, cache: &Path, key: &str) -> std::io::Result<()> {
        let path = Self::path(cache, key);
        let folder = path.parent().unwrap_or(cache);
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// The name of the record of a model under these circumstances; none when the file cannot be looked at.
pub(crate) fn key(files: &ModelFiles, circumstances: &[&str]) -> Option<String> {
    let mut hash = Sha256::new();
    match &files.model {
        FileSource::Embedded { bytes, .. } => hash.update(bytes),
        FileSource::Path(path) => {
            // A model of gigabytes is not read for this.
            let file = std::fs::metadata(path).ok()?;
            let modified = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            hash.update(path.canonicalize().ok()?.as_os_str().as_encoded_bytes());
            hash.update(file.len().to_le_bytes());
            hash.update(modified.as_nanos().to_le_bytes());
        }
    }
    for circumstance in circumstances {
        hash.update([0]);
        hash.update(circumstance.as_bytes());
    }
    hash.update(FORMAT.to_le_bytes());
    Some(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_and_rubbish_is_not_believed() {
        let cache = tempfile::tempdir().expect("a folder");
        assert_eq!(Record::load(cache.path(), "k"), None);
        let mut record = Record { compared: Some((8, String::new())), wide: Some((2, 900)), ..Record::default() };
        record.set_time(8, Duration::from_millis(4));
        record.set_time(1, Duration::from_millis(1));
        record.store(cache.path(), "k").expect("kept");
        assert_eq!(Record::load(cache.path(), "k"), Some(record.clone()));
        assert!(record.still_gaining());
        record.set_time(16, Duration::from_millis(9));
        assert!(!record.still_gaining());
        std::fs::write(cache.path().join("measured/k.json"), "{\"times\": 3}").expect("written");
        assert_eq!(Record::load(cache.path(), "k"), None);
    }

    #[test]
    fn the_key_tells_models_and_circumstances_apart() {
        let files = |bytes: &'static [u8]| ModelFiles {
            model: FileSource::Embedded { name: "m".to_owned(), bytes: bytes.into() },
        };
        let one = key(&files(b"a"), &["tract", "2"]);
        assert!(one.as_ref().is_some_and(|key| key.len() == 32));
        assert_ne!(one, key(&files(b"b"), &["tract", "2"]));
        assert_ne!(one, key(&files(b"a"), &["tract", "4"]));
        assert_eq!(one, key(&files(b"a"), &["tract", "2"]));
    }
}
