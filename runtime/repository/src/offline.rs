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
    let sha256 = sha256.filter(|_| listed.item.is_none());
    open(cache, &at(place, listed), &listed.name, sha256, signatures)
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
    let mut models = Vec::new();
    let all = listed(cache, place, name, is_given)?;
    if all.iter().all(|(_, record)| record.is_none()) {
        return Ok(None);
    }
    for (listed, record) in all {
        let opened = match &record {
            Some(record) => open_tree(cache, record, &listed.name, None, signatures),
            None => Err(RepositoryError::NotCached { object: at(place, &listed), path: cache.folder().to_owned() }),
        };
        if listed.item.is_none() {
            return Ok(Some(Found::One(listed.name, opened)));
        }
        models.push((listed.name, opened));
    }
    Ok(Some(Found::Many(models)))
}

/// Where one of the models of a place lies.
fn at(place: &str, listed: &Listed) -> String {
    listed.item.as_ref().map_or_else(|| place.to_owned(), |item| below(place, item.path()))
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
    let all: Vec<Listed> = listed(cache, place, name, is_given)?.into_iter().map(|(listed, _)| listed).collect();
    Ok((!all.is_empty()).then_some(all))
}

/// What the place held when it was asked last, and the last tree of each where it is whole; `name` is that of the place itself.
fn listed(
    cache: &Cache,
    place: &str,
    name: &str,
    is_given: bool,
) -> Result<Vec<(Listed, Option<TreeRecord>)>, RepositoryError> {
    let mut trees: BTreeMap<String, TreeRecord> = BTreeMap::new();
    for record in latest(cache, |record| record.is_below(place))? {
        trees.entry(record.uri.clone()).or_insert(record);
    }
    if let Some(known) = cache.place(place).filter(|_| !is_given) {
        let with = |listed: Listed| {
            let record = trees.remove(&at(place, &listed));
            (listed, record)
        };
        return Ok(known.into_iter().map(with).collect());
    }
    if let Some(record) = trees.remove(place) {
        return Ok(vec![(Listed::itself(name.to_owned()), Some(record))]);
    }
    let mut models = BTreeMap::new();
    for (uri, record) in trees.into_iter().filter(|_| !is_given) {
        let inside = uri[place.len()..].trim_start_matches('/');
        if inside.contains('/') {
            continue;
        }
        let stem = inside.strip_suffix(".onnx");
        let (name, file) = (stem.unwrap_or(inside).to_owned(), stem.map(|_| inside.to_owned()));
        let listed = Listed { name: name.clone(), item: Some(Item { name: name.clone(), file }) };
        models.entry(name).or_insert((listed, Some(record)));
    }
    Ok(models.into_values().collect())
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
