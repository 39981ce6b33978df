//! What is wrong with a model's folder, for the operator: messages name the file.

use std::path::PathBuf;

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
    /// The URI's scheme is not one that can be read.
    #[error("'{uri}': scheme '{scheme}' is not supported; expected a path or file://")]
    Scheme {
        /// As given.
        uri: String,
        /// Its scheme.
        scheme: String,
    },
    /// The folder has no model in it.
    #[error("{path}: no model; expected model.toml, one .onnx file, or numbered folders")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder has several models in it and nothing says which.
    #[error("{path}: {count} .onnx files; name one by `file` in model.toml")]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// How many.
        count: usize,
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
    #[error("{path}: no such file, but the manifest names it")]
    Missing {
        /// The file.
        path: PathBuf,
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
