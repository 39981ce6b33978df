//! Models whose store does not answer: as they were downloaded before.

use std::collections::BTreeMap;

use crate::cache::{Cache, TreeRecord};
use crate::error::RepositoryError;
use crate::layout::{self, Demands, Found, Held, ModelFolder, Verified};
use crate::listed::Listed;
use crate::onnx::is_onnx;
use crate::shape::{Item, below};
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
    latest(cache).is_ok_and(|trees| trees.iter().any(|record| record.is_below(place)))
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
    let trees = latest(cache)?;
    let Some(record) = trees.iter().find(|record| record.uri == place) else { return Ok(None) };
    open_tree(cache, record, name, sha256, signatures).map(Some)
}

/// One of the models that were downloaded from `place`.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_listed(
    cache: &Cache,
    place: &str,
    listed: &Listed,
    sha256: Option<&str>,
    signatures: &SignaturePolicy,
) -> Result<Option<Vec<ModelFolder>>, RepositoryError> {
    match &listed.item {
        Some(item) => open(cache, &below(place, item.path()), &listed.name, None, signatures),
        None => open(cache, place, &listed.name, sha256, signatures),
    }
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
    let trees = latest(cache)?;
    let mut models = Vec::new();
    for (listed, record) in listed(&trees, place, name, is_given) {
        let opened = open_tree(cache, record, &listed.name, None, signatures);
        if listed.item.is_none() {
            return Ok(Some(Found::One(listed.name, opened)));
        }
        models.push((listed.name, opened));
    }
    Ok((!models.is_empty()).then_some(Found::Many(models)))
}

/// The names of the same; none where nothing was downloaded from it.
///
/// # Errors
/// When the cache cannot be read.
pub(crate) fn list(
    cache: &Cache,
    place: &str,
    name: &str,
    is_given: bool,
) -> Result<Option<Vec<Listed>>, RepositoryError> {
    let trees = latest(cache)?;
    let all: Vec<Listed> = listed(&trees, place, name, is_given).into_iter().map(|(listed, _)| listed).collect();
    Ok((!all.is_empty()).then_some(all))
}

/// What the place holds, and the last tree of each; `name` is that of the place itself.
fn listed<'a>(trees: &'a [TreeRecord], place: &str, name: &str, is_given: bool) -> Vec<(Listed, &'a TreeRecord)> {
    if let Some(record) = trees.iter().find(|record| record.uri == place) {
        return vec![(Listed::itself(name.to_owned()), record)];
    }
    let mut models = BTreeMap::new();
    for record in trees.iter().filter(|record| !is_given && record.is_below(place)) {
        let inside = record.uri[place.len()..].trim_start_matches('/');
        if inside.contains('/') {
            continue;
        }
        let stem = inside.strip_suffix(".onnx");
        let (name, file) = (stem.unwrap_or(inside), stem.map(|_| inside.to_owned()));
        models.entry(name.to_owned()).or_insert_with_key(|name| (Item { name: name.clone(), file }.into(), record));
    }
    models.into_values().collect()
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

/// The trees whose files are all there and believed, that which was used last first.
fn latest(cache: &Cache) -> Result<Vec<TreeRecord>, RepositoryError> {
    let trees = cache.trees().map_err(|reason| RepositoryError::unreadable(cache.folder(), reason))?;
    let records = trees.into_iter().rev().map(|(_, record, _)| record);
    Ok(records.filter(|record| record.files.values().all(|key| cache.find(key).is_some())).collect())
}
