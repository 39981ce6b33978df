//! Object stores: `object_store` addresses, signs and lists; answers to reads are taken from it as they come.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use reqwest::Response;

use crate::store::answer::{Expected, check, normal_tag, refusal};
use crate::store::client::{Catch, Client, Signing};
use crate::store::credentials::{self, Identity};
use crate::store::digests::Digests;
use crate::store::fault::{Fault, causes};
use crate::store::{Listing, MAX_LISTED, Object};
use crate::uri::{BucketPlace, Provider};

/// A prefix in a bucket.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    place: BucketPlace,
    /// Who asks.
    identity: Identity,
    /// How S3's requests are signed.
    signing: Option<Signing>,
}

impl Bucket {
    pub(crate) async fn open(
        place: &BucketPlace,
        client: &Client,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Fault> {
        let credentials::Opened { store, identity, signing } = credentials::store(place, client, environment).await?;
        Ok(Self { store, place: place.clone(), identity, signing })
    }

    pub(crate) fn is_s3(&self) -> bool {
        self.place.provider == Provider::S3
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        self.place.shown(path)
    }

    pub(crate) async fn list(&self) -> Result<Listing, Fault> {
        let prefix = self.path("")?;
        let mut found = Listing::new();
        let mut objects = self.store.list(Some(&prefix));
        while let Some(object) = objects.try_next().await.map_err(|error| self.fault(&error))? {
            let key = object.location.to_string();
            let below = if self.place.path.is_empty() { Some(key.as_str()) } else { below(&self.place.path, &key) };
            let Some(path) = below.filter(|path| !path.is_empty()) else { continue };
            // A listing does not say how an object is encrypted, so its ETag is not taken for an MD5 here.
            let tag = object.e_tag.as_deref().map(normal_tag);
            found.insert(
                path.to_owned(),
                Object { size: object.size, tag, digests: Digests::default(), composite: None },
            );
            if found.len() > MAX_LISTED {
                return Err(Fault::refused(format!("more than {MAX_LISTED} objects")));
            }
        }
        Ok(found)
    }

    pub(crate) async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, Fault> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        self.ask(path, options, Catch::default()).await
    }

    async fn ask(&self, path: &str, mut options: GetOptions, catch: Catch) -> Result<Response, Fault> {
        options.extensions.insert(catch.clone());
        let result = self.store.get_opts(&self.path(path)?, options).await;
        match (catch.take(), result) {
            (Some(answer), _) => answer,
            (None, Err(error)) => Err(self.fault(&error)),
            (None, Ok(_)) => Err(Fault::refused("the request was not sent")),
        }
    }

    /// What S3 says of an object, its checksums too, which it does not state of a range; of one part of it where one is named.
    async fn head(&self, path: &str, part: Option<u64>) -> Result<Response, Fault> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let answer = self.ask(path, options, Catch::with_checksums(self.signing.clone(), part)).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.explain(refusal(answer).await)) }
    }

    /// The checksums that S3 states of an object, and what it says of the parts that it was uploaded in.
    pub(crate) async fn stated(&self, path: &str) -> Result<Option<Object>, Fault> {
        if self.place.provider != Provider::S3 {
            return Ok(None);
        }
        check(self.head(path, None).await?, None, &Expected::default(), true).await?.object().map(Some)
    }

    /// The bytes of each part but the last, when an object of `size` bytes can be `count` even ones: its first and its last are
    /// asked for.
    pub(crate) async fn part_size(&self, path: &str, count: u64, size: u64) -> Result<Option<u64>, Fault> {
        let length =
            |answer: &Response| answer.headers().get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok();
        if count == 1 {
            return Ok(Some(size));
        }
        let Some(first) = length(&self.head(path, Some(1)).await?) else { return Ok(None) };
        let Some(last) = length(&self.head(path, Some(count)).await?) else { return Ok(None) };
        let before = first.checked_mul(count.saturating_sub(1));
        let are_even = before.and_then(|before| before.checked_add(last)) == Some(size) && last <= first;
        Ok(are_even.then_some(first))
    }

    /// Without credentials a refusal may only mean that there were none.
    pub(crate) fn explain(&self, fault: Fault) -> Fault {
        self.identity.explain(fault)
    }

    fn path(&self, path: &str) -> Result<Path, Fault> {
        let key = self.place.key(path);
        Path::parse(&key).map_err(|error| Fault::refused(format!("'{key}' cannot name an object: {error}")))
    }

    /// What our client said of the answer, where it got so far; else the library's words, which name no secrets: its
    /// URLs are left out.
    fn fault(&self, error: &object_store::Error) -> Fault {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(inner) = next {
            if let Some(fault) = inner.downcast_ref::<Fault>() {
                return self.explain(fault.clone());
            }
            next = inner.source();
        }
        if let object_store::Error::InvalidPath { .. } = error {
            return Fault::refused("its listing names an object by a path that leads out of its folder");
        }
        let words = causes(error);
        let words = words.split_whitespace().map(|word| if word.contains("://") { "(a URL)" } else { word });
        Fault::refused(words.collect::<Vec<_>>().join(" "))
    }
}

fn below<'a>(root: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(root)?.strip_prefix('/')
}
