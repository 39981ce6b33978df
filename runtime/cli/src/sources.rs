//! Which models: the flags that name them, and the folders they stand for.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::bail;

use clap::Args;
use corymb_repository::ModelFolder;

use crate::embedded;

/// What to load. Without any, the embedded flowers model.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceFlags {
    /// A model under a name of its own; may be repeated
    #[arg(long, value_name = "NAME=URI", value_parser = parse_named)]
    pub(crate) model: Vec<NamedModel>,
    /// A model's folder or .onnx file, or a folder of models
    #[arg(long, value_name = "URI", alias = "model_dir")]
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
    /// Where to keep compiled plugins [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
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

impl SourceFlags {
    /// These flags, and where one is absent, that of `lower`.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            model: if self.model.is_empty() { lower.model } else { self.model },
            model_dir: self.model_dir.or(lower.model_dir),
            model_name: self.model_name.or(lower.model_name),
            backend: self.backend.or(lower.backend),
            device: self.device.or(lower.device),
            onnxruntime: self.onnxruntime.or(lower.onnxruntime),
            cache: self.cache.or(lower.cache),
        }
    }

    /// Every model that is named, its files checked.
    pub(crate) fn open(&self) -> anyhow::Result<Vec<ModelFolder>> {
        let mut folders = Vec::new();
        for NamedModel { name, uri } in &self.model {
            folders.push(corymb_repository::open(name, uri)?);
        }
        if let Some(uri) = &self.model_dir {
            folders.extend(corymb_repository::open_dir(uri, self.model_name.as_deref())?);
        }
        if folders.is_empty() {
            folders.push(embedded::flowers()?);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = folders.iter().find(|folder| !names.insert(folder.name.as_str())) {
            bail!("two models are named '{}'", twice.name);
        }
        Ok(folders)
    }
}
