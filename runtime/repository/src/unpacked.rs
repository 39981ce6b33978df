//! What lay in an archive: files of the cache, each by itself, so that the archive is downloaded and unpacked once.

mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use corymb_core::files as disk;
use serde::{Deserialize, Serialize};

pub(crate) use self::files::{Keeper, walk};

use crate::archive::{Kind, Limits, Refusal, unpack};
use crate::cache::{Cache, Hold, key, write_json};
use crate::download::{Blob, Downloads};
use crate::error::RepositoryError;
use crate::store::{Algorithm, Answer, Object, Packed, Source};

/// How often an archive is downloaded that others remove.
const TRIES: usize = 3;
/// Bytes of what is written down of an archive.
const MAX_RECORD: u64 = 32 << 20;

/// What is kept of an archive.
#[derive(Serialize, Deserialize)]
struct Record {
    files: BTreeMap<String, u64>,
    /// Of the archive, where it was computed.
    #[serde(default)]
    sha256: Option<String>,
}

/// An archive that was unpacked.
pub(crate) struct Archive {
    pub(crate) files: Packed,
    /// The archive itself.
    pub(crate) object: Object,
    /// The files stay in the cache as long as these live.
    pub(crate) holds: Vec<Hold>,
}

/// The archive `file` of a source: as it was unpacked before, else downloaded and unpacked.
///
/// # Errors
/// When it does not arrive, or cannot be unpacked within the limits.
pub(crate) async fn open(
    downloads: &Downloads,
    source: &Source,
    file: &str,
    kind: Kind,
    sha256: Option<&str>,
) -> Result<Archive, RepositoryError> {
    let uri = source.shown(file);
    let listed = match source {
        Source::Hub(_) => downloads.ask(&uri, || source.list()).await?.and_then(|mut listing| listing.remove(file)),
        _ => None,
    };
    let (found, answer) = match listed {
        Some(object) => (object, None),
        None => downloads.probe(source, file).await?,
    };
    let unpacking = Unpacking::of(&downloads.cache, &uri, &found);
    let stated = sha256.map(str::to_owned);
    let known = blocking(&uri, move || Ok(unpacking.known(stated.as_deref()))).await?;
    if let Some((files, holds)) = known {
        return Ok(Archive { files, object: found, holds });
    }
    let (blob, archive) = fetch(downloads, source, file, &found, answer, sha256).await?;
    // It may have changed since it was asked for.
    let found = Object { size: blob.record.size, tag: blob.record.tag.clone(), ..found };
    let unpacking = Unpacking::of(&downloads.cache, &uri, &found);
    let run = move || unpacking.run(&archive, &blob, kind).map_err(|refusal| unpacking.failed(refusal));
    let (files, holds) = blocking(&uri, run).await?;
    Ok(Archive { files, object: found, holds })
}

/// An archive itself, open. Whoever unpacks the same at the same time may have removed it.
///
/// # Errors
/// When it does not arrive.
pub(crate) async fn fetch(
    downloads: &Downloads,
    source: &Source,
    file: &str,
    object: &Object,
    mut answer: Option<Answer>,
    sha256: Option<&str>,
) -> Result<(Blob, File), RepositoryError> {
    let mut tries = 0;
    loop {
        let failure = match downloads.fetch(source, file, object.clone(), answer.take(), sha256).await {
            Ok(blob) => match File::open(downloads.cache.blob(&blob.key)) {
                Ok(archive) => return Ok((blob, archive)),
                Err(reason) => reason,
            },
            // Between its record and its content it was removed.
            Err(RepositoryError::Cache { reason, .. }) => reason,
            Err(other) => return Err(other),
        };
        if failure.kind() != io::ErrorKind::NotFound || tries >= TRIES {
            let (path, object) = (downloads.cache.folder().to_owned(), source.shown(file));
            return Err(RepositoryError::Cache { path, object, reason: failure });
        }
        tries += 1;
    }
}

/// Until the answer is dropped nobody else, in this process or in another, unpacks what `words` name and `record` is written
/// down of.
pub(crate) fn alone(record: &Path, words: &[&str]) -> io::Result<File> {
    let name = format!("{}.lock", key(&[&["unpack"], words].concat()));
    let lock = File::options().create(true).truncate(false).write(true).open(record.with_file_name(name))?;
    lock.lock()?;
    Ok(lock)
}

/// What was written down of an archive; none where that cannot be read.
pub(crate) fn read_record<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&disk::read(path, MAX_RECORD).ok()?).ok()
}

/// An archive on its way into the cache.
struct Unpacking {
    cache: Cache,
    uri: String,
    tag: Option<String>,
    /// Of what is written down of it.
    key: String,
}

type Found = (Packed, Vec<Hold>);

impl Unpacking {
    fn of(cache: &Cache, uri: &str, object: &Object) -> Self {
        let (uri, key) = (uri.to_owned(), Cache::blob_key(uri, object));
        Self { cache: cache.clone(), uri, tag: object.tag.clone(), key }
    }

    /// Unpacks the archive, and makes each file of it one of the cache's own.
    fn run(&self, archive: &File, blob: &Blob, kind: Kind) -> Result<Found, Refusal> {
        let path = self.cache.archive_record(&self.key);
        let _lock = alone(&path, &[&self.key])?;
        let sha256 = blob.record.digests.0.get(&Algorithm::Sha256.into()).cloned();
        let found = match self.known(None) {
            // Others have unpacked it meanwhile, or before anybody said what it must be.
            Some(found) => {
                if let (Some(_), Some(record)) = (&sha256, read_record::<Record>(&path)) {
                    write_json(&path, &Record { sha256, ..record })?;
                }
                found
            }
            None => self.anew(archive, kind, sha256, &path)?,
        };
        // Its files are there, each by itself.
        self.cache.drop_blob(&blob.key);
        Ok(found)
    }

    fn anew(&self, archive: &File, kind: Kind, sha256: Option<String>, record: &Path) -> Result<Found, Refusal> {
        let limits = Limits::default();
        let into = self.cache.temporary_folder()?;
        let unpacked = unpack(archive, kind, into.path(), &limits)?;
        let files = walk(into.path(), &limits)?;
        // What links lead to takes room once.
        self.cache.make_room(unpacked.bytes).map_err(|full| io::Error::new(io::ErrorKind::StorageFull, full))?;
        let packed = Packed::of(&self.uri, self.tag.as_ref(), &files);
        let mut keeper = Keeper::new(&self.cache);
        let keep =
            |(path, object): (&String, &Object)| keeper.keep(&packed.shown(path), object, &into.path().join(path));
        let holds = packed.files.iter().map(keep).collect::<io::Result<_>>()?;
        write_json(record, &Record { files, sha256 })?;
        let (files, bytes, left_out) = (unpacked.files, unpacked.bytes, unpacked.skipped);
        tracing::info!(object = self.uri, files, bytes, left_out, "unpacked");
        Ok((packed, holds))
    }

    /// The files, where the archive was unpacked before and all are there, and it was then what `sha256` says. Without a tag
    /// nothing says whether it is still the same.
    fn known(&self, sha256: Option<&str>) -> Option<Found> {
        let tag = self.tag.as_ref()?;
        let record = read_record::<Record>(&self.cache.archive_record(&self.key))?;
        if sha256.is_some_and(|stated| !record.sha256.is_some_and(|known| known.eq_ignore_ascii_case(stated))) {
            return None;
        }
        let packed = Packed::of(&self.uri, Some(tag), &record.files);
        let hold = |(path, object): (&String, &Object)| {
            let key = Cache::blob_key(&packed.shown(path), object);
            let hold = self.cache.hold_blob(&key).ok()?;
            self.cache.find(&key).map(|_| hold)
        };
        let holds = packed.files.iter().map(hold).collect::<Option<_>>()?;
        Some((packed, holds))
    }

    fn failed(&self, refusal: Refusal) -> RepositoryError {
        failed(&self.cache, self.uri.clone(), refusal)
    }
}

/// Why `object` could not be unpacked into the cache.
pub(crate) fn failed(cache: &Cache, object: String, refusal: Refusal) -> RepositoryError {
    match refusal {
        Refusal::Io(reason) => RepositoryError::Cache { path: cache.folder().to_owned(), object, reason },
        other => RepositoryError::Remote { object, reason: other.to_string() },
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    object: &str,
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    let stopped =
        |_| RepositoryError::Remote { object: object.to_owned(), reason: "unpacking it was stopped".to_owned() };
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
