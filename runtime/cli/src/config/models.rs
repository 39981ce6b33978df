//! Which models, and how they are fetched, checked and run: the flags that every command with a model has.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::limits::{bytes, duration};

/// What to load. Without any, the embedded flowers model.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceFlags {
    /// A model under a name of its own; may be repeated
    #[arg(long, value_name = "NAME=URI", value_parser = parse_named)]
    pub(crate) model: Vec<NamedModel>,
    /// A model's folder or .onnx file, or a folder of models: a path, file://, s3://, gs://, az://,
    /// hf://, oci://, http(s)://
    #[arg(long, value_name = "URI", alias = "model_dir", value_parser = parse_place)]
    pub(crate) model_dir: Option<String>,
    /// The name of the model in --model-dir, where it is one; by default its folder's
    #[arg(long, value_name = "NAME", alias = "model_name")]
    pub(crate) model_name: Option<String>,
    /// For models whose manifest does not say: auto, onnxruntime, tract [default: auto]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// For models whose manifest does not say: auto, cpu, cuda, cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// ONNX Runtime's library, or none to do without it [default: looked for, the newest pip package included]
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Where to keep downloaded models and compiled plugins [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Bytes of downloaded models that are kept; the least recently used go first [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) cache_size: Option<ByteSize>,
    /// Refuse models that are not signed with this public key or by a certificate below this root (PEM); of one model
    /// where it is named; may be repeated
    #[arg(long, value_name = "[NAME=]FILE", value_parser = parse_signer)]
    pub(crate) verify_signature: Vec<NamedFile>,
    /// Libraries of custom operators that manifests may name, or folders of them: code that runs in the server. NAME is
    /// what manifests call a FILE, by default its own name; may be repeated
    #[arg(long, value_name = "[NAME=]FILE|DIR", value_parser = parse_library)]
    pub(crate) custom_operators: Vec<NamedFile>,
    /// Ask no store: serve what is in the cache, and nothing else. HF_HUB_OFFLINE=1 means the same
    #[arg(long)]
    pub(crate) offline: bool,
    /// How long all tries of a download together may bring nothing [default: 60s]
    #[arg(long, value_parser = duration)]
    pub(crate) download_timeout: Option<Duration>,
}

/// A variable of a script that is not set leaves nothing.
fn parse_place(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty; expected a path or a URI".to_owned()) } else { Ok(text.to_owned()) }
}

/// `NAME=URI`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedModel {
    pub(crate) name: String,
    pub(crate) uri: String,
}

fn parse_named(text: &str) -> Result<NamedModel, String> {
    match text.split_once('=') {
        Some((name, uri)) if !name.is_empty() && !uri.is_empty() => {
            Ok(NamedModel { name: name.to_owned(), uri: uri.to_owned() })
        }
        _ => Err("expected NAME=URI, e.g. flowers=/models/flowers".to_owned()),
    }
}

/// `FILE` or `NAME=FILE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFile {
    /// Of a signer's key the model that must be signed by it, else all that are not named; of a library what manifests
    /// call it.
    pub(crate) name: Option<String>,
    pub(crate) file: PathBuf,
}

impl NamedFile {
    /// As it was typed.
    pub(crate) fn typed(&self) -> OsString {
        let mut text = self.name.as_ref().map_or_else(OsString::new, |name| format!("{name}=").into());
        text.push(&self.file);
        text
    }
}

fn parse_signer(text: &str) -> Result<NamedFile, String> {
    parse_file(text)
        .ok_or_else(|| "expected a PEM file, or NAME=FILE for one model, e.g. flowers=keys/flowers.pem".to_owned())
}

pub(super) fn parse_library(text: &str) -> Result<NamedFile, String> {
    parse_file(text).ok_or_else(|| {
        "expected a library or a folder, or NAME=FILE, e.g. libortextensions.so=/opt/ops/_extensions_pydll.so"
            .to_owned()
    })
}

fn parse_file(text: &str) -> Option<NamedFile> {
    let (name, file) = match text.split_once('=') {
        // A path that has a `=` in it can be written with a slash before that.
        Some((name, file)) if !name.contains('/') => (Some(name.to_owned()), file),
        _ => (None, text),
    };
    let is_whole = !file.is_empty() && name.as_deref() != Some("");
    is_whole.then(|| NamedFile { name, file: file.into() })
}

impl SourceFlags {
    /// These flags, and where one is absent, that of `lower`.
    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            model: if self.model.is_empty() { lower.model } else { self.model },
            model_dir: self.model_dir.or(lower.model_dir),
            model_name: self.model_name.or(lower.model_name),
            backend: self.backend.or(lower.backend),
            device: self.device.or(lower.device),
            onnxruntime: self.onnxruntime.or(lower.onnxruntime),
            cache: self.cache.or(lower.cache),
            cache_size: self.cache_size.or(lower.cache_size),
            verify_signature: match self.verify_signature.is_empty() {
                true => lower.verify_signature,
                false => self.verify_signature,
            },
            custom_operators: match self.custom_operators.is_empty() {
                true => lower.custom_operators,
                false => self.custom_operators,
            },
            offline: self.offline || lower.offline,
            download_timeout: self.download_timeout.or(lower.download_timeout),
        }
    }

    /// What is named for nothing.
    pub(super) fn without_effect(&self) -> Option<String> {
        let is_lost = self.model_name.is_some() && self.model_dir.is_none();
        is_lost.then(|| "--model-name has no effect without --model-dir".to_owned())
    }

    /// Whether the embedded model is what is served.
    pub(crate) fn is_empty(&self) -> bool {
        self.model.is_empty() && self.model_dir.is_none()
    }
}
