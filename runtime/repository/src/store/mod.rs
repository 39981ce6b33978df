//! Where files are that are not on this machine: what each kind of store can be asked, and what its answers are worth.

mod answer;
mod body;
mod bucket;
mod client;
mod credentials;
mod digests;
mod fault;
mod hub;
mod oci;
mod packed;
#[cfg(test)]
pub(crate) mod testing;
mod web;

use std::collections::BTreeMap;
use std::ops::Range;

use url::Url;

pub(crate) use answer::{Answer, Expected};
pub(crate) use client::Client;
pub(crate) use digests::{Algorithm, Check, Composite, Digests};
pub(crate) use fault::{Fault, FaultKind};
pub(crate) use oci::{Oci, OciFile, OciLayer, inside};
pub(crate) use packed::{Packed, object};
pub(crate) use web::Web;

use crate::uri::Place;

/// The most objects that one listing may have.
pub(crate) const MAX_LISTED: usize = 100_000;

/// An object, as its store describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Bytes.
    pub(crate) size: u64,
    /// What changes when the content does: an ETag without quotes, a hash, or a date. None where the store says nothing.
    pub(crate) tag: Option<String>,
    /// What the store says the content's checksums are.
    pub(crate) digests: Digests,
    /// What it says of the parts that they were uploaded in, where it says nothing of the whole.
    pub(crate) composite: Option<Composite>,
}

/// Paths below the root of a source, and what lies there.
pub(crate) type Listing = BTreeMap<String, Object>;

/// A store, and the place in it that a URI names. It knows who asks, so it cannot be printed.
pub(crate) enum Source {
    Bucket(bucket::Bucket),
    Web(Web),
    Hub(hub::Hub),
    Oci(Box<Oci>),
    Archive(Packed),
}

impl Source {
    /// The source of a place that is not on this machine.
    pub(crate) async fn open(
        place: &Place,
        client: &Client,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Fault> {
        match place {
            Place::Local(path) => Err(Fault::refused(format!("{} is a path", path.display()))),
            Place::Bucket(place) => Ok(Self::Bucket(bucket::Bucket::open(place, client, environment).await?)),
            Place::Web(place) => Ok(Self::Web(Web::new(place, client))),
            Place::Hub(place) => Ok(Self::Hub(hub::Hub::new(place, client, environment)?)),
            Place::Oci(place) => Ok(Self::Oci(Box::new(Oci::new(place, client, environment)))),
        }
    }

    /// What a path below the root is called in messages, and what it is known by in the cache.
    pub(crate) fn shown(&self, path: &str) -> String {
        match self {
            Self::Bucket(bucket) => bucket.shown(path),
            Self::Web(web) => web.shown(path),
            Self::Hub(hub) => hub.shown(path),
            Self::Oci(oci) => oci.shown(path),
            Self::Archive(files) => files.shown(path),
        }
    }

    /// Everything below the root; none where the store cannot be asked.
    pub(crate) async fn list(&self) -> Result<Option<Listing>, Fault> {
        match self {
            Self::Bucket(bucket) => bucket.list().await.map(Some),
            Self::Web(_) => Ok(None),
            Self::Hub(hub) => hub.list().await.map(Some),
            Self::Oci(oci) => oci.list().await.map(Some),
            Self::Archive(files) => Ok(Some(files.listing())),
        }
    }

    /// The object at `path` without its content; an answer comes along when the server sent all of it unasked.
    pub(crate) async fn probe(&self, path: &str) -> Result<(Object, Option<Answer>), Fault> {
        // What it is was said by its digest, whatever a server says now.
        if let Self::Oci(oci) = self {
            return Ok((oci.object(path).await?, None));
        }
        let mut answer = self.get(path, Some(0..1), &Expected::default()).await?;
        if !answer.has_size() {
            // A server that does not say how large it is sends all of it, unless it cannot do without: once to count it.
            return Ok((answer.counted().await?, None));
        }
        let object = answer.object()?;
        Ok((object, answer.is_whole().then_some(answer)))
    }

    /// What the store says of the object at `path` beside what its answers do; none where they say all.
    pub(crate) async fn stated(&self, path: &str) -> Result<Option<Object>, Fault> {
        match self {
            Self::Bucket(bucket) => bucket.stated(path).await,
            Self::Web(_) | Self::Hub(_) | Self::Oci(_) | Self::Archive(_) => Ok(None),
        }
    }

    /// The bytes of each part but the last that the object at `path` of `size` bytes was uploaded in; none where the store
    /// does not say, or they are not even.
    pub(crate) async fn part_size(&self, path: &str, composite: &Composite, size: u64) -> Result<Option<u64>, Fault> {
        match self {
            Self::Bucket(bucket) => bucket.part_size(path, composite.count, size).await,
            Self::Web(_) | Self::Hub(_) | Self::Oci(_) | Self::Archive(_) => Ok(None),
        }
    }

    /// The content of `path`: of `range`, where the server honours it, else all of it.
    pub(crate) async fn get(
        &self,
        path: &str,
        range: Option<Range<u64>>,
        expected: &Expected,
    ) -> Result<Answer, Fault> {
        let response = match self {
            Self::Bucket(bucket) => bucket.get(path, range.clone()).await?,
            Self::Web(web) => web.get(path, range.clone()).await?,
            Self::Hub(hub) => hub.get(path, range.clone()).await?,
            Self::Oci(oci) => oci.get(path, range.clone()).await?,
            // It was in the cache when the archive was opened.
            Self::Archive(files) => {
                return Err(Fault::refused(format!(
                    "{} was removed from the cache while it was in use",
                    files.shown(path)
                )));
            }
        };
        let is_s3 = matches!(self, Self::Bucket(bucket) if bucket.is_s3());
        // Blobs are told by their digests: the tags of the servers that a registry sends one to are their own.
        let untagged = Expected { size: expected.size, tag: None };
        let expected = if matches!(self, Self::Oci(_)) { &untagged } else { expected };
        let checked = answer::check(response, range, expected, is_s3).await;
        match self {
            Self::Bucket(bucket) => checked.map_err(|fault| bucket.explain(fault)),
            Self::Web(_) | Self::Hub(_) | Self::Oci(_) | Self::Archive(_) => checked,
        }
    }
}

/// `path` joined to a URL that is taken for a folder; the query stays.
pub(crate) fn below(url: &Url, path: &str) -> Url {
    let mut joined = url.clone();
    if let Ok(mut parts) = joined.path_segments_mut() {
        parts.pop_if_empty().extend(path.split('/').filter(|part| !part.is_empty()));
    }
    joined
}
