//! One version of a model on disk: the files that a plan names.

use std::io;
use std::path::Path;

use corymb_core::FileSource;

use super::assemble::{Files, Known, assemble};
use super::checksum::digest;
use super::folder::ModelFolder;
use crate::archive::Kind;
use crate::error::RepositoryError;
use crate::manifest::Manifest;
use crate::onnx::is_onnx;
use crate::plan::Planned;
use crate::sample::Sample;
use crate::shape::{MANIFEST, file_name};
use crate::store::Algorithm;

/// A model that is one file.
pub(super) fn bare_file(
    name: &str,
    path: &Path,
    sha256: Option<&str>,
    known: &Known,
) -> Result<ModelFolder, RepositoryError> {
    if !is_onnx(&file_name(path)) {
        // Of a store it would be unpacked into the cache.
        let words = match Kind::of(&file_name(path)) {
            Some(_) => "an archive, which is not unpacked on this machine: unpack it, and name the folder",
            None => "not an .onnx file",
        };
        let reason = io::Error::new(io::ErrorKind::InvalidInput, words);
        return Err(RepositoryError::unreadable(path, reason));
    }
    let manifest = Manifest { sha256: sha256.map(str::to_owned), ..Manifest::default() };
    let files = Files { model: Some(FileSource::Path(path.to_owned())), ..Files::default() };
    assemble(name, "1", files, manifest, Path::new(MANIFEST), known)
}

/// One version of what lies at `root`, as it was planned.
pub(super) fn planned(
    name: &str,
    root: &Path,
    version: Planned,
    known: &Known,
) -> Result<ModelFolder, RepositoryError> {
    let at = |path: String| FileSource::Path(root.join(path));
    let samples = version.samples.into_iter().map(|sample| match sample.raw {
        Some(raw) => Sample { input: raw.input, file: at(sample.path), raw: Some((raw.dtype, raw.shape)) },
        None => Sample::new(at(sample.path)),
    });
    let files = Files {
        samples: samples.collect(),
        model: version.model.map(at),
        plugin: version.plugin.map(at),
        labels: version.labels.map(at),
    };
    let said = root.join(&version.said);
    if let Some(signed) = known.signed.as_ref().filter(|_| version.is_said) {
        signed.check_used(&said)?;
    }
    for check in version.checks {
        let path = root.join(&check.path);
        let found = digest(&path, Algorithm::Md5).map_err(|reason| RepositoryError::unreadable(&path, reason))?;
        if found != check.md5 {
            let reason = format!("its md5 is {found}; the checksum agent of {} says {}", check.by, check.md5);
            return Err(RepositoryError::Manifest { path, reason });
        }
    }
    assemble(name, &version.number.to_string(), files, version.manifest, &said, known)
}

pub(super) fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, RepositoryError> {
    Manifest::parse(text).map_err(|reason| RepositoryError::Manifest { path: path.to_owned(), reason })
}
