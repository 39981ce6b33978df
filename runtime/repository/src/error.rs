//! What is wrong with a model's folder, for the operator: messages name the file.

use std::path::{Path, PathBuf};

use corymb_core::Code;

/// Why a model's folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing is there.
    #[error("{path}: {reason}")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// The URI cannot be understood.
    #[error("'{uri}': {reason}")]
    Uri {
        /// As given, without secrets.
        uri: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// A store did not give what was asked for.
    #[error("{object}: {reason}")]
    Remote {
        /// The URI of the object, without secrets.
        object: String,
        /// In one line.
        reason: String,
    },
    /// A store could not be reached, for as long as one waits for it.
    #[error("{object}: {reason}")]
    Unreachable {
        /// The URI of the object, without secrets.
        object: String,
        /// In one line.
        reason: String,
    },
    /// No store may be asked, and the cache has nothing of what is wanted.
    #[error("{object}: it is not in the cache {path}, or not whole, and no store can be asked")]
    NotCached {
        /// The URI, without secrets.
        object: String,
        /// The cache's folder.
        path: PathBuf,
    },
    /// What arrived is not what it should be. Nothing of it is kept.
    #[error("{object}: its {algorithm} is {found}; {by} says {stated}")]
    Content {
        /// The URI of the object, without secrets.
        object: String,
        /// The checksum's name.
        algorithm: Box<str>,
        /// As computed.
        found: String,
        /// Who states the other.
        by: &'static str,
        /// As stated.
        stated: String,
    },
    /// The cache cannot be used.
    #[error("{object}: the cache {path}: {reason}")]
    Cache {
        /// Its folder.
        path: PathBuf,
        /// The URI of what should go there, without secrets.
        object: String,
        /// The system's words.
        reason: std::io::Error,
    },
    /// There is no place for a cache.
    #[error("there is no folder for what is downloaded; name one by --cache")]
    NoCache,
    /// A TensorFlow SavedModel where an ONNX model was expected.
    #[error(
        "{path}: a TensorFlow SavedModel, not an ONNX model; convert it first, as convert.py of the flowers model does"
    )]
    SavedModel {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has no model in it.
    #[error("{path}: no model; expected model.toml, one .onnx file, or numbered folders")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has several files in it that may be the model, and nothing says which.
    #[error(
        "{path}: {count} .onnx files and none is called model.onnx ({listed}); choose one by `--model NAME={path}/{example}` \
         or by `file` in model.toml",
        count = files.len(), listed = listed(files), example = files.first().map_or("FILE.onnx", String::as_str)
    )]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// The place holds no model, and below it there are some.
    #[error("{path}: no model lies here; below it do {listed}: name one, as in `--model NAME={path}/{example}`",
        listed = listed(names), example = names.first().map_or("FOLDER", String::as_str))]
    Below {
        /// The place.
        path: PathBuf,
        /// Their paths.
        names: Vec<String>,
    },
    /// Several models lie below a place that is to be one.
    #[error(
        "{path}: several models lie below it ({listed}), of which one is wanted; name it, as in \
         `--model NAME={path}/{example}`",
        listed = listed(names), example = names.first().map_or("FOLDER", String::as_str)
    )]
    Several {
        /// The place.
        path: PathBuf,
        /// Their paths.
        names: Vec<String>,
    },
    /// The manifest cannot be understood.
    #[error("{path}: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, in one line.
        reason: String,
    },
    /// A name in the manifest leads out of the folder.
    #[error("{path}: `{key}` is '{value}'; it must name a file in the model's own folder")]
    Outside {
        /// The manifest.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A file that the manifest names is not there.
    #[error("{path}: no such file, but {by} names it")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The file that names it.
        by: String,
    },
    /// The file is not the one that the manifest means.
    #[error("{path}: its sha256 is {found}, the manifest says {expected}")]
    Checksum {
        /// The file.
        path: PathBuf,
        /// As computed.
        found: String,
        /// As stated.
        expected: String,
    },
    /// A signature is demanded, and the model is not as somebody who is trusted signed it.
    #[error("{path}: {reason}")]
    Signature {
        /// The signature, or the file that it is about.
        path: PathBuf,
        /// In one line.
        reason: String,
    },
    /// A sample cannot be read.
    #[error("{path}: {reason}")]
    Sample {
        /// The sample.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name that cannot stand in a URL.
    #[error("'{0}' cannot name a model; expected letters, digits, '.', '_' and '-', beginning with a letter or digit")]
    Name(String),
}

impl RepositoryError {
    /// The kind of failure, for who asked for the model.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Name(_) | Self::Uri { .. } => Code::InvalidArgument,
            Self::Empty { .. } | Self::Below { .. } | Self::NotCached { .. } => Code::NotFound,
            Self::Unreadable { reason, .. } if reason.kind() == std::io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Internal,
        }
    }

    /// Whether asking again may help though nothing has changed.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Remote { .. } | Self::Unreachable { .. } | Self::Cache { .. } | Self::Content { .. })
    }

    /// Whether it is that nothing is there; of a store, that nothing begins so.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Unreadable { reason, .. } => reason.kind() == std::io::ErrorKind::NotFound,
            Self::Empty { .. } => true,
            _ => false,
        }
    }

    /// What the system says of a path.
    pub(crate) fn unreadable(path: &Path, reason: std::io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), reason }
    }
}

/// The first of them, and how many more there are.
fn listed(names: &[String]) -> String {
    const MOST: usize = 10;
    let first = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
