//! The models of a place by name, before any of them is opened.

use crate::error::RepositoryError;
use crate::plan::below_of;
use crate::shape::{Folders, Item, Shape};

/// One model of a place, as the place lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl From<Item> for Listed {
    fn from(item: Item) -> Self {
        Self { name: item.name.clone(), item: Some(item) }
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
    /// What lies in the root of `folders`; `is_one` where it is to be one model.
    pub(crate) fn of(folders: &dyn Folders, is_one: bool) -> Result<Self, RepositoryError> {
        Ok(match Shape::of(folders, "")? {
            Shape::Models(items) if !is_one => Self::Several(items),
            Shape::Nothing if !is_one => Self::Nothing(below_of(folders, "")?.paths()),
            // A name is that of the one model here, or below.
            _ => Self::Itself,
        })
    }

    /// By name, where `own` is that of the place itself.
    pub(crate) fn listed(self, own: &str) -> Vec<Listed> {
        match self {
            Self::Nothing(_) => Vec::new(),
            Self::Itself => vec![Listed::itself(own.to_owned())],
            Self::Several(items) => items.into_iter().map(Listed::from).collect(),
        }
    }
}
