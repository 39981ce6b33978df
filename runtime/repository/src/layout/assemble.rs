//! The files of one version, checked against what is demanded of them and put together.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corymb_core::{FileSource, ModelFiles, files};

use super::checksum::digest;
use super::folder::{Held, ModelFolder, PluginFile};

use crate::cache::key;
use crate::error::RepositoryError;
use crate::manifest::{Manifest, VersionsSection};
use crate::onnx::{external_data, is_onnx};
use crate::revision;
use crate::sample::Sample;
use crate::shape::{file_name, linked};
use crate::signature::{Kept, Signed, Trust};
use crate::store::Algorithm;

/// Files whose SHA-256 is known since they were downloaded, so that they need not be read for it once more.
pub(crate) type Verified = BTreeMap<PathBuf, String>;

/// What files are held to beside what the manifest says.
#[derive(Clone, Copy)]
pub(crate) struct Demands<'a> {
    pub(crate) verified: &'a Verified,
    /// Who must have signed.
    pub(crate) trust: Option<&'a Trust>,
    pub(crate) kept: Kept,
}

/// What is known of files when they are put together to a model.
#[derive(Default)]
pub(super) struct Known {
    verified: Verified,
    /// Where a signature is demanded.
    pub(super) signed: Option<Arc<Signed>>,
}

impl Known {
    pub(super) fn of(demands: &Demands<'_>, signed: Option<Signed>) -> Self {
        let mut verified = demands.verified.clone();
        // What was read for the signature is not read for the manifest's checksum once more.
        verified.extend(signed.iter().flat_map(Signed::digests));
        Self { verified, signed: signed.map(Arc::new) }
    }
}

/// What was found in a folder.
#[derive(Default)]
pub(super) struct Files {
    pub(super) model: Option<FileSource>,
    pub(super) plugin: Option<FileSource>,
    pub(super) labels: Option<FileSource>,
    pub(super) samples: Vec<Sample>,
}

impl Files {
    /// Whether the signature covers all that will be read.
    fn check_signed(&self, signed: &Signed) -> Result<(), RepositoryError> {
        let samples = self.samples.iter().map(|sample| &sample.file);
        let all = [&self.model, &self.plugin, &self.labels].into_iter().flatten().chain(samples);
        for file in all {
            if let FileSource::Path(path) = file {
                signed.check_used(path)?;
            }
        }
        if let Some(FileSource::Path(model)) = &self.model {
            signed.check_external(model)?;
        }
        // The plugin's host takes its compiled form where one lies beside it.
        if let Some(FileSource::Path(plugin)) = &self.plugin {
            let compiled = plugin.with_extension("cwasm");
            if compiled.exists() {
                signed.check_used(&compiled)?;
            }
        }
        Ok(())
    }
}

/// What a file of labels may have, in bytes: a hundred times the largest vocabulary that is known.
const MOST_LABELS: u64 = 16 << 20;

/// Checks the files, and makes a version of the model of them.
pub(super) fn assemble(
    name: &str,
    version: &str,
    files: Files,
    manifest: Manifest,
    manifest_path: &Path,
    known: &Known,
) -> Result<ModelFolder, RepositoryError> {
    for file in [&files.model, &files.plugin].into_iter().flatten() {
        // Engines open it by its name, and would wait for who writes to a pipe.
        if let FileSource::Path(path) = file {
            let opened = files::open(path).map_err(|reason| RepositoryError::unreadable(path, linked(path, reason)))?;
            check_pointer(path, opened)?;
        }
    }
    if let Some(signed) = &known.signed {
        files.check_signed(signed)?;
    }
    if let Some(expected) = &manifest.sha256 {
        let Some(file) = &files.model else {
            let reason = "`sha256` is given, but there is no model file".to_owned();
            return Err(RepositoryError::Manifest { path: manifest_path.to_owned(), reason });
        };
        verify(file, expected, &known.verified)?;
    }
    let labels = match &files.labels {
        Some(file) => {
            let path = match file {
                FileSource::Path(path) => path.clone(),
                FileSource::Embedded { name, .. } => PathBuf::from(name),
            };
            let bytes = file.read_up_to(MOST_LABELS);
            let bytes = bytes.map_err(|reason| RepositoryError::unreadable(&path, reason))?;
            String::from_utf8_lossy(&bytes).lines().map(|line| line.trim().to_owned()).collect()
        }
        None => Vec::new(),
    };
    let stamp = stamp_of(&files, &manifest);
    let plugin = files.plugin.zip(manifest.plugin.as_ref()).map(|(file, section)| PluginFile {
        file,
        headers: section.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
        config: section.config_json(),
    });
    Ok(ModelFolder {
        name: name.to_owned(),
        version: version.to_owned(),
        model: files.model.map(|model| ModelFiles { model }),
        plugin,
        labels,
        manifest,
        samples: files.samples,
        signed: known.signed.clone(),
        stamp,
        held: Held::default(),
    })
}

/// A repository that was cloned without its large files has a few lines in place of each.
fn check_pointer(path: &Path, file: std::fs::File) -> Result<(), RepositoryError> {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    let mut head = Vec::new();
    let read = file.take(POINTER.len() as u64).read_to_end(&mut head);
    if read.is_ok() && head == POINTER {
        let reason = "it is a pointer of git-lfs in place of the file; `git lfs pull` fetches that";
        return Err(RepositoryError::unreadable(path, std::io::Error::new(std::io::ErrorKind::InvalidData, reason)));
    }
    Ok(())
}

/// What tells one state of the files from another, without reading them.
fn stamp_of(files: &Files, manifest: &Manifest) -> String {
    let manifest = Manifest { versions: VersionsSection::default(), ..manifest.clone() };
    let mut words = vec![format!("{manifest:?}")];
    let samples = files.samples.iter().map(|sample| &sample.file);
    for file in [&files.model, &files.plugin, &files.labels].into_iter().flatten().chain(samples) {
        let path = match file {
            FileSource::Embedded { name, bytes } => {
                words.push(format!("{name} {}", bytes.len()));
                continue;
            }
            FileSource::Path(path) => path,
        };
        let Ok(word) = revision::word(path) else { return String::new() };
        words.push(word);
        // What is no ONNX file is left to the backend; of external data that is absent too.
        let external =
            if is_onnx(&file_name(path)) { external_data(path).unwrap_or_default() } else { BTreeSet::new() };
        let beside = |location: &String| path.parent().unwrap_or(Path::new("")).join(location);
        words.extend(external.iter().map(|location| revision::word(&beside(location)).unwrap_or_default()));
    }
    key(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn verify(file: &FileSource, expected: &str, verified: &Verified) -> Result<(), RepositoryError> {
    let (path, found) = match file {
        FileSource::Embedded { name, bytes } => {
            let mut hasher = Algorithm::Sha256.hasher(0);
            hasher.update(bytes);
            (PathBuf::from(name), hasher.finish())
        }
        FileSource::Path(path) => {
            let found = verified.get(path).cloned().map_or_else(|| digest(path, Algorithm::Sha256), Ok);
            (path.clone(), found.map_err(|reason| RepositoryError::unreadable(path, reason))?)
        }
    };
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(RepositoryError::Checksum { path, found, expected: expected.to_owned() })
}
