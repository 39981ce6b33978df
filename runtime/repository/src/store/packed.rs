//! Files that lay in an archive, as if they were a store's.

use std::collections::BTreeMap;

use crate::store::digests::Digests;
use crate::store::{Listing, Object};

/// The files of an archive, each of which is in the cache.
pub(crate) struct Packed {
    /// Of the archive, without secrets.
    pub(crate) uri: String,
    pub(crate) files: Listing,
}

impl Packed {
    /// Files of these sizes, of an archive that changes when `tag` does.
    pub(crate) fn of(uri: &str, tag: Option<&String>, sizes: &BTreeMap<String, u64>) -> Self {
        let files = sizes.iter().map(|(path, size)| (path.clone(), object(tag, *size)));
        Self { uri: uri.to_owned(), files: files.collect() }
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        if path.is_empty() { self.uri.clone() } else { format!("{}/{path}", self.uri) }
    }

    pub(crate) fn listing(&self) -> Listing {
        self.files.clone()
    }
}

/// A file of an archive: whatever its content, it is that of the archive.
pub(crate) fn object(tag: Option<&String>, size: u64) -> Object {
    Object { size, tag: Some(tag.cloned().unwrap_or_default()), digests: Digests::default(), composite: None }
}
