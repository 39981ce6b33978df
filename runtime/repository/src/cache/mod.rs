//! What was downloaded: files by the identity of their source, and the folders that models are opened from.
//!
//! Below the cache's folder:
//!
//! ```text
//! blobs/KEY        a complete, checked file; KEY is the hash of its URI, tag and size. It is never written to: names of one
//!                  file of an archive are hard links to each other
//! blobs/KEY.json   what is known of it
//! blobs/KEY.part   one that is being downloaded, with KEY.state, which whoever downloads it has locked
//! trees/KEY/       one version of a model as its source has it: hard links to blobs
//! trees/KEY.json   whose it is; its date is that of the last use
//! places/KEY.json  which models a place held that holds several
//! archives/KEY.json which files, all of them blobs, the archive of that key held
//! archives/KEY.lock which whoever unpacks an archive has locked
//! using/ID         held by a living process: what may not be evicted
//! *.tmp            what is being made, or was when its process ended
//! lock             shared while a tree is made, exclusive while something is evicted
//! ```
//!
//! Processes share it: a file appears under its name only when it is whole.

mod evict;
mod lease;
mod sync;
mod tree;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use evict::CacheFull;
pub(crate) use lease::{Hold, Lease};
pub(crate) use tree::{Tree, TreeRecord};

use self::sync::Syncer;
use crate::hashing::digests_of;
use crate::listed::Listed;
use crate::store::{Check, Digests, Object};

/// The folder of the cache. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// The most bytes that may lie in it.
    limit: Option<u64>,
    lease: Arc<Lease>,
    syncer: Arc<Syncer>,
}

/// What is known of a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    /// Of its source, without secrets.
    pub(crate) uri: String,
    pub(crate) tag: Option<String>,
    pub(crate) size: u64,
    /// As computed when it was downloaded.
    pub(crate) digests: Digests,
    /// Of the running system when it was written: content that may not have reached the disk is read again after a restart of the
    /// machine.
    pub(crate) boot: String,
    pub(crate) synced: bool,
    /// When the file was changed last: seconds and nanoseconds since 1970. What was changed later is looked at anew.
    #[serde(default)]
    pub(crate) modified: Option<(i64, i64)>,
}

impl Cache {
    /// The cache in `folder`, which is made when it is not there.
    pub(crate) fn open(folder: &Path, limit: Option<u64>) -> io::Result<Self> {
        for name in ["archives", "blobs", "places", "trees", "using"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let lease = Arc::new(Lease::take(&folder.join("using"), lock_file(folder))?);
        Ok(Self { folder: folder.to_owned(), limit, lease, syncer: Arc::default() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key of an object: what it is, where it is from, and how large.
    pub(crate) fn blob_key(uri: &str, object: &Object) -> String {
        let tag = object.tag.as_deref().unwrap_or_default();
        key(&["blob", uri, tag, &object.size.to_string()])
    }

    pub(crate) fn blob(&self, key: &str) -> PathBuf {
        self.folder.join("blobs").join(key)
    }

    pub(crate) fn blob_file(&self, key: &str, ending: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{key}.{ending}"))
    }

    /// Where it is written what lay in an archive.
    pub(crate) fn archive_record(&self, key: &str) -> PathBuf {
        self.folder.join("archives").join(format!("{key}.json"))
    }

    /// Keeps which models a place holds, a URI without secrets. Without it those count of which there is something.
    pub(crate) fn keep_place(&self, place: &str, listed: &[Listed]) {
        let path = self.place_record(place);
        if read_json::<Vec<Listed>>(&path).is_some_and(|known| known == listed) {
            return;
        }
        if let Err(error) = write_json(&path, &listed) {
            tracing::debug!(path = %path.display(), %error, "what a place holds cannot be kept");
        }
    }

    /// Which models a place held when it was asked last.
    pub(crate) fn place(&self, place: &str) -> Option<Vec<Listed>> {
        read_json(&self.place_record(place))
    }

    fn place_record(&self, place: &str) -> PathBuf {
        self.folder.join("places").join(format!("{}.json", key(&["place", place])))
    }

    /// An empty folder on the disk of the cache.
    pub(crate) fn temporary_folder(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix("new-").suffix(".tmp").tempdir_in(self.folder.join("archives"))
    }

    /// Another name of a file of the same disk, on its way to be a blob; removed with the answer unless that became one.
    pub(crate) fn link(&self, file: &Path) -> io::Result<tempfile::TempPath> {
        let mut name = tempfile::Builder::new();
        let link =
            name.prefix("new-").suffix(".tmp").make_in(self.folder.join("blobs"), |path| fs::hard_link(file, path));
        Ok(link?.into_temp_path())
    }

    /// The record of a blob that is there, whole, and to be believed.
    pub(crate) fn find(&self, key: &str) -> Option<BlobRecord> {
        let path = self.blob_file(key, "json");
        let record: BlobRecord = read_json(&path)?;
        let meta = fs::metadata(self.blob(key)).ok()?;
        let is_safe = record.synced || record.boot == boot_id();
        // What cannot be read again for want of a checksum is fetched again.
        if meta.len() != record.size || (!is_safe && record.digests.0.is_empty()) {
            return None;
        }
        let modified = modified(&meta);
        if is_safe && record.modified == Some(modified) {
            return Some(record);
        }
        // The machine was stopped before all was on its disk, the cache was copied, or somebody has written to the file.
        if let Err(fault) = check(&self.blob(key), &record) {
            tracing::warn!(object = record.uri, fault, "damaged in the cache; it is not used");
            return None;
        }
        // What was read after the machine was started anew is on its disk.
        let synced = record.synced || record.boot != boot_id();
        let record = BlobRecord { modified: Some(modified), synced, ..record };
        // Where nobody may write it is read again each time.
        let _ = write_json(&path, &record);
        Some(record)
    }

    /// The blob stays as long as the answer lives, if it is there when this returns. Whoever is making room has finished by then, or
    /// will read that it is held.
    pub(crate) fn hold_blob(&self, key: &str) -> io::Result<Hold> {
        let _shared = self.lock(false)?;
        self.lease.hold(format!("blob {key}"))
    }

    /// Makes `file`, which is whole and checked, the blob of that key; the disk may take its time.
    pub(crate) fn keep(&self, key: &str, part: &Path, record: BlobRecord) -> io::Result<()> {
        let mut permissions = fs::metadata(part)?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(part, permissions)?;
        let record = BlobRecord { modified: Some(modified(&fs::metadata(part)?)), ..record };
        let record_path = self.blob_file(key, "json");
        write_json(&record_path, &record)?;
        let blob = self.blob(key);
        fs::rename(part, &blob)?;
        self.syncer.later(blob, record_path);
        Ok(())
    }

    /// Forgets a blob.
    pub(crate) fn drop_blob(&self, key: &str) {
        for path in [self.blob(key), self.blob_file(key, "json")] {
            let _ = fs::remove_file(path);
        }
    }

    /// The lock of the whole cache, shared or exclusive; released when dropped.
    fn lock(&self, exclusive: bool) -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(lock_file(&self.folder))?;
        // Held for as long as it takes to make links or to remove files: never while something is downloaded.
        if exclusive { file.lock() } else { file.lock_shared() }?;
        Ok(file)
    }
}

fn lock_file(folder: &Path) -> PathBuf {
    folder.join("lock")
}

fn modified(meta: &fs::Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}

/// Whether a file is still what it was.
pub(crate) fn check(path: &Path, record: &BlobRecord) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size != record.size {
        return Err(format!("it has {size} bytes, and had {}", record.size));
    }
    let checks: Vec<Check> = record.digests.0.keys().copied().collect();
    let found = digests_of(&file, &checks).map_err(|error| error.to_string())?;
    match found.conflict(&record.digests) {
        Some((check, found, known)) => Err(format!("its {check} is {found}, and was {known}")),
        None => Ok(()),
    }
}

/// A name for a file that stands for these words.
pub(crate) fn key(words: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update((word.len() as u64).to_le_bytes());
        hasher.update(word);
    }
    hasher.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// Of the running system; empty where it cannot be told, which then never changes.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    /// Records are small; what is larger is none.
    const MAX: u64 = 1 << 20;
    let small = fs::metadata(path).ok()?.len() <= MAX;
    small.then(|| serde_json::from_slice(&fs::read(path).ok()?).ok()).flatten()
}

/// Whole or not at all.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = temporary(folder)?;
    serde_json::to_writer(&mut file, value)?;
    file.flush()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    // Other users' processes may share the cache.
    tempfile::Builder::new()
        .prefix("new-")
        .suffix(".tmp")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
}
