//! What lay in an archive: files of the cache, each by itself, so that the archive is downloaded and unpacked once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::archive::{Kind, Limits, Refusal, unpack};
use crate::cache::{BlobRecord, Cache, Hold, boot_id, read_json, write_json};
use crate::download::{Downloads, digests_of};
use crate::error::RepositoryError;
use crate::shape::below;
use crate::store::{Algorithm, Digests, Listing, Object, Source};

/// Folders in folders: the limit of archives, and what links in them add.
const MAX_DEPTH: usize = 64;

/// An archive's files.
pub(crate) struct Files {
    /// Of the archive, without secrets.
    uri: String,
    /// What changes when the archive does.
    tag: Option<String>,
    /// Bytes of each.
    sizes: BTreeMap<String, u64>,
    /// They stay in the cache until a tree of them is made.
    _holds: Vec<Hold>,
}

/// What is kept of an archive.
#[derive(Serialize, Deserialize)]
struct Record {
    files: BTreeMap<String, u64>,
}

/// An archive that was unpacked.
pub(crate) struct Archive {
    pub(crate) source: Files,
    /// The archive itself.
    pub(crate) object: Object,
}

impl Files {
    pub(crate) fn shown(&self, path: &str) -> String {
        if path.is_empty() { self.uri.clone() } else { format!("{}/{path}", self.uri) }
    }

    pub(crate) fn listing(&self) -> Listing {
        let object = |size: &u64| object(self.tag.as_ref(), *size);
        self.sizes.iter().map(|(path, size)| (path.clone(), object(size))).collect()
    }
}

fn object(tag: Option<&String>, size: u64) -> Object {
    Object { size, tag: Some(tag.cloned().unwrap_or_default()), digests: Digests::default(), composite: None }
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
    let cache = downloads.cache.clone();
    let key = Cache::blob_key(&uri, &found);
    // Without a tag nothing says whether it is still the same, and what it must be is only seen while it is there.
    if found.tag.is_some() && sha256.is_none() {
        let (cache, uri, tag, key) = (cache.clone(), uri.clone(), found.tag.clone(), key.clone());
        let known = blocking(&uri.clone(), move || known(&cache, &uri, tag, &key)).await?;
        if let Some(source) = known {
            return Ok(Archive { source, object: found });
        }
    }
    let blob = downloads.fetch(source, file, found.clone(), answer, sha256).await?;
    let tag = found.tag.clone();
    let place = uri.clone();
    let source = blocking(&place, move || {
        let refused = |refusal: Refusal| match refusal {
            Refusal::Io(reason) => {
                RepositoryError::Cache { path: cache.folder().to_owned(), object: uri.clone(), reason }
            }
            other => RepositoryError::Remote { object: uri.clone(), reason: other.to_string() },
        };
        let io = |reason: io::Error| refused(Refusal::Io(reason));
        let into = cache.temporary_folder().map_err(io)?;
        let archive = File::open(cache.blob(&blob.key)).map_err(io)?;
        let unpacked = unpack(&archive, kind, into.path(), &Limits::default()).map_err(refused)?;
        let mut files = BTreeMap::new();
        walk(into.path(), "", 0, &mut files).map_err(io)?;
        cache.make_room(unpacked.bytes).map_err(|full| io(io::Error::new(io::ErrorKind::StorageFull, full)))?;
        let mut holds = Vec::new();
        for (path, size) in &files {
            let from = into.path().join(path);
            holds.push(keep(&cache, &format!("{uri}/{path}"), &object(tag.as_ref(), *size), &from).map_err(io)?);
        }
        write_json(&cache.archive_record(&key), &Record { files: files.clone() }).map_err(io)?;
        // Its files are there, each by itself.
        cache.drop_blob(&blob.key);
        tracing::info!(
            object = uri,
            files = unpacked.files,
            bytes = unpacked.bytes,
            left_out = unpacked.skipped,
            "unpacked"
        );
        Ok(Files { uri, tag, sizes: files, _holds: holds })
    })
    .await?;
    Ok(Archive { source, object: found })
}

/// The files of an archive that was unpacked before, where all are there.
fn known(cache: &Cache, uri: &str, tag: Option<String>, key: &str) -> Result<Option<Files>, RepositoryError> {
    let Some(record) = read_json::<Record>(&cache.archive_record(key)) else { return Ok(None) };
    let mut holds = Vec::new();
    for (path, size) in &record.files {
        let key = Cache::blob_key(&format!("{uri}/{path}"), &object(tag.as_ref(), *size));
        let Ok(hold) = cache.hold_blob(&key) else { return Ok(None) };
        holds.push(hold);
        if cache.find(&key).is_none() {
            return Ok(None);
        }
    }
    Ok(Some(Files { uri: uri.to_owned(), tag, sizes: record.files, _holds: holds }))
}

/// Makes a file that was unpacked a blob of its own.
fn keep(cache: &Cache, uri: &str, object: &Object, from: &Path) -> io::Result<Hold> {
    let key = Cache::blob_key(uri, object);
    let hold = cache.hold_blob(&key)?;
    let part = cache.blob_file(&key, "tmp");
    // A link in the archive is a file of its own here; what it leads to may be moved before it.
    if from.is_symlink() {
        fs::copy(from, &part)?;
    } else {
        let _ = fs::remove_file(&part);
        fs::hard_link(from, &part)?;
    }
    let digests = digests_of(&File::open(&part)?, &[Algorithm::Crc32c.into()])?;
    let record = BlobRecord {
        uri: uri.to_owned(),
        tag: object.tag.clone(),
        size: object.size,
        digests,
        boot: boot_id(),
        synced: false,
    };
    cache.keep(&key, &part, record)?;
    Ok(hold)
}

/// All files below `folder`, with their sizes; links are followed, which do not lead out of it.
fn walk(folder: &Path, place: &str, depth: usize, files: &mut BTreeMap<String, u64>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("its folders are nested too deep"));
    }
    for entry in fs::read_dir(folder.join(place))? {
        let name = entry?.file_name();
        let path = below(place, &name.to_string_lossy());
        // A link may lead nowhere.
        let Ok(meta) = fs::metadata(folder.join(&path)) else { continue };
        if meta.is_dir() {
            walk(folder, &path, depth + 1, files)?;
        } else if meta.is_file() {
            files.insert(path, meta.len());
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    object: &str,
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    let stopped =
        |_| RepositoryError::Remote { object: object.to_owned(), reason: "unpacking it was stopped".to_owned() };
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
