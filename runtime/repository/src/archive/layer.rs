//! What is particular to the layers of container images: a part of one is taken, and names in it take away from those below it.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md>

use std::collections::{BTreeMap, BTreeSet};

/// In front of a name that the layers below have and the image does not.
const WHITEOUT: &str = ".wh.";
/// In a folder of which the image has nothing that the layers below have.
const OPAQUE: &str = ".wh..wh..opq";
/// What storage drivers keep for themselves.
const OWN: &str = ".wh..wh.";

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// A layer, but for its files. Paths have plain parts, parted by slashes.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// The folder of the image that alone is taken; empty for all of it.
    below: String,
    /// Symbolic links, and where they lead: they may lead into other layers, so none is made on the disk.
    pub(crate) links: BTreeMap<String, String>,
    /// What the layers below have and the image does not.
    pub(crate) gone: BTreeSet<String>,
    /// Folders of which the image has nothing that the layers below have; an empty path is all.
    pub(crate) opaque: BTreeSet<String>,
}

impl Layer {
    pub(crate) fn new(below: &str) -> Self {
        Self { below: below.to_owned(), ..Self::default() }
    }

    /// The name of an entry that is taken. Some builders begin names with a slash.
    pub(super) fn admit<'a>(&mut self, raw: &'a [u8]) -> Option<&'a [u8]> {
        let mut name = raw;
        while let Some(rest) = name.strip_prefix(b"/").or_else(|| name.strip_prefix(b"./")) {
            name = rest;
        }
        let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if last.starts_with(WHITEOUT.as_bytes()) {
            if let Ok(text) = std::str::from_utf8(name) {
                self.mark(text);
            }
            return None;
        }
        (!name.is_empty() && self.takes(name)).then_some(name)
    }

    fn takes(&self, name: &[u8]) -> bool {
        let rest = name.strip_prefix(self.below.as_bytes());
        self.below.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// Takes over a mark.
    fn mark(&mut self, name: &str) {
        let mut parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let Some(last) = parts.pop().filter(|_| !parts.contains(&"..")) else { return };
        let folder = parts.join("/");
        if last == OPAQUE {
            if folder.is_empty() || self.takes(folder.as_bytes()) {
                self.opaque.insert(folder);
            }
        } else if let Some(name) = last.strip_prefix(WHITEOUT).filter(|name| !name.is_empty() && !last.starts_with(OWN))
        {
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if self.takes(path.as_bytes()) {
                self.gone.insert(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Layer;

    #[test]
    fn a_folder_is_taken_and_marks_are_kept() {
        let mut layer = Layer::new("models");
        let mut taken =
            |name: &str| layer.admit(name.as_bytes()).map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(taken("models/net.onnx").as_deref(), Some("models/net.onnx"));
        assert_eq!(taken("./models/"), Some("models/".to_owned()));
        assert_eq!(taken("/models/a").as_deref(), Some("models/a"));
        for left in ["modelsx/a", "bin/sh", "etc/../models/a", "", "./", "models/.wh.old", "models/sub/.wh..wh..opq"] {
            assert_eq!(taken(left), None, "{left}");
        }
        for mark in ["bin/.wh.sh", ".wh.models", "./.wh..wh..opq", "models/.wh..wh.plnk", "models/../.wh.x", ".wh."] {
            assert_eq!(taken(mark), None, "{mark}");
        }
        assert_eq!(layer.gone.iter().map(String::as_str).collect::<Vec<_>>(), ["models", "models/old"]);
        assert_eq!(layer.opaque.iter().map(String::as_str).collect::<Vec<_>>(), ["", "models/sub"]);
    }
}
