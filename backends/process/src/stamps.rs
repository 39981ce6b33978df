//! By what is told that a model's files are those that were loaded before.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use corymb_core::FileSource;

/// Endings of files beside a model that are no part of it: other models, what is said of them, plugins.
const OTHERS: [&str; 5] = ["onnx", "toml", "wasm", "cwasm", "md"];
/// Files that are looked at, at most.
const MOST: usize = 1000;

/// Of a model's file and of those beside it that may hold its tensors: device and number, size, and when the content was changed
/// last. By these the repository, too, tells whether a model is to be loaded anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<(PathBuf, [i64; 5])>);

impl Stamps {
    pub(crate) fn of(model: &FileSource) -> Self {
        let FileSource::Path(path) = model else { return Self::default() };
        let is_part = |file: &Path| file.extension().is_none_or(|ending| !OTHERS.iter().any(|other| ending == *other));
        let beside = path.parent().and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
        let beside = beside.map(|entry| entry.path()).filter(|file| file.is_file() && is_part(file)).take(MOST);
        let files = std::iter::once(path.clone()).chain(beside);
        let mut stamps: Vec<_> =
            files.map(|file| (file.clone(), file.metadata().map_or([0; 5], |found| stamp(&found)))).collect();
        stamps.sort();
        Self(stamps)
    }

    /// The size of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, stamp)| stamp[2].unsigned_abs()).fold(0, u64::saturating_add)
    }
}

fn stamp(file: &Metadata) -> [i64; 5] {
    let large = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    [large(file.dev()), large(file.ino()), large(file.size()), file.mtime(), file.mtime_nsec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_or_written_to_is_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, content: &str| std::fs::write(file(name), content).expect("written");
        write("model.onnx", "one");
        write("weights.bin", "1");
        let model = FileSource::Path(file("model.onnx"));
        let loaded = Stamps::of(&model);
        write("other.onnx", "two");
        write("model.toml", "");
        assert_eq!(Stamps::of(&model), loaded);
        std::fs::rename(file("model.onnx"), file("away.onnx")).expect("renamed");
        assert_ne!(Stamps::of(&model), loaded, "it is not there");
        std::fs::rename(file("away.onnx"), file("model.onnx")).expect("renamed");
        std::fs::hard_link(file("model.onnx"), file("again.onnx")).expect("linked");
        assert_eq!(Stamps::of(&model), loaded, "its content is the same");
        write("weights.bin", "22");
        assert_ne!(Stamps::of(&model), loaded);
        let loaded = Stamps::of(&model);
        write("new", "one");
        std::fs::rename(file("new"), file("model.onnx")).expect("renamed");
        assert_ne!(Stamps::of(&model), loaded);
    }
}
