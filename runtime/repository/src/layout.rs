//! How models lie on disk: a bare `.onnx`, a folder with or without a manifest, numbered folders, a folder of models.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use corymb_core::{FileSource, ModelFiles};
use sha2::{Digest as _, Sha256};

use crate::error::RepositoryError;
use crate::manifest::Manifest;
use crate::sample::Sample;

/// The name of the manifest in a model's folder.
const MANIFEST: &str = "model.toml";
/// The folder of warm-up samples in a model's folder.
const WARMUP: &str = "warmup";

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

/// The model at `uri` under the name `name`: a path or `file://` to an `.onnx` file or a folder. Of numbered folders
/// the one with the largest number is taken.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn open(name: &str, uri: &str) -> Result<ModelFolder, RepositoryError> {
    check_name(name)?;
    let path = local_path(uri)?;
    let meta = fs::metadata(&path).map_err(|reason| unreadable(&path, reason))?;
    if meta.is_file() {
        return bare_file(name, path);
    }
    match Layout::of(&path)? {
        Layout::Model => folder(name, "1", &path),
        Layout::Versions(versions) => {
            let latest = versions.last().copied().unwrap_or_default();
            folder(name, &latest.to_string(), &version_folder(&path, latest)?)
        }
        Layout::Models(_) | Layout::Nothing => Err(RepositoryError::Empty { path }),
    }
}

/// What `--model-dir` names: a model itself (named `name`, or as its folder), or a folder of models, each named as its
/// folder.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn open_dir(uri: &str, name: Option<&str>) -> Result<Vec<ModelFolder>, RepositoryError> {
    let path = local_path(uri)?;
    let path = fs::canonicalize(&path).map_err(|reason| unreadable(&path, reason))?;
    let own_name = || name.map_or_else(|| file_name(&path), str::to_owned);
    if path.is_file() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![open(name.unwrap_or(&stem), &path.to_string_lossy())?]);
    }
    match Layout::of(&path)? {
        Layout::Model | Layout::Versions(_) => Ok(vec![open(&own_name(), &path.to_string_lossy())?]),
        Layout::Models(folders) => {
            folders.iter().map(|folder| open(&file_name(folder), &folder.to_string_lossy())).collect()
        }
        Layout::Nothing => Err(RepositoryError::Empty { path }),
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
        None => files.iter().find(|(name, _)| is_onnx(Path::new(name))).and_then(|(name, _)| find(name)),
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
    assemble(name, "1", Files { model, plugin, labels, samples }, manifest, manifest_path)
}

enum Layout {
    /// A manifest or an `.onnx` file lies in it.
    Model,
    /// Numbered folders, ascending.
    Versions(Vec<u64>),
    /// Folders that are models.
    Models(Vec<PathBuf>),
    Nothing,
}

impl Layout {
    fn of(path: &Path) -> Result<Self, RepositoryError> {
        let entries = entries(path)?;
        let is_model = |entry: &PathBuf| entry.is_file() && (is_onnx(entry) || file_name(entry) == MANIFEST);
        if entries.iter().any(is_model) {
            return Ok(Self::Model);
        }
        let mut numbers: Vec<u64> = entries
            .iter()
            .filter(|entry| entry.is_dir())
            .filter_map(|entry| version_number(&file_name(entry)))
            .collect();
        if !numbers.is_empty() {
            numbers.sort_unstable();
            return Ok(Self::Versions(numbers));
        }
        let mut models = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.is_dir() && !file_name(entry).starts_with('.')) {
            if matches!(Self::of_model(&entry)?, Self::Model | Self::Versions(_)) {
                models.push(entry);
            }
        }
        Ok(if models.is_empty() { Self::Nothing } else { Self::Models(models) })
    }

    /// As [`Layout::of`], without looking for models inside: a repository is one level deep.
    fn of_model(path: &Path) -> Result<Self, RepositoryError> {
        let entries = entries(path)?;
        if entries.iter().any(|entry| entry.is_file() && (is_onnx(entry) || file_name(entry) == MANIFEST)) {
            return Ok(Self::Model);
        }
        let numbered = entries.iter().any(|entry| entry.is_dir() && version_number(&file_name(entry)).is_some());
        Ok(if numbered { Self::Versions(Vec::new()) } else { Self::Nothing })
    }
}

/// Leading zeros are understood: `01` is version 1.
fn version_number(name: &str) -> Option<u64> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

fn version_folder(path: &Path, version: u64) -> Result<PathBuf, RepositoryError> {
    let found =
        entries(path)?.into_iter().find(|entry| entry.is_dir() && version_number(&file_name(entry)) == Some(version));
    found.ok_or_else(|| RepositoryError::Empty { path: path.to_owned() })
}

fn bare_file(name: &str, path: PathBuf) -> Result<ModelFolder, RepositoryError> {
    if !is_onnx(&path) {
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "not an .onnx file");
        return Err(unreadable(&path, reason));
    }
    let manifest = Manifest::default();
    let files = Files { model: Some(FileSource::Path(path)), ..Files::default() };
    assemble(name, "1", files, manifest, Path::new(MANIFEST))
}

fn folder(name: &str, version: &str, path: &Path) -> Result<ModelFolder, RepositoryError> {
    let manifest_path = path.join(MANIFEST);
    let text = match fs::read_to_string(&manifest_path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(reason) => return Err(unreadable(&manifest_path, reason)),
    };
    let manifest = parse_manifest(&manifest_path, &text)?;
    let inside = |key: &'static str, file: &str| -> Result<FileSource, RepositoryError> {
        let outside = || RepositoryError::Outside { path: manifest_path.clone(), key, value: file.to_owned() };
        let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || file.is_empty() {
            return Err(outside());
        }
        let full = path.join(file);
        if !full.is_file() {
            return Err(RepositoryError::Missing { path: full });
        }
        Ok(FileSource::Path(full))
    };
    let model = match &manifest.file {
        Some(file) => Some(inside("file", file)?),
        None => only_onnx(path)?.map(FileSource::Path),
    };
    let plugin = match &manifest.plugin {
        Some(section) => Some(inside("plugin.file", &section.file)?),
        None => None,
    };
    let labels = match &manifest.labels {
        Some(file) => Some(inside("labels", file)?),
        None => None,
    };
    if model.is_none() && plugin.is_none() {
        return Err(RepositoryError::Empty { path: path.to_owned() });
    }
    let warmup = path.join(WARMUP);
    let samples = if warmup.is_dir() { entries(&warmup)? } else { Vec::new() };
    let samples = samples.into_iter().filter(|file| file.is_file()).map(|file| Sample::new(FileSource::Path(file)));
    let files = Files { model, plugin, labels, samples: samples.collect() };
    assemble(name, version, files, manifest, &manifest_path)
}

/// What was found in a folder.
#[derive(Default)]
struct Files {
    model: Option<FileSource>,
    plugin: Option<FileSource>,
    labels: Option<FileSource>,
    samples: Vec<Sample>,
}

fn assemble(
    name: &str,
    version: &str,
    files: Files,
    manifest: Manifest,
    manifest_path: &Path,
) -> Result<ModelFolder, RepositoryError> {
    if let Some(expected) = &manifest.sha256 {
        let Some(file) = &files.model else {
            let reason = "`sha256` is given, but there is no model file".to_owned();
            return Err(RepositoryError::Manifest { path: manifest_path.to_owned(), reason });
        };
        verify(file, expected)?;
    }
    let labels = match &files.labels {
        Some(file) => {
            let bytes = file.read().map_err(|reason| unreadable(Path::new(&file.name()), reason))?;
            String::from_utf8_lossy(&bytes).lines().map(|line| line.trim().to_owned()).collect()
        }
        None => Vec::new(),
    };
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
    })
}

fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, RepositoryError> {
    Manifest::parse(text).map_err(|reason| RepositoryError::Manifest { path: path.to_owned(), reason })
}

/// Read in pieces: a model may be larger than memory should be.
fn verify(file: &FileSource, expected: &str) -> Result<(), RepositoryError> {
    let mut hasher = Sha256::new();
    match file {
        FileSource::Embedded { bytes, .. } => hasher.update(bytes),
        FileSource::Path(path) => {
            let mut reader = fs::File::open(path).map_err(|reason| unreadable(path, reason))?;
            let mut piece = vec![0; 256 * 1024];
            loop {
                match reader.read(&mut piece).map_err(|reason| unreadable(path, reason))? {
                    0 => break,
                    read => hasher.update(&piece[..read]),
                }
            }
        }
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let path = match file {
        FileSource::Path(path) => path.clone(),
        FileSource::Embedded { name, .. } => name.into(),
    };
    Err(RepositoryError::Checksum { path, found, expected: expected.to_owned() })
}

fn only_onnx(path: &Path) -> Result<Option<PathBuf>, RepositoryError> {
    let mut models: Vec<_> = entries(path)?.into_iter().filter(|entry| entry.is_file() && is_onnx(entry)).collect();
    match models.len() {
        0 | 1 => Ok(models.pop()),
        count => Err(RepositoryError::Ambiguous { path: path.to_owned(), count }),
    }
}

/// Sorted, so that what is taken does not depend on the file system.
fn entries(path: &Path) -> Result<Vec<PathBuf>, RepositoryError> {
    let listing = fs::read_dir(path).map_err(|reason| unreadable(path, reason))?;
    let mut entries = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|reason| unreadable(path, reason))?;
    entries.sort();
    Ok(entries)
}

fn local_path(uri: &str) -> Result<PathBuf, RepositoryError> {
    match uri.split_once("://") {
        None => Ok(uri.into()),
        Some(("file", path)) => Ok(path.into()),
        Some((scheme, _)) => Err(RepositoryError::Scheme { uri: uri.to_owned(), scheme: scheme.to_owned() }),
    }
}

/// A name becomes part of URLs, metrics and cache paths.
fn check_name(name: &str) -> Result<(), RepositoryError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let valid = name.len() <= 128
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(plain);
    if valid { Ok(()) } else { Err(RepositoryError::Name(name.to_owned())) }
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "onnx")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unreadable(path: &Path, reason: io::Error) -> RepositoryError {
    RepositoryError::Unreadable { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, each holding its own name.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("inside")).expect("created");
            fs::write(path, file).expect("written");
        }
        root
    }

    fn uri(root: &tempfile::TempDir, path: &str) -> String {
        root.path().join(path).to_string_lossy().into_owned()
    }

    fn model_name(folder: &ModelFolder) -> String {
        folder.model.as_ref().expect("a model").model.name()
    }

    #[test]
    fn files_folders_and_version_trees_are_models() {
        let root =
            tree(&["bare.onnx", "plain/net.onnx", "plain/warmup/x.npy", "tree/1/a.onnx", "tree/02/b.onnx", "tree/x"]);
        let bare = open("m", &uri(&root, "bare.onnx")).expect("valid");
        assert_eq!((model_name(&bare).as_str(), bare.version.as_str()), ("bare.onnx", "1"));
        let plain = open("m", &format!("file://{}", uri(&root, "plain"))).expect("valid");
        assert_eq!(model_name(&plain), "net.onnx");
        assert_eq!(plain.samples[0].input, "x");
        let tree = open("m", &uri(&root, "tree")).expect("valid");
        assert_eq!((model_name(&tree).as_str(), tree.version.as_str()), ("b.onnx", "2"));
    }

    #[test]
    fn a_model_dir_is_one_model_or_many() {
        let root = tree(&["repo/a/m.onnx", "repo/b/1/m.onnx", "repo/notes/readme.md", "one/m.onnx", "none/x.txt"]);
        let names = |dir: &str, name| -> Vec<String> {
            open_dir(&uri(&root, dir), name).expect("valid").into_iter().map(|folder| folder.name).collect()
        };
        assert_eq!(names("repo", None), ["a", "b"]);
        assert_eq!(names("one", None), ["one"]);
        assert_eq!(names("one", Some("other")), ["other"]);
        assert!(matches!(open_dir(&uri(&root, "none"), None), Err(RepositoryError::Empty { .. })));
    }

    #[test]
    fn mistakes_name_the_file() {
        let root = tree(&["two/a.onnx", "two/b.onnx", "m/model.onnx", "evil/m.onnx"]);
        let manifest = |dir: &str, text: &str| fs::write(root.path().join(dir).join(MANIFEST), text).expect("written");
        let message = |dir: &str| open("m", &uri(&root, dir)).expect_err(dir).to_string();

        assert!(message("two").contains("2 .onnx files; name one by `file`"), "{}", message("two"));
        assert!(message("absent").contains("absent: No such file"));
        assert!(open("m", "s3://bucket/x").expect_err("scheme").to_string().contains("scheme 's3' is not supported"));
        manifest("m", "file = 'other.onnx'");
        assert!(message("m").contains("other.onnx: no such file, but the manifest names it"));
        manifest("m", &format!("sha256 = '{}'", "0".repeat(64)));
        assert!(message("m").contains("the manifest says 0000"));
        for outside in ["../m/model.onnx", "/etc/passwd", ""] {
            manifest("evil", &format!("file = '{outside}'"));
            assert!(message("evil").contains("must name a file in the model's own folder"), "{}", message("evil"));
        }
        for name in ["", ".", "..", "a/b", "ä", "-x"] {
            assert!(matches!(open(name, &uri(&root, "two")), Err(RepositoryError::Name(_))), "{name}");
        }
    }

    #[test]
    fn the_checksum_is_of_the_model() {
        let root = tree(&["m/model.onnx"]);
        let digest: String = Sha256::digest(b"m/model.onnx").iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(root.path().join("m").join(MANIFEST), format!("sha256 = '{digest}'")).expect("written");
        assert!(open("m", &uri(&root, "m")).is_ok());
    }

    #[test]
    fn embedded_files_are_a_folder() {
        let manifest = Bytes::from_static(b"file = 'model.onnx'\n[plugin]\nfile = 'p.wasm'\nheaders = ['X-A']");
        let file = |name: &'static str| (name, Bytes::from_static(name.as_bytes()));
        let files = [(MANIFEST, manifest), file("model.onnx"), file("p.wasm"), file("warmup/image_bytes.jpg")];
        let folder = embedded("flowers", &files).expect("valid");
        assert_eq!(model_name(&folder), "model.onnx");
        assert_eq!(folder.plugin.expect("given").headers, ["x-a"]);
        assert_eq!(folder.samples[0].input, "image_bytes");
        assert!(matches!(embedded("flowers", &files[..2]), Err(RepositoryError::Missing { .. })));
    }
}
