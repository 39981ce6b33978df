//! What lies in the cache, for those who look after it: listed, read again, removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache::{BlobRecord, Cache, TreeRecord, check, read_json};
use crate::error::RepositoryError;
use crate::layout::{Demands, ModelFolder, Verified, check_name, open_dir, open_path};
use crate::onnx::is_onnx;
use crate::signature::{Kept, SignaturePolicy, Trust};
use crate::uri::{ModelUri, Place, redact};

/// A model in the cache.
#[derive(Clone, Debug)]
pub struct CachedModel {
    /// Where it is from, without secrets.
    pub uri: String,
    /// Its folder in the cache.
    pub path: PathBuf,
    /// Of all its files.
    pub bytes: u64,
    /// Paths in the folder.
    pub files: Vec<String>,
    /// When it was last opened.
    pub used: SystemTime,
}

/// A file of the cache that was read again.
#[derive(Clone, Debug)]
pub struct CheckedFile {
    /// Where it is from, without secrets.
    pub uri: String,
    /// Bytes.
    pub bytes: u64,
    /// The checksums that were compared.
    pub checksums: Vec<String>,
    /// What is wrong; none when it is what was downloaded.
    pub fault: Option<String>,
}

/// A model that was held against its signature.
#[derive(Clone, Debug)]
pub struct CheckedSignature {
    /// Where it is from, without secrets.
    pub uri: String,
    /// What was signed and by whom, or why it would not be served.
    pub signed: Result<String, String>,
}

/// What was removed.
#[derive(Clone, Copy, Debug)]
pub struct Removed {
    /// Models.
    pub models: usize,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Models that stayed, because a running process uses them.
    pub in_use: usize,
}

/// The models in the cache below `folder`, the least recently used first.
///
/// # Errors
/// When the cache cannot be read.
pub fn cached(folder: &Path) -> Result<Vec<CachedModel>, RepositoryError> {
    let cache = open(folder)?;
    let all = cache.trees().map_err(|reason| RepositoryError::unreadable(folder, reason))?;
    let models = all.into_iter().map(|(tree, record, used)| {
        let size = |path: &String| fs::metadata(tree.path.join(path)).map_or(0, |meta| meta.len());
        let bytes = record.files.keys().map(size).sum();
        CachedModel { uri: record.uri, path: tree.path.clone(), bytes, files: record.files.into_keys().collect(), used }
    });
    Ok(models.collect())
}

/// Reads every file of the models from `uri`, or of all models, and compares it with what was downloaded. A file that
/// has changed is removed, so that the next start downloads it anew.
///
/// # Errors
/// When the cache cannot be read.
pub fn verify(folder: &Path, uri: Option<&str>) -> Result<Vec<CheckedFile>, RepositoryError> {
    let cache = open(folder)?;
    let wanted = uri.map(shown);
    let mut keys = BTreeSet::new();
    for (_, record, _) in cache.trees().map_err(|reason| RepositoryError::unreadable(folder, reason))? {
        if wanted.as_deref().is_none_or(|root| record.is_below(root)) {
            keys.extend(record.files.into_values());
        }
    }
    let mut checked = Vec::new();
    for key in keys {
        let Some(record) = read_json::<BlobRecord>(&cache.blob_file(&key, "json")) else {
            // Its record and the tree's link to it go together, unless somebody else has been here.
            checked.push(CheckedFile {
                uri: key,
                bytes: 0,
                checksums: Vec::new(),
                fault: Some("nothing is known of it".to_owned()),
            });
            continue;
        };
        let fault = check(&cache.blob(&key), &record).err();
        if fault.is_some() {
            cache.drop_blob(&key);
        }
        let checksums = record.digests.0.keys().map(ToString::to_string).collect();
        checked.push(CheckedFile { uri: record.uri, bytes: record.size, checksums, fault });
    }
    Ok(checked)
}

/// Whether a URI is a path on this machine, of which the cache knows nothing.
#[must_use]
pub fn is_local(uri: &str) -> bool {
    ModelUri::parse(uri).is_ok_and(|parsed| matches!(parsed.place, Place::Local(_)))
}

/// Holds models against their signatures, as a server with this demand would: those at `uri` where that is a path, as
/// `--model-dir` takes it; else those of the cache that are from `uri`, or all of them.
///
/// # Errors
/// When the cache cannot be read.
pub fn verify_signatures(
    folder: &Path,
    uri: Option<&str>,
    trust: &Trust,
) -> Result<Vec<CheckedSignature>, RepositoryError> {
    if let Some(uri) = uri.filter(|uri| is_local(uri)) {
        let mut policy = SignaturePolicy::default();
        policy.demand(trust.clone());
        return Ok(match open_dir(uri, None, &policy) {
            Ok(models) => models.iter().map(|model| verdict(format!("{uri} ({})", model.name), Ok(model))).collect(),
            Err(error) => vec![verdict(uri.to_owned(), Err(error))],
        });
    }
    let cache = open(folder)?;
    let wanted = uri.map(shown);
    let mut checked = Vec::new();
    for (tree, record, _) in cache.trees().map_err(|reason| RepositoryError::unreadable(folder, reason))? {
        if !wanted.as_deref().is_none_or(|root| record.is_below(root)) {
            continue;
        }
        let path = record.file().map_or_else(|| tree.path.clone(), |file| tree.path.join(file));
        let name = ModelUri::parse(&record.uri).ok().and_then(|uri| uri.default_name());
        let name = name.filter(|name| check_name(name).is_ok()).unwrap_or_else(|| "model".to_owned());
        let demands = Demands { verified: &Verified::new(), trust: Some(trust), kept: Kept::Fetched };
        let opened = open_path(&name, &path, None, demands);
        let opened = opened.and_then(|models| models.into_iter().next_back().ok_or(RepositoryError::Empty { path }));
        checked.push(match opened {
            Ok(model) => verdict(record.uri, Ok(&model)),
            Err(error) => verdict(record.uri, Err(error)),
        });
    }
    Ok(checked)
}

fn verdict(uri: String, opened: Result<&ModelFolder, RepositoryError>) -> CheckedSignature {
    let signed = opened
        .map(|model| model.signed.as_ref().map(|signed| signed.shown()).unwrap_or_default())
        .map_err(|error| error.to_string());
    CheckedSignature { uri, signed }
}

impl TreeRecord {
    /// The `.onnx` file that its URI names, where it names one.
    fn file(&self) -> Option<&str> {
        let mut files = self.files.keys().map(String::as_str).filter(|file| is_onnx(file));
        files.find(|file| self.uri.strip_suffix(file).is_some_and(|folder| folder.ends_with('/')))
    }
}

/// Removes the models from `uri`, or all of them, that no running process uses.
///
/// # Errors
/// When the cache cannot be changed.
pub fn remove(folder: &Path, uri: Option<&str>) -> Result<Removed, RepositoryError> {
    let cache = open(folder)?;
    let root = uri.map(shown);
    let removed = cache.remove(root.as_deref()).map_err(|reason| RepositoryError::unreadable(folder, reason))?;
    Ok(Removed { models: removed.0, bytes: removed.1, in_use: removed.2 })
}

fn shown(uri: &str) -> String {
    redact(uri).trim_end_matches('/').to_owned()
}

fn open(folder: &Path) -> Result<Cache, RepositoryError> {
    Cache::open(&folder.join("models"), None).map_err(|reason| RepositoryError::unreadable(folder, reason))
}
