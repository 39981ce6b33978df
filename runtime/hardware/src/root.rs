//! Small files below a root: `/` on a real machine, a tree of fixtures in tests.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Where `proc` and `sys` are.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where a path of the machine, `/sys/…`, lies below this root.
    pub(crate) fn locate(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The first `limit` bytes of a file; what is not UTF-8 is replaced. Only of plain files, which those of `/proc` and
    /// `/sys` are: anything else could block.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> io::Result<String> {
        let path = self.locate(path);
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is not a plain file"));
        }
        let mut content = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut content)?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// What a folder has; nothing where it cannot be read.
    pub(crate) fn names(&self, path: &Path) -> Vec<String> {
        let entries = fs::read_dir(self.locate(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// As [`Root::read`]; a file that is there and cannot be read is noted.
    pub(crate) fn read_noted(&self, path: &Path, limit: u64, notes: &mut Vec<String>) -> Option<String> {
        match self.read(path, limit) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                notes.push(format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    }
}

/// What a file says, fit for a message of one line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let text = text.trim();
    let short: String = text.chars().take(SHOWN).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("'{}{more}'", short.escape_debug())
}
