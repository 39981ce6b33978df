//! Models whose store does not answer: as they were downloaded before.

use std::collections::BTreeMap;

use crate::cache::{Cache, TreeRecord};
use crate::error::RepositoryError;
use crate::layout::{self, Demands, Found, Held, ModelFolder, Verified};
use crate::onnx::is_onnx;
use crate::signature::{Kept, SignaturePolicy};

/// What may stand for a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// Nothing: that it cannot be asked is an error.
    #[default]
    Never,
    /// The cache, where the store cannot be reached.
    Unreachable,
    /// The cache always: no store is asked.
    Always,
}

/// Whether anything at this place, or below it, was downloaded before and is whole.
pub(crate) fn knows(cache: &Cache, place: &str) -> bool {
    latest(cache, |record| record.is_below(place)).is_ok_and(|mut trees| trees.next().is_some())
}

/// The model that was downloaded from `place` last, a URI without secrets; none where there is none that is whole.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open(
    cache: &Cache,
    place: &str,
    name: &str,
    sha256: Option<&str>,
    signatures: &SignaturePolicy,
) -> Result<Option<Vec<ModelFolder>>, RepositoryError> {
    let Some(record) = latest(cache, |record| record.uri == place)?.next() else { return Ok(None) };
    open_tree(cache, &record, name, sha256, signatures).map(Some)
}

/// What was downloaded from `place`: the model that it is, or those of the folder of models that it is.
///
/// # Errors
/// When the cache cannot be read.
pub(crate) fn look_into(
    cache: &Cache,
    place: &str,
    name: &str,
    is_given: bool,
    signatures: &SignaturePolicy,
) -> Result<Option<Found>, RepositoryError> {
    let trees: Vec<TreeRecord> = latest(cache, |record| record.is_below(place))?.collect();
    if let Some(record) = trees.iter().find(|record| record.uri == place) {
        return Ok(Some(Found::One(name.to_owned(), open_tree(cache, record, name, None, signatures))));
    }
    let mut models = BTreeMap::new();
    for record in trees.iter().filter(|_| !is_given) {
        let inside = record.uri[place.len()..].trim_start_matches('/');
        let name = inside.strip_suffix(".onnx").unwrap_or(inside);
        if !inside.contains('/') && !models.contains_key(name) {
            models.insert(name.to_owned(), open_tree(cache, record, name, None, signatures));
        }
    }
    Ok((!models.is_empty()).then(|| Found::Many(models.into_iter().collect())))
}

fn open_tree(
    cache: &Cache,
    record: &TreeRecord,
    name: &str,
    sha256: Option<&str>,
    signatures: &SignaturePolicy,
) -> Result<Vec<ModelFolder>, RepositoryError> {
    layout::check_name(name)?;
    let (tree, hold) = cache.tree(&record.uri, record.files.clone()).map_err(|reason| RepositoryError::Cache {
        path: cache.folder().to_owned(),
        object: record.uri.clone(),
        reason,
    })?;
    let file = record.files.keys().find(|file| is_onnx(file) && record.uri.ends_with(&format!("/{file}")));
    let path = file.map_or_else(|| tree.path.clone(), |file| tree.path.join(file));
    let (verified, trust) = (Verified::new(), signatures.of(name));
    let demands = Demands { verified: &verified, trust: trust.as_deref(), kept: Kept::Fetched };
    let mut versions = layout::open_path(name, &path, sha256, demands)?;
    let held = Held::new(hold);
    versions.iter_mut().for_each(|version| version.held = held.clone());
    Ok(versions)
}

/// The trees that are wanted and whose files are all there and believed, that which was used last first. Of others no file is
/// looked at: a cache may have those of a thousand models.
fn latest(
    cache: &Cache,
    is_wanted: impl Fn(&TreeRecord) -> bool,
) -> Result<impl Iterator<Item = TreeRecord>, RepositoryError> {
    let trees = cache.trees().map_err(|reason| RepositoryError::unreadable(cache.folder(), reason))?;
    let records = trees.into_iter().rev().map(|(_, record, _)| record).filter(move |record| is_wanted(record));
    Ok(records.filter(|record| record.files.values().all(|key| cache.find(key).is_some())))
}
