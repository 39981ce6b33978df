//! What a folder says of its model, in one of the words that are understood: `model.toml`, Triton's `config.pbtxt`, MLServer's
//! `model-settings.json`, MLflow's `MLmodel`.

use super::{Note, Stop, Texts};
use crate::error::RepositoryError;
use crate::manifest::Manifest;
use crate::others;
use crate::shape::{Folders, MANIFEST, MLFLOW, MLSERVER, TRITON, below, normal};
use crate::triton::{RawSample, Triton};

/// What such a text may have, in bytes: hundreds of times what any has.
pub(crate) const MOST_SAID: u64 = 1 << 20;

/// What a folder says.
pub(super) struct Said {
    pub(super) manifest: Manifest,
    /// Of the text, or of the manifest that is not there.
    pub(super) path: String,
    pub(super) is_said: bool,
    pub(super) folder: String,
    /// Triton names its samples; elsewhere they are what lies in their folder.
    pub(super) samples: Option<Vec<RawSample>>,
    pub(super) checks: Vec<AgentCheck>,
}

impl Said {
    /// A fault of the policy of versions by the name that it has in this text.
    pub(super) fn in_its_words(&self, reason: String) -> String {
        if self.path.ends_with(TRITON) {
            return reason.replace("`versions.only`", "`version_policy.specific.versions`");
        }
        reason
    }
}

/// A sample for warm-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedSample {
    pub(crate) path: String,
    /// What Triton's configuration says of it.
    pub(crate) raw: Option<RawSample>,
}

/// What Triton's checksum agent compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentCheck {
    /// Of the file, relative to the place.
    pub(crate) path: String,
    /// Its MD5 in lower-case hexadecimal.
    pub(crate) md5: String,
    /// Who says so.
    pub(crate) by: String,
}

/// What the folder says of the model that is called `name` here; the defaults where it says nothing.
pub(super) fn said(
    folders: &dyn Folders,
    texts: &Texts,
    name: &str,
    folder: &str,
    notes: &mut Vec<Note>,
) -> Result<Said, Stop> {
    let entries = folders.entries(folder)?;
    let text = |file: &str| match entries.get(file) {
        Some(false) => {
            let path = below(folder, file);
            let text = texts.get(&path).cloned().ok_or_else(|| Stop::Read(path.clone()))?;
            // A mark of the order of bytes, which some editors write.
            Ok(Some((path, text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())))
        }
        _ => Ok::<_, Stop>(None),
    };
    let wrong = |path: &str| {
        let path = folders.shown(path).into();
        move |reason| Stop::Wrong(RepositoryError::Manifest { path, reason })
    };
    let plain = |manifest, path, is_said| Said {
        manifest,
        path,
        is_said,
        folder: folder.to_owned(),
        samples: None,
        checks: Vec::new(),
    };
    if let Some((path, text)) = text(MANIFEST)? {
        return Ok(plain(Manifest::parse(&text).map_err(wrong(&path))?, path, true));
    }
    if let Some((path, text)) = text(TRITON)? {
        let triton = Triton::parse(&text, name).map_err(wrong(&path))?;
        if !triton.ignored.is_empty() {
            notes.push(Note::Ignored { file: folders.shown(&path), keys: triton.ignored.join(", ") });
        }
        let by = folders.shown(&path);
        let check =
            |(file, md5): (String, String)| AgentCheck { path: below(folder, &normal(&file)), md5, by: by.clone() };
        let checks = triton.checksums.into_iter().map(check).collect();
        return Ok(Said { samples: Some(triton.warmup), checks, ..plain(triton.manifest, path, true) });
    }
    for (file, parse) in [(MLSERVER, others::mlserver as others::Parse), (MLFLOW, others::mlflow)] {
        if let Some((path, text)) = text(file)? {
            return Ok(plain(parse(&text).map_err(wrong(&path))?, path, true));
        }
    }
    Ok(plain(Manifest::default(), below(folder, MANIFEST), false))
}
