//! What a folder is, told from the names in it: a model, versions of one, or a folder of models.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::error::RepositoryError;
use crate::onnx::is_onnx;
use crate::store::Listing;

/// The name of the manifest in a model's folder.
pub(crate) const MANIFEST: &str = "model.toml";
/// The name of Triton's configuration in a model's folder.
pub(crate) const TRITON: &str = "config.pbtxt";
/// The name of MLServer's settings in a model's folder.
pub(crate) const MLSERVER: &str = "model-settings.json";
/// The name of MLflow's description in a model's folder.
pub(crate) const MLFLOW: &str = "MLmodel";
/// What the model's file is called, where nothing says another name.
pub(crate) const USUAL: &str = "model.onnx";
/// The folder of warm-up samples in a model's folder.
pub(crate) const WARMUP: &str = "warmup";
/// What a TensorFlow SavedModel has in its folder.
const SAVED_MODELS: [&str; 2] = ["saved_model.pb", "saved_model.pbtxt"];

/// Something with folders: a disk, or the listing of a store.
pub(crate) trait Folders {
    /// What lies directly in the folder at `path`, sorted; true for folders.
    fn entries(&self, path: &str) -> Result<BTreeMap<String, bool>, RepositoryError>;

    /// What is at `path`, for messages.
    fn shown(&self, path: &str) -> String {
        path.to_owned()
    }

    /// Whether a file may not be used, whatever names it.
    fn is_forbidden(&self, _: &str) -> bool {
        false
    }
}

/// A folder of this machine.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Folders for Disk {
    fn entries(&self, path: &str) -> Result<BTreeMap<String, bool>, RepositoryError> {
        let folder = if path.is_empty() { self.0.clone() } else { self.0.join(path) };
        let unreadable = |reason| RepositoryError::Unreadable { path: folder.clone(), reason };
        let listing = fs::read_dir(&folder).map_err(unreadable)?;
        let entries = listing.map(|entry| {
            let path = entry?.path();
            Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path.is_dir()))
        });
        entries.collect::<io::Result<_>>().map_err(unreadable)
    }

    fn shown(&self, path: &str) -> String {
        if path.is_empty() { self.0.display().to_string() } else { self.0.join(path).display().to_string() }
    }
}

impl Folders for Listing {
    fn entries(&self, path: &str) -> Result<BTreeMap<String, bool>, RepositoryError> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut entries = BTreeMap::new();
        for (key, _) in self.range(prefix.clone()..) {
            let Some(rest) = key.strip_prefix(&prefix) else { break };
            match rest.split_once('/') {
                Some((folder, _)) => entries.insert(folder.to_owned(), true),
                None => entries.insert(rest.to_owned(), false),
            };
        }
        Ok(entries)
    }
}

/// A model in a folder of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Its file, where it is no folder.
    pub(crate) file: Option<String>,
}

impl Item {
    /// Where it lies in the folder of models.
    pub(crate) fn path(&self) -> &str {
        self.file.as_ref().unwrap_or(&self.name)
    }
}

/// What a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A text that describes a model or an `.onnx` file lies in it.
    Model,
    /// Numbered folders, ascending: each number with the folder's name.
    Versions(Vec<(u64, String)>),
    /// Folders that are models, and `.onnx` files beside them.
    Models(Vec<Item>),
    /// A repository as huggingface_hub keeps it: `snapshots/COMMIT`, and in `refs` which one a branch is.
    Snapshots,
    /// A TensorFlow SavedModel, here or in a numbered folder.
    SavedModel,
    Nothing,
}

/// What of a folder of models is not served, for whoever reads the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aside {
    /// A folder that cannot be read, and why.
    Unread { folder: String, reason: String },
    /// A file that has the name of a folder beside it.
    Hidden { file: String },
    /// A TensorFlow SavedModel.
    Saved { folder: String },
    /// A folder that is no model, and the paths of those below it.
    Deeper { folder: String, models: Vec<String> },
}

impl Aside {
    pub(crate) fn announce(&self) {
        match self {
            Self::Unread { folder, reason } => {
                tracing::warn!(folder, error = reason, "a folder cannot be read; what is in it is not served");
            }
            Self::Hidden { file } => {
                tracing::warn!(file, "a folder beside it has the same name; the file is not served");
            }
            Self::Saved { folder } => {
                tracing::warn!(folder, "a TensorFlow SavedModel, not an ONNX model; it is not served");
            }
            Self::Deeper { folder, models } => {
                let models = models.join(", ");
                tracing::warn!(
                    folder,
                    models,
                    "models lie deeper than a folder of models has them; they are not served: name each by --model NAME=PATH"
                );
            }
        }
    }
}

impl Shape {
    /// What the folder at `path` is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(folders: &dyn Folders, path: &str) -> Result<Self, RepositoryError> {
        Self::look(folders, path).map(|(shape, _)| shape)
    }

    /// What the folder at `path` is, and what of it is not served.
    pub(crate) fn look(folders: &dyn Folders, path: &str) -> Result<(Self, Vec<Aside>), RepositoryError> {
        let only = |shape| Ok((shape, Vec::new()));
        let entries = folders.entries(path)?;
        let is_folder = |name: &str| entries.get(name) == Some(&true);
        if is_folder("snapshots") && is_folder("refs") && is_folder("blobs") {
            return only(Self::Snapshots);
        }
        let own = Self::of_entries(folders, path, &entries)?;
        // Files alone may be a model beside folders of others.
        let is_said = [MANIFEST, TRITON, MLSERVER, MLFLOW].iter().any(|name| entries.get(*name) == Some(&false));
        let onnx = || entries.iter().filter(|(name, folder)| !**folder && is_onnx(name)).map(|(name, _)| name);
        if own != Self::Nothing && (own != Self::Model || is_said) {
            return only(own);
        }
        let (mut models, mut asides) = (Vec::new(), Vec::new());
        let mut saved = false;
        // A folder of a model's name holds its file.
        let may_hold = |name: &String| !is_hidden(name) && !is_onnx(name);
        for (name, _) in entries.iter().filter(|(name, folder)| **folder && may_hold(name)) {
            let inner = below(path, name);
            // A repository is one level deep. What nobody may look into is no model, and no reason to serve none.
            let found = folders.entries(&inner).and_then(|entries| Self::of_entries(folders, &inner, &entries));
            let found = found.unwrap_or_else(|error| {
                asides.push(Aside::Unread { folder: folders.shown(&inner), reason: error.to_string() });
                Self::Nothing
            });
            match found {
                Self::Model | Self::Versions(_) => models.push(Item { name: name.clone(), file: None }),
                Self::SavedModel => {
                    saved = true;
                    asides.push(Aside::Saved { folder: folders.shown(&inner) });
                }
                Self::Models(_) | Self::Snapshots | Self::Nothing => {}
            }
        }
        if own == Self::Model && models.is_empty() {
            return Ok((own, asides));
        }
        for file in onnx() {
            let name = file.trim_end_matches(".onnx");
            if models.iter().any(|model| model.name == name) {
                asides.push(Aside::Hidden { file: folders.shown(&below(path, file)) });
            } else {
                models.push(Item { name: name.to_owned(), file: Some(file.clone()) });
            }
        }
        models.sort_by(|one, other| one.name.cmp(&other.name));
        let shape = match (models.is_empty(), saved) {
            (false, _) => Self::Models(models),
            (true, true) => Self::SavedModel,
            (true, false) => Self::Nothing,
        };
        Ok((shape, asides))
    }

    fn of_entries(
        folders: &dyn Folders,
        path: &str,
        entries: &BTreeMap<String, bool>,
    ) -> Result<Self, RepositoryError> {
        let file = |wanted: &str| entries.get(wanted) == Some(&false);
        let has_onnx = has_onnx(folders, path, entries)?;
        let folders_only = entries.iter().filter(|(_, folder)| **folder);
        let mut versions: Vec<(u64, String)> =
            folders_only.filter_map(|(name, _)| Some((version_number(name)?, name.clone()))).collect();
        versions.sort();
        versions.dedup_by_key(|(number, _)| *number);
        // The newest first: of many one that is whole tells what they are.
        for (_, version) in versions.iter().rev() {
            let inner_path = below(path, version);
            let inner = folders.entries(&inner_path)?;
            let is_said = [MANIFEST, MLSERVER, MLFLOW].iter().any(|name| inner.get(*name) == Some(&false));
            // Triton's text may name a file of any ending.
            let is_named = file(TRITON) && inner.values().any(|folder| !folder);
            if is_said || is_named || self::has_onnx(folders, &inner_path, &inner)? {
                return Ok(Self::Versions(versions));
            }
            if SAVED_MODELS.iter().any(|name| inner.contains_key(*name)) && !has_onnx {
                return Ok(Self::SavedModel);
            }
        }
        if has_onnx || [MANIFEST, MLSERVER, MLFLOW].iter().any(|name| file(name)) {
            return Ok(if versions.is_empty() || has_onnx { Self::Model } else { Self::Versions(versions) });
        }
        if SAVED_MODELS.iter().any(|name| file(name)) {
            return Ok(Self::SavedModel);
        }
        Ok(if versions.is_empty() { Self::Nothing } else { Self::Versions(versions) })
    }
}

/// Whether a folder holds a model's file, or a folder of that name with the file in it.
fn has_onnx(folders: &dyn Folders, path: &str, entries: &BTreeMap<String, bool>) -> Result<bool, RepositoryError> {
    for (name, is_folder) in entries.iter().filter(|(name, _)| is_onnx(name)) {
        let is_one =
            !is_folder || folders.entries(&below(path, name))?.iter().any(|(name, folder)| !folder && is_onnx(name));
        if is_one {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The `.onnx` file of a folder: the only one, or the one that is called `model.onnx`; and the others. In place of a file there may
/// be a folder of its name that holds it, with its weights.
pub(crate) fn only_onnx(folders: &dyn Folders, path: &str) -> Result<Option<(String, Vec<String>)>, RepositoryError> {
    let entries = folders.entries(path)?;
    let of_kind = |wanted: bool| entries.iter().filter(move |(name, folder)| **folder == wanted && is_onnx(name));
    let mut models: Vec<String> = of_kind(false).map(|(name, _)| name.clone()).collect();
    if models.is_empty() {
        for (name, _) in of_kind(true) {
            let inner = folders.entries(&below(path, name))?;
            models.extend(
                inner.iter().filter(|(file, folder)| !**folder && is_onnx(file)).map(|(file, _)| below(name, file)),
            );
        }
    }
    if models.len() < 2 {
        return Ok(models.pop().map(|only| (only, Vec::new())));
    }
    let usual = |name: &String| name.rsplit('/').next() == Some(USUAL);
    match models.iter().position(usual) {
        Some(at) => {
            let taken = models.remove(at);
            Ok(Some((taken, models)))
        }
        None => Err(RepositoryError::Ambiguous { path: folders.shown(path).into(), files: models }),
    }
}

/// Whether a folder is nobody's model: one that is not seen, or what macOS packs beside the files of an archive.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// `name` in the folder `path`.
pub(crate) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// Whether a path stays in the folder that it is relative to.
pub(crate) fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Without parts that say nothing: `./a//b` is `a/b`.
pub(crate) fn normal(file: &str) -> String {
    file.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is not there may be what a link leads to.
pub(crate) fn linked(path: &Path, reason: io::Error) -> io::Error {
    match path.read_link() {
        Ok(to) if reason.kind() == io::ErrorKind::NotFound => {
            let reason = format!("it is a link to {}, where nothing is", to.display());
            io::Error::new(io::ErrorKind::NotFound, reason)
        }
        _ => reason,
    }
}

/// Leading zeros are understood: `01` is version 1.
fn version_number(name: &str) -> Option<u64> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Digests, Object};

    fn listing(paths: &[&str]) -> Listing {
        let object = Object { size: 0, tag: None, digests: Digests::default(), composite: None };
        paths.iter().map(|path| ((*path).to_owned(), object.clone())).collect()
    }

    fn shape(paths: &[&str]) -> Shape {
        Shape::of(&listing(paths), "").expect("a listing can be read")
    }

    #[test]
    fn names_tell_what_a_folder_is() {
        assert_eq!(shape(&["m.onnx", "warmup/x.npy", "1/x.txt", "1_Pooling/config.json"]), Shape::Model);
        assert_eq!(shape(&["m.onnx", "1/x.onnx"]), Shape::Versions(vec![(1, "1".into())]));
        let folder = |name: &str| Item { name: name.to_owned(), file: None };
        let bare = |name: &str| Item { name: name.to_owned(), file: Some(format!("{name}.onnx")) };
        assert_eq!(
            shape(&["m.onnx", "a/x.onnx", "n.onnx", "a.onnx"]),
            Shape::Models(vec![folder("a"), bare("m"), bare("n")])
        );
        assert_eq!(shape(&["model.toml", "m.onnx", "a/x.onnx"]), Shape::Model);
        assert_eq!(shape(&["model.toml", "p.wasm"]), Shape::Model);
        let versions = Shape::Versions(vec![(2, "2".into()), (10, "10".into())]);
        assert_eq!(shape(&["10/m.onnx", "2/m.onnx", "config.pbtxt"]), versions);
        assert_eq!(shape(&["model.toml", "2/m.onnx", "10/m.onnx"]), versions);
        assert_eq!(shape(&["a/m.onnx", "b/1/m.onnx", "notes/x.md"]), Shape::Models(vec![folder("a"), folder("b")]));
        assert_eq!(shape(&["a/b/m.onnx"]), Shape::Nothing);
        // One that is not whole is a version all the same, whatever lies beside it.
        assert_eq!(
            shape(&["old.onnx", "1/m.onnx", "2/m.onnx.part"]),
            Shape::Versions(vec![(1, "1".into()), (2, "2".into())])
        );
        assert_eq!(shape(&["1/model.onnx/model.onnx", "old.onnx"]), Shape::Versions(vec![(1, "1".into())]));
        assert_eq!(shape(&["config.pbtxt", "1/net", "old.onnx"]), Shape::Versions(vec![(1, "1".into())]));
        assert_eq!(shape(&["model.onnx/model.onnx", "model.onnx/weights"]), Shape::Model);
        assert_eq!(shape(&["model-settings.json", "m.onnx", "a/x.onnx"]), Shape::Model);
        assert_eq!(shape(&["1/saved_model.pb", "1/variables/v"]), Shape::SavedModel);
        assert_eq!(shape(&["saved_model.pb"]), Shape::SavedModel);
        assert_eq!(shape(&[]), Shape::Nothing);
    }

    #[test]
    fn what_is_not_served_is_answered_beside() {
        let (shape, asides) =
            Shape::look(&listing(&["a/x.onnx", "a.onnx", "n.onnx"]), "").expect("a listing can be read");
        assert!(matches!(shape, Shape::Models(models) if models.len() == 2));
        assert_eq!(asides, [Aside::Hidden { file: "a.onnx".to_owned() }]);
        // What is not there stands for what nobody may read.
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("closed")).expect("made");
        struct Closed(Disk);
        impl Folders for Closed {
            fn entries(&self, path: &str) -> Result<BTreeMap<String, bool>, RepositoryError> {
                let reason = || io::Error::from(io::ErrorKind::PermissionDenied);
                let path = Path::new(path);
                let is_open = !path.ends_with("closed");
                if is_open { self.0.entries("") } else { Err(RepositoryError::unreadable(path, reason())) }
            }
        }
        let (shape, asides) = Shape::look(&Closed(Disk(folder.path().to_owned())), "").expect("the folder itself");
        assert_eq!(shape, Shape::Nothing);
        assert!(matches!(&asides[..], [Aside::Unread { folder, .. }] if folder == "closed"), "{asides:?}");
    }

    #[test]
    fn a_listing_has_folders() {
        let all = listing(&["a/b", "a/c/d", "ab", "b"]);
        let entries = all.entries("a").expect("read");
        assert_eq!(entries, BTreeMap::from([("b".to_owned(), false), ("c".to_owned(), true)]));
    }
}
