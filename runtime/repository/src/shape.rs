//! What a folder is, told from the names in it: a model, versions of one, or a folder of models.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use crate::error::RepositoryError;
use crate::onnx::is_onnx;
use crate::store::Listing;

/// The name of the manifest in a model's folder.
pub(crate) const MANIFEST: &str = "model.toml";
/// The name of Triton's configuration in a model's folder.
pub(crate) const TRITON: &str = "config.pbtxt";
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
}

/// A folder of this machine.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Folders for Disk {
    fn entries(&self, path: &str) -> Result<BTreeMap<String, bool>, RepositoryError> {
        let folder = self.0.join(path);
        let unreadable = |reason| RepositoryError::Unreadable { path: folder.clone(), reason };
        let listing = fs::read_dir(&folder).map_err(unreadable)?;
        let entries = listing.map(|entry| {
            let path = entry?.path();
            Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path.is_dir()))
        });
        entries.collect::<io::Result<_>>().map_err(unreadable)
    }

    fn shown(&self, path: &str) -> String {
        self.0.join(path).display().to_string()
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A manifest or an `.onnx` file lies in it.
    Model,
    /// Numbered folders, ascending: each number with the folder's name.
    Versions(Vec<(u64, String)>),
    /// Folders that are models, and `.onnx` files beside them.
    Models(Vec<Item>),
    /// A TensorFlow SavedModel, here or in a numbered folder.
    SavedModel,
    Nothing,
}

impl Shape {
    pub(crate) fn of(folders: &dyn Folders, path: &str) -> Result<Self, RepositoryError> {
        let entries = folders.entries(path)?;
        let own = Self::of_entries(folders, path, &entries)?;
        // Files alone may be a model beside folders of others.
        let is_said = [MANIFEST, TRITON].iter().any(|name| entries.get(*name) == Some(&false));
        let onnx = || entries.iter().filter(|(name, folder)| !**folder && is_onnx(name)).map(|(name, _)| name);
        if let (Self::Versions(_), Some(name)) = (&own, onnx().next()) {
            let file = folders.shown(&below(path, name));
            tracing::warn!(file, "it lies beside numbered versions, and is none; it is not served");
        }
        if own != Self::Nothing && (own != Self::Model || is_said) {
            return Ok(own);
        }
        let mut models = Vec::new();
        let mut saved = false;
        for (name, _) in entries.iter().filter(|(name, folder)| **folder && !name.starts_with('.')) {
            let inner = below(path, name);
            // A repository is one level deep. What nobody may look into is no model, and no reason to serve none.
            let found = folders.entries(&inner).and_then(|entries| Self::of_entries(folders, &inner, &entries));
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(folder = inner, %error, "a folder cannot be read; what is in it is not served");
                Self::Nothing
            });
            match found {
                Self::Model | Self::Versions(_) => models.push(Item { name: name.clone(), file: None }),
                Self::SavedModel => saved = true,
                Self::Models(_) | Self::Nothing => {}
            }
        }
        if own == Self::Model && models.is_empty() {
            return Ok(own);
        }
        for file in onnx() {
            let name = file.trim_end_matches(".onnx");
            if models.iter().any(|model| model.name == name) {
                tracing::warn!(
                    file = folders.shown(&below(path, file)),
                    "a folder beside it has the same name; the file is not served"
                );
            } else {
                models.push(Item { name: name.to_owned(), file: Some(file.clone()) });
            }
        }
        models.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(match (models.is_empty(), saved) {
            (false, _) => Self::Models(models),
            (true, true) => Self::SavedModel,
            (true, false) => Self::Nothing,
        })
    }

    fn of_entries(
        folders: &dyn Folders,
        path: &str,
        entries: &BTreeMap<String, bool>,
    ) -> Result<Self, RepositoryError> {
        let file = |wanted: &str| entries.get(wanted) == Some(&false);
        let has_onnx = entries.iter().any(|(name, folder)| !folder && is_onnx(name));
        let folders_only = entries.iter().filter(|(_, folder)| **folder);
        let mut versions: Vec<(u64, String)> =
            folders_only.filter_map(|(name, _)| Some((version_number(name)?, name.clone()))).collect();
        versions.sort();
        versions.dedup_by_key(|(number, _)| *number);
        if let Some((_, latest)) = versions.last() {
            let inner = folders.entries(&below(path, latest))?;
            let saved = SAVED_MODELS.iter().any(|name| inner.contains_key(*name));
            let is_model = inner.iter().any(|(name, folder)| !folder && (is_onnx(name) || name == MANIFEST));
            if has_onnx && !is_model {
                return Ok(Self::Model);
            }
            return Ok(if saved && !is_model { Self::SavedModel } else { Self::Versions(versions) });
        }
        if has_onnx || file(MANIFEST) {
            return Ok(Self::Model);
        }
        let saved = SAVED_MODELS.iter().any(|name| file(name));
        Ok(if saved { Self::SavedModel } else { Self::Nothing })
    }
}

/// The `.onnx` file of a folder: the only one, or the one that is called `model.onnx`.
pub(crate) fn only_onnx(folders: &dyn Folders, path: &str) -> Result<Option<String>, RepositoryError> {
    let entries = folders.entries(path)?;
    let mut models: Vec<String> =
        entries.into_iter().filter(|(name, folder)| !folder && is_onnx(name)).map(|(name, _)| name).collect();
    const USUAL: &str = "model.onnx";
    match models.len() {
        0 | 1 => Ok(models.pop()),
        _ if models.iter().any(|name| name == USUAL) => {
            models.retain(|name| name != USUAL);
            let others = models.join(", ");
            tracing::info!(
                folder = folders.shown(path),
                others,
                "{USUAL} is served; `file` in {MANIFEST} names another"
            );
            Ok(Some(USUAL.to_owned()))
        }
        count => Err(RepositoryError::Ambiguous { path: path.into(), count }),
    }
}

/// `name` in the folder `path`.
pub(crate) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// Whether a path stays in the folder that it is relative to.
pub(crate) fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
        assert_eq!(shape(&["m.onnx", "warmup/x.npy", "1/x.txt"]), Shape::Model);
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
        assert_eq!(shape(&["1/saved_model.pb", "1/variables/v"]), Shape::SavedModel);
        assert_eq!(shape(&["saved_model.pb"]), Shape::SavedModel);
        assert_eq!(shape(&[]), Shape::Nothing);
    }

    #[test]
    fn a_listing_has_folders() {
        let all = listing(&["a/b", "a/c/d", "ab", "b"]);
        let entries = all.entries("a").expect("read");
        assert_eq!(entries, BTreeMap::from([("b".to_owned(), false), ("c".to_owned(), true)]));
    }
}
