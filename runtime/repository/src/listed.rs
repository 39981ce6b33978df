//! The models of a place by name, before any of them is opened.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::RepositoryError;
use crate::others::served_name;
use crate::plan::{Below, below_of};
use crate::shape::{Aside, Folders, Item, MANIFEST, MLSERVER, Shape, TRITON, below, is_hidden};

/// One model of a place, as the place lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Under which it is served.
    pub name: String,
    /// Where it lies in the place. None: it is the place itself.
    pub(crate) item: Option<Item>,
}

impl Listed {
    /// The place itself.
    pub(crate) const fn itself(name: String) -> Self {
        Self { name, item: None }
    }
}

/// What lies in a place.
pub(crate) enum Lies {
    /// No model; the paths of those that lie below it.
    Nothing(Vec<String>),
    /// It is a model, or holds the one that is meant.
    Itself,
    /// It is a folder of models.
    Several(Vec<Item>),
}

impl Lies {
    /// What lies in the root of `folders`, `is_one` where it is to be one model; and what of it is not served.
    pub(crate) fn of(folders: &dyn Folders, is_one: bool) -> Result<(Self, Vec<Aside>), RepositoryError> {
        // What a name stands for is the one model here, or below.
        if is_one {
            return Ok((Self::Itself, Vec::new()));
        }
        let (shape, mut asides) = Shape::look(folders, "")?;
        Ok(match shape {
            Shape::Models(items) => {
                asides.extend(deeper(folders, &items)?);
                (Self::Several(items), asides)
            }
            Shape::Nothing => (Self::Nothing(below_of(folders, "")?.paths()), asides),
            // The plan says what lies beside it.
            _ => (Self::Itself, Vec::new()),
        })
    }

    /// The texts that say what a model is called, by the paths of their folders.
    pub(crate) fn texts(&self, folders: &dyn Folders) -> Vec<String> {
        let named = |path: &str| {
            let entries = folders.entries(path).ok()?;
            let has = |name: &str| entries.get(name) == Some(&false);
            (has(MLSERVER) && !has(MANIFEST) && !has(TRITON)).then(|| path.to_owned())
        };
        match self {
            Self::Nothing(_) => Vec::new(),
            Self::Itself => named("").into_iter().collect(),
            Self::Several(items) => {
                items.iter().filter(|item| item.file.is_none()).filter_map(|item| named(item.path())).collect()
            }
        }
    }

    /// By name, where `own` is that of the place itself and `texts` say what they are called.
    pub(crate) fn listed(self, own: &str, texts: &BTreeMap<String, String>) -> Vec<Listed> {
        let called = |path: &str| texts.get(path).and_then(|text| served_name(text));
        match self {
            Self::Nothing(_) => Vec::new(),
            Self::Itself => vec![Listed::itself(called("").unwrap_or_else(|| own.to_owned()))],
            Self::Several(items) => {
                let folders: BTreeSet<String> = items.iter().map(|item| item.name.clone()).collect();
                let mut taken = BTreeSet::new();
                let named = |item: Item| {
                    let claimed = called(item.path());
                    // Another's name is not taken from it.
                    let name = claimed.clone().filter(|name| *name == item.name || !folders.contains(name));
                    let name = name.filter(|name| taken.insert(name.clone())).unwrap_or_else(|| item.name.clone());
                    if let Some(claimed) = claimed.filter(|claimed| *claimed != name) {
                        tracing::warn!(
                            folder = item.path(),
                            name,
                            claimed,
                            "another model has the name in its {MLSERVER}; it is called as its folder"
                        );
                    }
                    Listed { name, item: Some(item) }
                };
                items.into_iter().map(named).collect()
            }
        }
    }
}

/// Folders beside those of models that are none, and have models below.
fn deeper(folders: &dyn Folders, items: &[Item]) -> Result<Vec<Aside>, RepositoryError> {
    let known: BTreeSet<&str> = items.iter().map(Item::path).collect();
    let mut found = Vec::new();
    for (name, is_folder) in folders.entries("")? {
        if !is_folder || known.contains(name.as_str()) || is_hidden(&name) {
            continue;
        }
        // What cannot be read has been said.
        let models = below_of(folders, &name).map_or_else(|_| Vec::new(), Below::paths);
        if !models.is_empty() {
            let models = models.iter().map(|path| folders.shown(path)).collect();
            found.push(Aside::Deeper { folder: folders.shown(&name), models });
        }
    }
    Ok(found)
}

/// The path of the text in a folder that says what its model is called.
pub(crate) fn text_in(folder: &str) -> String {
    below(folder, MLSERVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Disk;

    fn lies(paths: &[&str]) -> (Lies, Vec<Aside>, Disk, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for path in paths {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        let disk = Disk(folder.path().to_owned());
        let (lies, asides) = Lies::of(&disk, false).expect("read");
        (lies, asides, disk, folder)
    }

    #[test]
    fn names_are_those_of_the_texts_where_nobody_else_has_them() {
        let (lies, _, disk, _folder) =
            lies(&["a/model-settings.json", "a/m.onnx", "b/model-settings.json", "b/m.onnx", "c/m.onnx", "d.onnx"]);
        assert_eq!(lies.texts(&disk), ["a", "b"]);
        let texts = [("a", r#"{"name": "mnist"}"#), ("b", r#"{"name": "c"}"#)];
        let texts = texts.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let listed = lies.listed("own", &texts.into());
        assert_eq!(listed.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["mnist", "b", "c", "d"]);
    }

    #[test]
    fn models_that_lie_too_deep_are_named() {
        let (_, asides, disk, _folder) = lies(&["a/m.onnx", "b/c/m.onnx", "d/e/1/m.onnx", "s/saved_model.pb", "t/x"]);
        let deeper =
            |folder: &str, model: &str| Aside::Deeper { folder: disk.shown(folder), models: vec![disk.shown(model)] };
        assert_eq!(asides, [Aside::Saved { folder: disk.shown("s") }, deeper("b", "b/c"), deeper("d", "d/e")]);
    }
}
