//! Registries of container images: artefacts whose blobs are files, and images whose layers hold the files of a model.
//!
//! The protocol is that of <https://github.com/opencontainers/distribution-spec>, the documents are those of
//! <https://github.com/opencontainers/image-spec>. The client is our own. `oci-client` makes a reqwest client that cannot be
//! given ours, and with it our certificates and TLS on ring without a provider for the whole process; it reads manifests
//! and tokens whatever their size; and it hides the status and the headers of an answer, by which it is decided whether to
//! ask again. `oci-spec` has the documents' types, and brings ten crates for what are four structs here.

mod challenge;
mod login;
mod manifest;
mod registry;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use reqwest::Response;
use tokio::sync::OnceCell;

pub(crate) use manifest::{OciFile, OciLayer};

use crate::store::answer::refusal;
use crate::store::body::read;
use crate::store::client::{Client, Environment};
use crate::store::digests::Algorithm;
use crate::store::fault::{Fault, FaultKind};
use crate::store::oci::manifest::{ACCEPTED, Document, Layers};
use crate::store::oci::registry::Registry;
use crate::store::web::ranged;
use crate::store::{Listing, Object};
use crate::uri::{OciPlace, is_digest};

/// The largest manifest that is read, as registries have it.
const MAX_MANIFEST: usize = 4 << 20;
/// Indexes in indexes.
const MAX_DEPTH: usize = 2;
/// What a registry says that a manifest is.
const DIGEST: &str = "docker-content-digest";

/// An image or an artefact: what is listed and what is read are of the same manifest.
pub(crate) struct Oci {
    place: OciPlace,
    registry: Arc<Registry>,
    layers: Arc<OnceCell<Layers>>,
}

impl Oci {
    pub(crate) fn new(place: &OciPlace, client: &Client, environment: &Environment) -> Self {
        let registry = Arc::new(Registry::new(place, client, environment));
        Self { place: place.clone(), registry, layers: Arc::default() }
    }

    /// Blobs are called by their digests, files of an artefact by their names.
    pub(crate) fn shown(&self, path: &str) -> String {
        if is_digest(path) { self.place.shown_blob(path) } else { self.place.shown(path) }
    }

    /// The same, all of it, whichever path in it is meant.
    pub(crate) fn whole(&self) -> Self {
        let place = OciPlace { path: String::new(), ..self.place.clone() };
        Self { place, registry: Arc::clone(&self.registry), layers: Arc::clone(&self.layers) }
    }

    /// The path in it that is meant; empty for all.
    pub(crate) fn path(&self) -> &str {
        &self.place.path
    }

    /// The files that are blobs of their own.
    pub(crate) async fn list(&self) -> Result<Listing, Fault> {
        let layers = &self.layers().await?.layers;
        let files = layers.iter().filter_map(|layer| match layer {
            OciLayer::File(file) => Some((inside(&file.path, self.path())?.to_owned(), file.object.clone())),
            OciLayer::Tape(..) => None,
        });
        Ok(files.collect())
    }

    /// What it is made of, the lowest layer first.
    pub(crate) async fn layers(&self) -> Result<&Layers, Fault> {
        self.layers
            .get_or_try_init(|| async {
                let document = self.document().await?;
                Layers::of(document).map_err(Fault::refused)
            })
            .await
    }

    /// The blob of a file, or of the layer of that digest.
    pub(crate) async fn object(&self, path: &str) -> Result<Object, Fault> {
        let layers = &self.layers().await?.layers;
        let files = layers.iter().map(|layer| match layer {
            OciLayer::File(file) | OciLayer::Tape(_, file) => file,
        });
        let is_it = |file: &OciFile| {
            if is_digest(path) { file.path == path } else { inside(&file.path, self.path()) == Some(path) }
        };
        let found = files.into_iter().find(|file| is_it(file)).map(|file| file.object.clone());
        found.ok_or_else(|| Fault { kind: FaultKind::Missing, reason: "there is no such file".to_owned() })
    }

    pub(crate) async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, Fault> {
        let digest = self.object(path).await?.tag.unwrap_or_default();
        self.registry.send(Method::GET, &format!("blobs/{digest}"), |request| ranged(request, range.clone())).await
    }

    /// Of the manifest: what is named, or what the tag is now.
    pub(crate) async fn digest(&self) -> Result<String, Fault> {
        self.named().await.map(|(digest, _)| digest)
    }

    /// The digest of the manifest, with the manifest where the registry does not tell one without the other.
    async fn named(&self) -> Result<(String, Option<Bytes>), Fault> {
        if let Some(digest) = &self.place.digest {
            return Ok((digest.clone(), None));
        }
        let path = format!("manifests/{}", self.place.tag.as_deref().unwrap_or("latest"));
        // Registries that count requests do not count this one.
        let head = self.registry.send(Method::HEAD, &path, accepting).await?;
        let told = head.headers().get(DIGEST).and_then(|value| value.to_str().ok());
        if let Some(digest) = told.filter(|digest| head.status().is_success() && is_digest(digest)) {
            return Ok((digest.to_owned(), None));
        }
        // Only a GET says in words what is wrong.
        let text = self.text(&path).await?;
        Ok((sha256(&text), Some(text)))
    }

    /// The manifest of an image, of an index that of the image for this machine.
    async fn document(&self) -> Result<Document, Fault> {
        let (mut digest, mut text) = self.named().await?;
        for _ in 0..=MAX_DEPTH {
            let read = match text.take() {
                Some(text) => text,
                None => self.text(&format!("manifests/{digest}")).await?,
            };
            let found = sha256(&read);
            if found != digest {
                return Err(Fault::refused(format!("its manifest's digest is {found}, and should be {digest}")));
            }
            let document: Document = serde_json::from_slice(&read)
                .map_err(|error| Fault::refused(format!("its manifest cannot be understood: {error}")))?;
            match document.next().map_err(Fault::refused)? {
                Some(next) => digest = next,
                None => return Ok(document),
            }
        }
        Err(Fault::refused(format!("its index leads through more than {MAX_DEPTH} others")))
    }

    async fn text(&self, path: &str) -> Result<Bytes, Fault> {
        let response = self.registry.send(Method::GET, path, accepting).await?;
        if response.status().is_success() { read(response, MAX_MANIFEST).await } else { Err(refusal(response).await) }
    }
}

/// A path as one of the folder `folder`, where it lies there.
pub(crate) fn inside<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}

fn accepting(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request.header(http::header::ACCEPT, ACCEPTED)
}

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Algorithm::Sha256.hasher(bytes.len() as u64);
    hasher.update(bytes);
    format!("sha256:{}", hasher.finish())
}
