//! One version of a model as it is handed out: where its files are, and what is known of them.

use std::path::Path;
use std::sync::Arc;

use corymb_core::{FileSource, ModelFiles};

use crate::cache::Hold;
use crate::manifest::Manifest;
use crate::sample::Sample;
use crate::signature::Signed;

/// One version of a model, checked: its files exist, lie in its folder, and have the checksum that is stated.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// As clients name it.
    pub name: String,
    /// The number of its folder; 1 where there is none.
    pub version: String,
    /// The ONNX model; none for a plugin that stands alone.
    pub model: Option<ModelFiles>,
    /// The plugin around it.
    pub plugin: Option<PluginFile>,
    /// Class names in the order of the scores; empty where the manifest names no file of them.
    pub labels: Vec<String>,
    /// What the manifest says, or its defaults.
    pub manifest: Manifest,
    /// One per input, for warm-up.
    pub samples: Vec<Sample>,
    /// Who signed it and what, where a signature was demanded.
    pub signed: Option<Arc<Signed>>,
    /// Changes when a file that it is loaded from does, or what its manifest says beside `[versions]`; empty where that
    /// cannot be told.
    pub stamp: String,
    /// What was fetched stays in the cache as long as this or a copy of it lives.
    pub held: Held,
}

impl ModelFolder {
    /// Where it is, by its model's file, else its plugin's; none where it is inside the binary.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        let model = self.model.as_ref().map(|files| &files.model);
        match model.or_else(|| Some(&self.plugin.as_ref()?.file))? {
            FileSource::Path(path) => Some(path),
            FileSource::Embedded { .. } => None,
        }
    }
}

/// A hold on a model's files in the cache; on nothing for a model that was not fetched. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Held {
    _hold: Option<Arc<Hold>>,
}

impl Held {
    pub(crate) fn new(hold: Hold) -> Self {
        Self { _hold: Some(Arc::new(hold)) }
    }
}

/// A plugin's component and how it is configured.
#[derive(Clone, Debug)]
pub struct PluginFile {
    /// The component.
    pub file: FileSource,
    /// Lower-case names of request headers that it sees as parameters.
    pub headers: Vec<String>,
    /// JSON for `configure`.
    pub config: String,
}
