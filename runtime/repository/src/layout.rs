//! How models lie on disk: a bare `.onnx`, a folder with or without a manifest, numbered folders, a folder of models.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use corymb_core::{FileSource, ModelFiles};

use crate::cache::{Hold, key};
use crate::error::RepositoryError;
use crate::manifest::{Manifest, VersionsSection};
use crate::onnx::external_data;
use crate::revision;
use crate::sample::Sample;
use crate::shape::{Disk, Folders as _, MANIFEST, Shape, TRITON, is_onnx, only_onnx};
use crate::signature::{Kept, SIGNATURE, SignaturePolicy, Signed, Trust, check_file, check_folder, unsigned};
use crate::store::Algorithm;
use crate::triton::{RawSample, Triton};
use crate::uri::{ModelUri, Place};

/// The folder of warm-up samples in a model's folder.
pub(crate) const WARMUP: &str = "warmup";

/// One version of a model, checked: its files exist, lie in its folder, and have the checksum that is stated.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// As clients name it.
    pub name: String,
    /// The number of its folder; 1 where there is none.
    pub version: String,
    /// The ONNX model; none for a plugin that stands alone.
    pub model: Option<ModelFiles>,
    /// The plugin around it.
    pub plugin: Option<PluginFile>,
    /// Class names in the order of the scores; empty where the manifest names no file of them.
    pub labels: Vec<String>,
    /// What the manifest says, or its defaults.
    pub manifest: Manifest,
    /// One per input, for warm-up.
    pub samples: Vec<Sample>,
    /// Who signed it and what, where a signature was demanded.
    pub signed: Option<Arc<Signed>>,
    /// Changes when a file that it is loaded from does, or what its manifest says beside `[versions]`; empty where that
    /// cannot be told.
    pub stamp: String,
    /// What was fetched stays in the cache as long as this or a copy of it lives.
    pub held: Held,
}

/// A hold on a model's files in the cache; on nothing for a model that was not fetched. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Held {
    _hold: Option<Arc<Hold>>,
}

impl Held {
    pub(crate) fn new(hold: Hold) -> Self {
        Self { _hold: Some(Arc::new(hold)) }
    }
}

/// A plugin's component and how it is configured.
#[derive(Clone, Debug)]
pub struct PluginFile {
    /// The component.
    pub file: FileSource,
    /// Lower-case names of request headers that it sees as parameters.
    pub headers: Vec<String>,
    /// JSON for `configure`.
    pub config: String,
}

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
struct Known {
    verified: Verified,
    /// Where a signature is demanded.
    signed: Option<Arc<Signed>>,
}

impl Known {
    fn of(demands: &Demands<'_>, signed: Option<Signed>) -> Self {
        let mut verified = demands.verified.clone();
        // What was read for the signature is not read for the manifest's checksum once more.
        verified.extend(signed.iter().flat_map(Signed::digests));
        Self { verified, signed: signed.map(Arc::new) }
    }
}

/// The model at `uri`, which is of this machine, under the name `name`: a path or `file://` to an `.onnx` file or a
/// folder. Of numbered folders those that the policy of the manifest takes, ascending; by default the latest alone.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn open(name: &str, uri: &str, signatures: &SignaturePolicy) -> Result<Vec<ModelFolder>, RepositoryError> {
    let (path, sha256) = local(uri)?;
    open_local(name, &path, sha256.as_deref(), signatures)
}

fn open_local(
    name: &str,
    path: &Path,
    sha256: Option<&str>,
    signatures: &SignaturePolicy,
) -> Result<Vec<ModelFolder>, RepositoryError> {
    let (verified, trust) = (Verified::new(), signatures.of(name));
    open_path(name, path, sha256, Demands { verified: &verified, trust: trust.as_deref(), kept: Kept::All })
}

/// What `--model-dir` names on this machine: a model itself (named `name`, or as its folder), or a folder of models,
/// each named as its folder.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn open_dir(
    uri: &str,
    name: Option<&str>,
    signatures: &SignaturePolicy,
) -> Result<Vec<ModelFolder>, RepositoryError> {
    look_into(uri, name, signatures)?.all()
}

/// The same, with what is wrong with each model beside it.
pub(crate) fn look_into(uri: &str, name: Option<&str>, signatures: &SignaturePolicy) -> Result<Found, RepositoryError> {
    let (path, sha256) = local(uri)?;
    let path = fs::canonicalize(&path).map_err(|reason| unreadable(&path, reason))?;
    if path.is_file() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.unwrap_or(&stem);
        return Ok(Found::One(name.to_owned(), open_local(name, &path, sha256.as_deref(), signatures)));
    }
    match Shape::of(&Disk(path.clone()), "")? {
        Shape::Models(folders) => {
            let open = |folder: String| {
                let models = open_local(&folder, &path.join(&folder), None, signatures);
                (folder, models)
            };
            Ok(Found::Many(folders.into_iter().map(open).collect()))
        }
        Shape::Nothing => Ok(Found::None(path)),
        _ => {
            let own_name = name.map_or_else(|| file_name(&path), str::to_owned);
            let opened = open_local(&own_name, &path, None, signatures);
            Ok(Found::One(own_name, opened))
        }
    }
}

/// What lies in a place that may be one model or hold several: by name the versions of each, or what is wrong with it.
#[derive(Debug)]
pub enum Found {
    /// No model. The place, for messages.
    None(PathBuf),
    /// The place is a model itself.
    One(String, Result<Vec<ModelFolder>, RepositoryError>),
    /// Each folder in it is one.
    Many(Vec<(String, Result<Vec<ModelFolder>, RepositoryError>)>),
}

impl Found {
    /// All of them.
    ///
    /// # Errors
    /// The first thing that is wrong; that there is none, too.
    pub fn all(self) -> Result<Vec<ModelFolder>, RepositoryError> {
        match self {
            Self::None(path) => Err(RepositoryError::Empty { path }),
            Self::One(_, opened) => opened,
            Self::Many(models) => {
                Ok(models.into_iter().map(|(_, opened)| opened).collect::<Result<Vec<_>, _>>()?.concat())
            }
        }
    }
}

/// A file, a folder with a model, or numbered folders.
pub(crate) fn open_path(
    name: &str,
    path: &Path,
    sha256: Option<&str>,
    demands: Demands<'_>,
) -> Result<Vec<ModelFolder>, RepositoryError> {
    check_name(name)?;
    let meta = fs::metadata(path).map_err(|reason| unreadable(path, reason))?;
    if meta.is_file() {
        let signed = demands.trust.map(|trust| check_file(path, trust, demands.kept)).transpose()?;
        announce(name, signed.as_ref());
        return Ok(vec![bare_file(name, path, sha256, &Known::of(&demands, signed))?]);
    }
    let signature_in = |folder: &Path| match demands.trust {
        Some(trust) => check_folder(folder, trust, demands.kept),
        None => Ok(None),
    };
    let shape = Shape::of(&Disk(path.to_owned()), "")?;
    let whole = match shape {
        Shape::Model | Shape::Versions(_) => signature_in(path)?,
        _ => None,
    };
    if demands.trust.is_some() && whole.is_none() && shape == Shape::Model {
        return Err(unsigned(&path.join(SIGNATURE)));
    }
    match shape {
        Shape::Model => {
            announce(name, whole.as_ref());
            Ok(vec![folder(name, "1", path, None, &Known::of(&demands, whole))?])
        }
        Shape::Versions(versions) => {
            let top = manifest_of(name, path)?;
            let numbers: Vec<u64> = versions.iter().map(|(number, _)| *number).collect();
            let taken = top
                .manifest
                .versions
                .select(&numbers)
                .map_err(|reason| RepositoryError::Manifest { path: top.path.clone(), reason })?;
            let wanted = versions.iter().filter(|(number, _)| taken.contains(number));
            let mut signed = whole;
            if demands.trust.is_some() && signed.is_none() {
                // Without a signature of all there must be one of each, and nothing beside them counts.
                let mut each = Signed::default();
                for (_, version) in wanted.clone() {
                    let place = path.join(version);
                    each = each.and(signature_in(&place)?.ok_or_else(|| unsigned(&place.join(SIGNATURE)))?);
                }
                if top.path.exists() {
                    each.check_used(&top.path)?;
                }
                signed = Some(each);
            }
            announce(name, signed.as_ref());
            let known = Known::of(&demands, signed);
            let open = |(number, folder_name): &(u64, String)| {
                let own = folder(name, &number.to_string(), &path.join(folder_name), Some(&top), &known)?;
                // Which versions are served is not for one of them to say.
                let manifest = Manifest { versions: top.manifest.versions.clone(), ..own.manifest };
                Ok(ModelFolder { manifest, ..own })
            };
            wanted.map(open).collect()
        }
        Shape::SavedModel => Err(RepositoryError::SavedModel { path: path.to_owned() }),
        Shape::Models(_) | Shape::Nothing => Err(RepositoryError::Empty { path: path.to_owned() }),
    }
}

/// A model whose files are inside the binary: `(name, content)` each, laid out as a folder would be.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn embedded(name: &str, files: &[(&str, Bytes)]) -> Result<ModelFolder, RepositoryError> {
    let find = |wanted: &str| {
        let bytes = files.iter().find(|(name, _)| *name == wanted)?.1.clone();
        let name = wanted.rsplit('/').next().unwrap_or(wanted).to_owned();
        Some(FileSource::Embedded { name, bytes })
    };
    let manifest_path = Path::new(MANIFEST);
    let text = files.iter().find(|(name, _)| *name == MANIFEST).map(|(_, bytes)| String::from_utf8_lossy(bytes));
    let manifest = parse_manifest(manifest_path, text.as_deref().unwrap_or_default())?;
    let missing = |file: &str| RepositoryError::Missing { path: file.into() };
    let model = match &manifest.file {
        Some(file) => Some(find(file).ok_or_else(|| missing(file))?),
        None => files.iter().find(|(name, _)| is_onnx(name)).and_then(|(name, _)| find(name)),
    };
    let plugin = match &manifest.plugin {
        Some(section) => Some(find(&section.file).ok_or_else(|| missing(&section.file))?),
        None => None,
    };
    let labels = match &manifest.labels {
        Some(file) => Some(find(file).ok_or_else(|| missing(file))?),
        None => None,
    };
    let samples = files.iter().filter(|(name, _)| name.starts_with(WARMUP)).filter_map(|(name, _)| find(name));
    let samples = samples.map(Sample::new).collect();
    assemble(name, "1", Files { model, plugin, labels, samples }, manifest, manifest_path, &Known::default())
}

/// Says who signed a model, for whoever reads the log.
fn announce(name: &str, signed: Option<&Signed>) {
    if let Some(signed) = signed {
        tracing::info!(model = name, signed = signed.shown(), "signature verified");
    }
}

fn bare_file(name: &str, path: &Path, sha256: Option<&str>, known: &Known) -> Result<ModelFolder, RepositoryError> {
    if !is_onnx(&file_name(path)) {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "not an .onnx file");
        return Err(unreadable(path, reason));
    }
    let manifest = Manifest { sha256: sha256.map(str::to_owned), ..Manifest::default() };
    let files = Files { model: Some(FileSource::Path(path.to_owned())), ..Files::default() };
    assemble(name, "1", files, manifest, Path::new(MANIFEST), known)
}

/// What a folder says of its model, and the file in which it does.
pub(crate) struct Said {
    pub(crate) manifest: Manifest,
    pub(crate) path: PathBuf,
    folder: PathBuf,
    /// Triton names its samples; elsewhere they are what lies in their folder.
    samples: Option<Vec<RawSample>>,
}

/// The manifest of a folder, or what Triton's configuration in it comes to, or the defaults.
fn manifest_of(name: &str, folder: &Path) -> Result<Said, RepositoryError> {
    let read = |file: &str| {
        let path = folder.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(reason) => Err(unreadable(&path, reason)),
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
fn folder(
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
            None => Err(RepositoryError::Missing { path: places[0].clone() }),
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
    let Some(folder) = folders.iter().map(|folder| folder.join(WARMUP)).find(|folder| folder.is_dir()) else {
        return Ok(Vec::new());
    };
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
        return Err(RepositoryError::Missing { path });
    }
    let raw = Some((sample.dtype, sample.shape.clone()));
    Ok(Sample { input: sample.input.clone(), file: FileSource::Path(path), raw })
}

/// Whether a path stays in the folder that it is relative to.
pub(crate) fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

/// What was found in a folder.
#[derive(Default)]
struct Files {
    model: Option<FileSource>,
    plugin: Option<FileSource>,
    labels: Option<FileSource>,
    samples: Vec<Sample>,
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

fn assemble(
    name: &str,
    version: &str,
    files: Files,
    manifest: Manifest,
    manifest_path: &Path,
    known: &Known,
) -> Result<ModelFolder, RepositoryError> {
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
            let bytes = file.read().map_err(|reason| unreadable(Path::new(&file.name()), reason))?;
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

fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, RepositoryError> {
    Manifest::parse(text).map_err(|reason| RepositoryError::Manifest { path: path.to_owned(), reason })
}

/// Read in pieces: a model may be larger than memory should be.
fn verify(file: &FileSource, expected: &str, verified: &Verified) -> Result<(), RepositoryError> {
    let mut hasher = Algorithm::Sha256.hasher();
    let path = match file {
        FileSource::Embedded { name, bytes } => {
            hasher.update(bytes);
            PathBuf::from(name)
        }
        FileSource::Path(path) if verified.contains_key(path) => path.clone(),
        FileSource::Path(path) => {
            let mut reader = fs::File::open(path).map_err(|reason| unreadable(path, reason))?;
            let mut piece = vec![0; 256 * 1024];
            loop {
                match reader.read(&mut piece).map_err(|reason| unreadable(path, reason))? {
                    0 => break,
                    read => hasher.update(&piece[..read]),
                }
            }
            path.clone()
        }
    };
    let found = verified.get(&path).cloned().unwrap_or_else(|| hasher.finish());
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(RepositoryError::Checksum { path, found, expected: expected.to_owned() })
}

/// The path of a URI of this machine, and the checksum behind it.
fn local(uri: &str) -> Result<(PathBuf, Option<String>), RepositoryError> {
    let parsed = ModelUri::parse(uri)?;
    match parsed.place {
        Place::Local(path) => Ok((path, parsed.sha256)),
        _ => Err(RepositoryError::Uri { uri: crate::redact(uri), reason: "expected a path or file://".to_owned() }),
    }
}

/// A name becomes part of URLs, metrics and cache paths.
pub(crate) fn check_name(name: &str) -> Result<(), RepositoryError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let valid = name.len() <= 128
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(plain);
    if valid { Ok(()) } else { Err(RepositoryError::Name(name.to_owned())) }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unreadable(path: &Path, reason: io::Error) -> RepositoryError {
    RepositoryError::Unreadable { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests;
