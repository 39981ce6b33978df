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
use crate::store::{Algorithm, Object, Packed, Source};

/// Folders in folders: the limit of archives, and what links in them add.
const MAX_DEPTH: usize = 64;

/// What is kept of an archive.
#[derive(Serialize, Deserialize)]
struct Record {
    files: BTreeMap<String, u64>,
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
    let cache = downloads.cache.clone();
    let key = Cache::blob_key(&uri, &found);
    // Without a tag nothing says whether it is still the same, and what it must be is only seen while it is there.
    if found.tag.is_some() && sha256.is_none() {
        let (cache, place, tag, key) = (cache.clone(), uri.clone(), found.tag.clone(), key.clone());
        if let Some((files, holds)) = blocking(&uri, move || Ok(known(&cache, &place, tag.as_ref(), &key))).await? {
            return Ok(Archive { files, object: found, holds });
        }
    }
    let blob = downloads.fetch(source, file, found.clone(), answer, sha256).await?;
    let (place, tag) = (uri.clone(), found.tag.clone());
    let (files, holds) = blocking(&place, move || {
        let refused = |refusal: Refusal| match refusal {
            Refusal::Io(reason) => {
                RepositoryError::Cache { path: cache.folder().to_owned(), object: uri.clone(), reason }
            }
            other => RepositoryError::Remote { object: uri.clone(), reason: other.to_string() },
        };
        take_apart(&cache, &uri, tag.as_ref(), &blob.key, &key, kind).map_err(refused)
    })
    .await?;
    Ok(Archive { files, object: found, holds })
}

/// Unpacks an archive of the cache, and makes each file of it one of the cache's own.
fn take_apart(
    cache: &Cache,
    uri: &str,
    tag: Option<&String>,
    blob: &str,
    key: &str,
    kind: Kind,
) -> Result<(Packed, Vec<Hold>), Refusal> {
    let into = cache.temporary_folder().map_err(Refusal::Io)?;
    let archive = File::open(cache.blob(blob)).map_err(Refusal::Io)?;
    let unpacked = unpack(&archive, kind, into.path(), &Limits::default())?;
    let mut sizes = BTreeMap::new();
    walk(into.path(), "", 0, &mut sizes).map_err(Refusal::Io)?;
    let full = |full| Refusal::Io(io::Error::new(io::ErrorKind::StorageFull, full));
    cache.make_room(unpacked.bytes).map_err(full)?;
    let packed = Packed::of(uri, tag, &sizes);
    let keep = |(path, object): (&String, &Object)| keep(cache, &packed.shown(path), object, &into.path().join(path));
    let holds = packed.files.iter().map(keep).collect::<io::Result<_>>().map_err(Refusal::Io)?;
    write_json(&cache.archive_record(key), &Record { files: sizes }).map_err(Refusal::Io)?;
    // Its files are there, each by itself.
    cache.drop_blob(blob);
    tracing::info!(
        object = uri,
        files = unpacked.files,
        bytes = unpacked.bytes,
        left_out = unpacked.skipped,
        "unpacked"
    );
    Ok((packed, holds))
}

/// The files of an archive that was unpacked before, where all are there.
fn known(cache: &Cache, uri: &str, tag: Option<&String>, key: &str) -> Option<(Packed, Vec<Hold>)> {
    let record = read_json::<Record>(&cache.archive_record(key))?;
    let packed = Packed::of(uri, tag, &record.files);
    let hold = |(path, object): (&String, &Object)| {
        let key = Cache::blob_key(&packed.shown(path), object);
        let hold = cache.hold_blob(&key).ok()?;
        cache.find(&key).map(|_| hold)
    };
    let holds = packed.files.iter().map(hold).collect::<Option<_>>()?;
    Some((packed, holds))
}

/// Makes a file that was unpacked a blob of its own.
pub(crate) fn keep(cache: &Cache, uri: &str, object: &Object, from: &Path) -> io::Result<Hold> {
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
pub(crate) fn walk(folder: &Path, place: &str, depth: usize, files: &mut BTreeMap<String, u64>) -> io::Result<()> {
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

pub(crate) async fn blocking<T: Send + 'static>(
    object: &str,
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    let stopped =
        |_| RepositoryError::Remote { object: object.to_owned(), reason: "unpacking it was stopped".to_owned() };
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
