//! The model below a place that is none itself: where exporters, archives and KServe's initializer put it.

use crate::error::RepositoryError;
use crate::shape::{Folders, Shape, USUAL, below, is_hidden};

/// How far down a model is looked for.
const DEPTH: usize = 2;
/// So many are listed.
const MOST: usize = 20;

/// What was found.
pub(crate) enum Below {
    None,
    /// The path of its folder.
    One(String),
    /// The first of their paths.
    Several(Vec<String>),
}

impl Below {
    /// All of them.
    pub(crate) fn paths(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(path) => vec![path],
            Self::Several(paths) => paths,
        }
    }
}

/// What lies below `path`, two levels deep at most: a folder in a folder that is a model counts as part of that.
/// Where the place has a file of the usual name, it is that one, whatever lies below beside it.
pub(crate) fn below_of(folders: &dyn Folders, path: &str) -> Result<Below, RepositoryError> {
    if is_usual(folders, path)? {
        return Ok(Below::One(path.to_owned()));
    }
    // Files beside folders of models are models, too.
    let mut found = match Shape::of(folders, path)? {
        Shape::Models(items) => {
            items.iter().filter(|item| item.file.is_some()).map(|item| below(path, item.path())).collect()
        }
        _ => Vec::new(),
    };
    look(folders, path, DEPTH, &mut found)?;
    found.sort();
    found.truncate(MOST);
    Ok(match found.len() {
        0 => Below::None,
        1 => Below::One(found.remove(0)),
        _ => Below::Several(found),
    })
}

/// Whether a folder has a file that is called as a model's is, and so is a model where it is to be one.
fn is_usual(folders: &dyn Folders, path: &str) -> Result<bool, RepositoryError> {
    Ok(folders.entries(path)?.get(USUAL) == Some(&false))
}

fn look(folders: &dyn Folders, path: &str, depth: usize, found: &mut Vec<String>) -> Result<(), RepositoryError> {
    let entries = folders.entries(path)?;
    for name in entries.iter().filter(|(name, folder)| **folder && !is_hidden(name)).map(|(name, _)| name) {
        let inner = below(path, name);
        // What nobody may look into is no model.
        let Ok(shape) = Shape::of(folders, &inner) else { continue };
        match shape {
            Shape::Model | Shape::Versions(_) => found.push(inner),
            Shape::Models(_) if is_usual(folders, &inner)? => found.push(inner),
            Shape::Models(items) if depth > 1 => {
                found.extend(items.iter().map(|item| below(&inner, item.path())));
            }
            Shape::Nothing if depth > 1 => look(folders, &inner, depth - 1, found)?,
            Shape::Models(_) | Shape::Snapshots | Shape::SavedModel | Shape::Nothing => {}
        }
        if found.len() > MOST {
            break;
        }
    }
    Ok(())
}
