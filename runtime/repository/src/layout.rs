//! How models lie on disk: a bare `.onnx`, a folder with or without a manifest, numbered folders, a folder of models.

mod assemble;
mod checksum;
mod folder;
mod version;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use corymb_core::{FileSource, files};

pub(crate) use self::assemble::{Demands, Verified};
pub use self::folder::{Held, ModelFolder, PluginFile};

use self::assemble::{Files, Known, assemble};
use self::version::{bare_file, parse_manifest};
use crate::error::RepositoryError;
use crate::listed::{Lies, Listed, text_in};
use crate::onnx::is_onnx;
use crate::plan::{self, Ask, MOST_SAID, Plan, Planned};
use crate::sample::Sample;
use crate::shape::{Aside, Disk, MANIFEST, WARMUP};
use crate::signature::{Kept, SIGNATURE, SignaturePolicy, Signed, check_file, check_folder, unsigned};
use crate::uri::{ModelUri, Place};

/// The model at `uri`, which is of this machine, under the name `name`: a path or `file://` to an `.onnx` file or a
/// folder. Of numbered folders those that the policy of the manifest takes, ascending; by default the latest alone.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn open(name: &str, uri: &str, signatures: &SignaturePolicy) -> Result<Vec<ModelFolder>, RepositoryError> {
    let (path, sha256) = local(uri)?;
    open_local(name, &path, sha256.as_deref(), signatures)
}

/// The same of the numbered folders before `version`, where the manifest does not say which.
pub(crate) fn open_before(
    name: &str,
    uri: &str,
    version: u64,
    signatures: &SignaturePolicy,
) -> Result<Vec<ModelFolder>, RepositoryError> {
    let (path, _) = local(uri)?;
    if !path.is_dir() {
        return Err(RepositoryError::Empty { path });
    }
    let (verified, trust) = (Verified::new(), signatures.of(name));
    let demands = Demands { verified: &verified, trust: trust.as_deref(), kept: Kept::All };
    open_folder(&path, Ask { before: Some(version), ..Ask::of(name) }, demands)
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
    let looked = Looked::at(uri, name)?;
    if let Lies::Nothing(below) = looked.lies {
        return Ok(Found::None(below, looked.path));
    }
    let (path, sha256) = (looked.path.clone(), looked.sha256.clone());
    let mut models = Vec::new();
    for listed in looked.listed() {
        match &listed.item {
            Some(item) => {
                let opened = open_local(&listed.name, &path.join(item.path()), None, signatures);
                models.push((listed.name, opened));
            }
            None => {
                let opened = open_local(&listed.name, &path, sha256.as_deref(), signatures);
                return Ok(Found::One(listed.name, opened));
            }
        }
    }
    Ok(Found::Many(models))
}

/// The names of what [`look_into`] would open.
///
/// # Errors
/// When the place cannot be read.
pub(crate) fn list(uri: &str, name: Option<&str>) -> Result<Vec<Listed>, RepositoryError> {
    Ok(Looked::at(uri, name)?.listed())
}

/// One of the models that [`list`] names.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn open_listed(
    uri: &str,
    listed: &Listed,
    signatures: &SignaturePolicy,
) -> Result<Vec<ModelFolder>, RepositoryError> {
    let (path, sha256) = local(uri)?;
    match &listed.item {
        Some(item) => open_local(&listed.name, &path.join(item.path()), None, signatures),
        None => open_local(&listed.name, &path, sha256.as_deref(), signatures),
    }
}

/// A place of this machine.
struct Looked {
    path: PathBuf,
    sha256: Option<String>,
    /// The name of the model that it is, if it is one.
    own: String,
    is_given: bool,
    lies: Lies,
}

impl Looked {
    fn at(uri: &str, name: Option<&str>) -> Result<Self, RepositoryError> {
        let (path, sha256) = local(uri)?;
        let path = fs::canonicalize(&path).map_err(|reason| RepositoryError::unreadable(&path, reason))?;
        let own = name.map_or_else(|| own_name(&path), str::to_owned);
        let is_given = name.is_some();
        let (lies, asides) = match path.is_file() {
            true => (Lies::Itself, Vec::new()),
            false => Lies::of(&Disk(path.clone()), is_given)?,
        };
        asides.iter().for_each(Aside::announce);
        Ok(Self { path, sha256, own, is_given, lies })
    }

    fn listed(self) -> Vec<Listed> {
        let folders =
            if self.is_given || self.path.is_file() { Vec::new() } else { self.lies.texts(&Disk(self.path.clone())) };
        let read = |folder: String| {
            // What cannot be read is said when it is opened.
            let text = files::read_text(&self.path.join(text_in(&folder)), MOST_SAID).ok()?;
            Some((folder, text))
        };
        let texts = folders.into_iter().filter_map(read).collect();
        self.lies.listed(&self.own, &texts)
    }
}

/// What a model is called that lies at `path`, whose links have been followed: as its folder, or its file without the ending.
pub(crate) fn own_name(path: &Path) -> String {
    let name = if path.is_file() { path.file_stem() } else { path.file_name() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// What lies in a place that may be one model or hold several: by name the versions of each, or what is wrong with it.
#[derive(Debug)]
pub enum Found {
    /// No model; for messages those that lie below it, and the place.
    None(Vec<String>, PathBuf),
    /// The place is a model itself.
    One(String, Result<Vec<ModelFolder>, RepositoryError>),
    /// Each folder in it is one, and each `.onnx` file.
    Many(Vec<(String, Result<Vec<ModelFolder>, RepositoryError>)>),
}

impl Found {
    /// All of them.
    ///
    /// # Errors
    /// The first thing that is wrong; that there is none, too.
    pub fn all(self) -> Result<Vec<ModelFolder>, RepositoryError> {
        match self {
            Self::None(names, path) if !names.is_empty() => Err(RepositoryError::Below { path, names }),
            Self::None(_, path) => Err(RepositoryError::Empty { path }),
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
    let meta = fs::metadata(path).map_err(|reason| RepositoryError::unreadable(path, reason))?;
    if meta.is_file() {
        let signed = demands.trust.map(|trust| check_file(path, trust, demands.kept)).transpose()?;
        announce(name, signed.as_ref());
        return Ok(vec![bare_file(name, path, sha256, &Known::of(&demands, signed))?]);
    }
    open_folder(path, Ask::of(name), demands)
}

/// The versions of a folder. One that cannot be opened, as while it is being written, counts as not there, unless it is named; an
/// older one may stand for it.
fn open_folder(path: &Path, mut ask: Ask<'_>, demands: Demands<'_>) -> Result<Vec<ModelFolder>, RepositoryError> {
    // Before anything that it says is believed.
    let signed = signature_in(path, demands)?;
    let mut first = None;
    loop {
        // Without those that were passed over there may be none of those that are asked for.
        let plan = match plan::of_disk(path, &ask) {
            Ok(plan) => plan,
            Err(error) => return Err(first.unwrap_or(error)),
        };
        plan.announce(ask.name);
        let may_pass = plan.numbered && !plan.named;
        let (number, error) = match open_plan(ask.name, path, plan, signed.clone(), demands) {
            Ok(opened) => return Ok(opened),
            Err((Some(number), error)) if may_pass => (number, error),
            Err((_, error)) => return Err(first.unwrap_or(error)),
        };
        tracing::warn!(model = ask.name, version = number, %error, "this version cannot be opened; it is passed over");
        ask.without.push(number);
        first = first.or(Some(error));
    }
}

/// What was planned of the folder at `path`, of which `signed` is what its own signature covers, where that was looked at; which version could not be opened, where it is one of them.
pub(crate) fn open_plan(
    name: &str,
    path: &Path,
    plan: Plan,
    signed: Option<Signed>,
    demands: Demands<'_>,
) -> Result<Vec<ModelFolder>, (Option<u64>, RepositoryError)> {
    let of_all = |error| (None, error);
    let base = path.join(&plan.base);
    let mut signed = signed.filter(|_| plan.base.is_empty());
    if signed.is_none() {
        signed = signature_in(&base, demands).map_err(of_all)?;
    }
    if demands.trust.is_some() && signed.is_none() {
        if !plan.numbered {
            return Err(of_all(unsigned(&base.join(SIGNATURE))));
        }
        // Without a signature of all there must be one of each, and nothing beside them counts.
        let mut each = Signed::default();
        for version in &plan.versions {
            let place = path.join(&version.folder);
            let own = signature_in(&place, demands).map_err(of_all)?;
            each = each.and(own.ok_or_else(|| of_all(unsigned(&place.join(SIGNATURE))))?);
        }
        if let Some(top) = &plan.top {
            each.check_used(&path.join(top)).map_err(of_all)?;
        }
        signed = Some(each);
    }
    announce(name, signed.as_ref());
    let known = Known::of(&demands, signed);
    let open = |version: Planned| {
        let number = version.number;
        version::planned(name, path, version, &known).map_err(|error| (Some(number), error))
    };
    plan.versions.into_iter().map(open).collect()
}

/// What the signature in a folder covers, where one is demanded; none where there is none.
fn signature_in(folder: &Path, demands: Demands<'_>) -> Result<Option<Signed>, RepositoryError> {
    match demands.trust {
        Some(trust) => check_folder(folder, trust, demands.kept),
        None => Ok(None),
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
    let missing = |file: &str| RepositoryError::Missing { path: file.into(), by: MANIFEST.to_owned() };
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

#[cfg(test)]
mod tests;
