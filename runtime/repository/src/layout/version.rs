//! One version of a model on disk: what its manifest or Triton's configuration says, and the files that this names.

use std::io;
use std::path::{Path, PathBuf};

use corymb_core::{FileSource, files};

use super::assemble::{Files, Known, assemble};
use super::folder::ModelFolder;
use crate::error::RepositoryError;
use crate::manifest::Manifest;
use crate::onnx::is_onnx;
use crate::sample::Sample;
use crate::shape::{Disk, Folders as _, MANIFEST, TRITON, WARMUP, file_name, is_inside, only_onnx};
use crate::triton::{RawSample, Triton};

/// What a manifest or Triton's configuration may have, in bytes: hundreds of times what any has.
const MOST_SAID: u64 = 1 << 20;

/// A model that is one file.
pub(super) fn bare_file(
    name: &str,
    path: &Path,
    sha256: Option<&str>,
    known: &Known,
) -> Result<ModelFolder, RepositoryError> {
    if !is_onnx(&file_name(path)) {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "not an .onnx file");
        return Err(RepositoryError::unreadable(path, reason));
    }
    let manifest = Manifest { sha256: sha256.map(str::to_owned), ..Manifest::default() };
    let files = Files { model: Some(FileSource::Path(path.to_owned())), ..Files::default() };
    assemble(name, "1", files, manifest, Path::new(MANIFEST), known)
}

/// What a folder says of its model, and the file in which it does.
pub(super) struct Said {
    pub(super) manifest: Manifest,
    pub(super) path: PathBuf,
    folder: PathBuf,
    /// Triton names its samples; elsewhere they are what lies in their folder.
    samples: Option<Vec<RawSample>>,
}

/// The manifest of a folder, or what Triton's configuration in it comes to, or the defaults.
pub(super) fn manifest_of(name: &str, folder: &Path) -> Result<Said, RepositoryError> {
    let read = |file: &str| {
        let path = folder.join(file);
        let text = FileSource::Path(path.clone()).read_up_to(MOST_SAID).and_then(|bytes| {
            String::from_utf8(bytes.into()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        match text {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = io::Error::new(error.kind(), "it is a link to what is not there");
                Err(RepositoryError::unreadable(&path, reason))
            }
            Err(reason) => Err(RepositoryError::unreadable(&path, reason)),
        }
    };
    let folder = folder.to_owned();
    if let Some((path, text)) = read(MANIFEST)? {
        return Ok(Said { manifest: parse_manifest(&path, &text)?, path, folder, samples: None });
    }
    if let Some((path, text)) = read(TRITON)? {
        let triton = Triton::parse(&text, name);
        let triton = triton.map_err(|reason| RepositoryError::Manifest { path: path.clone(), reason })?;
        if !triton.ignored.is_empty() {
            let (file, keys) = (path.display(), triton.ignored.join(", "));
            tracing::warn!(model = name, %file, keys, "these keys have no effect here");
        }
        return Ok(Said { manifest: triton.manifest, path, folder, samples: Some(triton.warmup) });
    }
    Ok(Said { manifest: Manifest::default(), path: folder.join(MANIFEST), folder, samples: None })
}

/// One version. `top` is what the folder around numbered ones says, for those that say nothing themselves.
pub(super) fn folder(
    name: &str,
    version: &str,
    path: &Path,
    top: Option<&Said>,
    known: &Known,
) -> Result<ModelFolder, RepositoryError> {
    let own = manifest_of(name, path)?;
    let said = top.filter(|_| !own.path.exists()).unwrap_or(&own);
    let inside = |key: &'static str, file: &str| -> Result<FileSource, RepositoryError> {
        if !is_inside(file) {
            return Err(RepositoryError::Outside { path: said.path.clone(), key, value: file.to_owned() });
        }
        // What all versions share lies beside them.
        let places = [path, said.folder.as_path()].map(|folder| folder.join(file));
        match places.iter().find(|place| place.is_file()) {
            Some(found) => Ok(FileSource::Path(found.clone())),
            None => {
                // One that is there and is no file is what was meant.
                let place = places.iter().find(|place| place.exists()).unwrap_or(&places[0]);
                match files::open(place) {
                    Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                        Err(RepositoryError::unreadable(place, reason))
                    }
                    _ => Err(RepositoryError::Missing { path: place.clone(), by: file_name(&said.path) }),
                }
            }
        }
    };
    let manifest = &said.manifest;
    let disk = Disk(path.to_owned());
    let model = match &manifest.file {
        Some(file) => Some(inside("file", file)?),
        None => only_onnx(&disk, "").map_err(|error| error.at(path))?.map(|file| FileSource::Path(path.join(file))),
    };
    let optional = |key, file: Option<&String>| file.map(|file| inside(key, file)).transpose();
    let plugin = optional("plugin.file", manifest.plugin.as_ref().map(|section| &section.file))?;
    let labels = optional("labels", manifest.labels.as_ref())?;
    if model.is_none() && plugin.is_none() {
        return Err(RepositoryError::Empty { path: path.to_owned() });
    }
    let samples = match &said.samples {
        Some(named) => named.iter().map(|sample| raw_sample(said, sample)).collect::<Result<_, _>>()?,
        None => samples_in(&[path, &said.folder])?,
    };
    if let Some(signed) = known.signed.as_ref().filter(|_| said.path.exists()) {
        signed.check_used(&said.path)?;
    }
    let files = Files { model, plugin, labels, samples };
    assemble(name, version, files, manifest.clone(), &said.path, known)
}

/// The samples of the first of these folders that has any.
fn samples_in(folders: &[&Path]) -> Result<Vec<Sample>, RepositoryError> {
    let Some(folder) = folders.iter().map(|folder| folder.join(WARMUP)).find(|folder| folder.exists()) else {
        return Ok(Vec::new());
    };
    if !folder.is_dir() {
        let reason = io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder of samples");
        return Err(RepositoryError::unreadable(&folder, reason));
    }
    let entries = Disk(folder.clone()).entries("")?;
    let files = entries.into_iter().filter(|(_, is_folder)| !is_folder);
    Ok(files.map(|(file, _)| Sample::new(FileSource::Path(folder.join(file)))).collect())
}

/// One that Triton's configuration names.
fn raw_sample(said: &Said, sample: &RawSample) -> Result<Sample, RepositoryError> {
    if !is_inside(&sample.file) {
        let (path, value) = (said.path.clone(), sample.file.clone());
        return Err(RepositoryError::Outside { path, key: "model_warmup.inputs.input_data_file", value });
    }
    let path = said.folder.join(WARMUP).join(&sample.file);
    if !path.is_file() {
        return Err(RepositoryError::Missing { path, by: file_name(&said.path) });
    }
    let raw = Some((sample.dtype, sample.shape.clone()));
    Ok(Sample { input: sample.input.clone(), file: FileSource::Path(path), raw })
}

pub(super) fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, RepositoryError> {
    Manifest::parse(text).map_err(|reason| RepositoryError::Manifest { path: path.to_owned(), reason })
}
