//! Files that lay in an archive, as if they were a store's.

use std::collections::BTreeMap;

use crate::store::digests::Digests;
use crate::store::{Listing, Object};

/// The files of an archive, each of which is in the cache.
pub(crate) struct Packed {
    /// Of the archive, without secrets.
    pub(crate) uri: String,
    /// What changes when the archive does.
    pub(crate) tag: Option<String>,
    /// Bytes of each file.
    pub(crate) sizes: BTreeMap<String, u64>,
}

impl Packed {
    pub(crate) fn shown(&self, path: &str) -> String {
        if path.is_empty() { self.uri.clone() } else { format!("{}/{path}", self.uri) }
    }

    pub(crate) fn listing(&self) -> Listing {
        self.sizes.keys().map(|path| (path.clone(), self.object(path))).collect()
    }

    /// What is known of a file.
    pub(crate) fn object(&self, path: &str) -> Object {
        Object {
            size: self.sizes.get(path).copied().unwrap_or_default(),
            // Whatever its content, it is that of this archive.
            tag: Some(self.tag.clone().unwrap_or_default()),
            digests: Digests::default(),
            composite: None,
        }
    }
}
