//! A URI's place, asked: which source it is, what lies there, which file of it is meant.

use std::collections::BTreeMap;

use crate::archive::Kind;
use crate::cache::{Hold, key};
use crate::download::{Downloads, remote};
use crate::error::RepositoryError;
use crate::layers;
use crate::onnx;
use crate::store::{Client, FaultKind, Listing, Object, Oci, Source};
use crate::unpacked;
use crate::uri::{ModelUri, Place, hub_address, shown_url};

/// A source, and what is known of it.
pub(crate) struct Opened {
    pub(crate) source: Source,
    /// Where the store can be asked.
    pub(crate) listing: Option<Listing>,
    /// The `.onnx` file that the URI names.
    pub(crate) file: Option<String>,
    /// What that must be.
    pub(crate) sha256: Option<String>,
    /// The manifest of a folder that cannot be listed, which was asked for first.
    pub(crate) manifest: Option<Object>,
    /// Of the archive that it lies in: what changes when that does.
    archive: Option<Object>,
    /// Its files stay in the cache until a tree of them is made.
    _holds: Vec<Hold>,
}

/// What the place of a URI is called, in messages and in the cache, without asking it.
pub(crate) fn shown(uri: &ModelUri, environment: &BTreeMap<String, String>) -> String {
    let place = hub_address(&uri.place, environment).unwrap_or_else(|| uri.place.clone());
    match &place {
        Place::Local(path) => path.display().to_string(),
        Place::Bucket(bucket) => bucket.shown(""),
        Place::Web(web) => shown_url(&web.url).trim_end_matches('/').to_owned(),
        Place::Hub(hub) => hub.shown(""),
        Place::Oci(oci) => oci.shown(""),
    }
}

/// Asks the place of a URI.
///
/// # Errors
/// When it does not answer, or not understandably.
pub(crate) async fn open(
    uri: &ModelUri,
    downloads: &Downloads,
    client: &Client,
    environment: &BTreeMap<String, String>,
) -> Result<Opened, RepositoryError> {
    let place = hub_address(&uri.place, environment).unwrap_or_else(|| uri.place.clone());
    let (folder, file) = place.split_file();
    let shown = crate::uri::shown_place(&place);
    let source = downloads.ask(&shown, || Source::open(&folder, client, environment)).await?;
    let (source, file, manifest) = match (source, file) {
        (Source::Web(web), None) => itself(web, downloads).await?,
        (source, file) => (source, file, None),
    };
    if let Source::Oci(oci) = &source
        && let Some((files, holds)) = layers::open(downloads, &source, oci).await?
    {
        let (listing, source) = (Some(files.listing()), Source::Archive(files));
        return Ok(Opened { source, listing, file, sha256: None, manifest: None, archive: None, _holds: holds });
    }
    if let Some((file, kind)) = file.as_deref().and_then(|file| Some((file, Kind::of(file)?))) {
        let unpacked::Archive { files, object, holds } =
            unpacked::open(downloads, &source, file, kind, uri.sha256.as_deref()).await?;
        let (listing, source, archive) = (files.listing(), Source::Archive(files), Some(object));
        return Ok(Opened {
            source,
            listing: Some(listing),
            file: None,
            sha256: None,
            manifest: None,
            archive,
            _holds: holds,
        });
    }
    // The hub tells the checksum of a file where it lists the folder around it, and so does a manifest.
    let listing = match &file {
        Some(_) if !matches!(source, Source::Hub(_) | Source::Oci(_)) => None,
        _ => downloads.ask(&source.shown(""), || source.list()).await?,
    };
    Ok(Opened { source, listing, file, sha256: uri.sha256.clone(), manifest, archive: None, _holds: Vec::new() })
}

/// What changes when the place does, where that is told in one word: the digest of an image.
///
/// # Errors
/// When it does not answer.
pub(crate) async fn digest(
    uri: &ModelUri,
    downloads: &Downloads,
    client: &Client,
    environment: &BTreeMap<String, String>,
) -> Result<Option<String>, RepositoryError> {
    let Place::Oci(place) = &uri.place else { return Ok(None) };
    let oci = Oci::new(place, client, environment);
    downloads.ask(&place.shown(""), || oci.digest()).await.map(Some)
}

/// A web address is that of a folder with a manifest; where there is none, of a file, whatever its last part is called. Stores say
/// that nobody may see what is not there, to who may not list it, as with a signature of one object.
async fn itself(
    web: crate::store::Web,
    downloads: &Downloads,
) -> Result<(Source, Option<String>, Option<Object>), RepositoryError> {
    let source = Source::Web(web);
    let fault = match downloads.ask_store(|| source.probe(crate::shape::MANIFEST)).await {
        Ok((object, _)) => return Ok((source, None, Some(object))),
        Err(fault) => fault,
    };
    let failed = remote(&source.shown(crate::shape::MANIFEST), &fault);
    let Source::Web(web) = source else { return Err(failed) };
    if !matches!(fault.kind, FaultKind::Missing | FaultKind::Refused) {
        return Err(failed);
    }
    match downloads.ask_store(|| web.own_name()).await {
        Ok(Some(name)) => Ok((Source::Web(web.called(name.clone())), Some(name), None)),
        // What was asked for first says more.
        Ok(None) => Err(failed),
        // What was downloaded before may stand for who does not answer.
        Err(silent) if silent.kind == FaultKind::Silent => Err(remote(&web.shown(""), &silent)),
        Err(_) => Err(failed),
    }
}

impl Opened {
    /// What changes when something of it does.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(crate) async fn revision(&self, downloads: &Downloads) -> Result<String, RepositoryError> {
        let mut words: Vec<String> = Vec::new();
        let of = |object: &Object| [object.tag.clone().unwrap_or_default(), object.size.to_string()];
        match (&self.archive, &self.listing, &self.file) {
            (Some(object), ..) => words.extend(of(object)),
            (None, Some(listing), None) => {
                for (path, object) in listing {
                    words.push(path.clone());
                    words.extend(of(object));
                }
            }
            (None, listing, file) => {
                let file = file.as_deref().unwrap_or(crate::shape::MANIFEST);
                let listed = listing.as_ref().and_then(|listing| listing.get(file)).cloned();
                let object = match listed {
                    Some(object) => object,
                    None => downloads.probe(&self.source, file).await?.0,
                };
                words.extend(of(&object));
            }
        }
        Ok(key(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

/// Whether a place is that of an `.onnx` file or of an archive.
pub(crate) fn is_file(place: &Place) -> bool {
    place.split_file().1.is_some()
}

impl Place {
    /// The folder that holds the `.onnx` file or the archive that the place names, and its name; else the place itself.
    fn split_file(&self) -> (Self, Option<String>) {
        let split = |path: &str| -> Option<(String, String)> {
            let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
            onnx::is_file(file).then(|| (folder.to_owned(), file.to_owned()))
        };
        let mut place = self.clone();
        let file = match &mut place {
            Self::Local(_) => None,
            Self::Bucket(bucket) => split(&bucket.path).map(|(folder, file)| {
                bucket.path = folder;
                file
            }),
            Self::Hub(hub) => split(&hub.path).map(|(folder, file)| {
                hub.path = folder;
                file
            }),
            Self::Oci(oci) => split(&oci.path).map(|(folder, file)| {
                oci.path = folder;
                file
            }),
            Self::Web(web) => web.split_file(),
        };
        (place, file)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::Cache;
    use crate::download::Silent;
    use crate::store::testing::{Reply, Server};

    const ONNX: &[u8] = &[0x08, 0x07, 0x12, 0x05, b't', b'f'];

    async fn opened(uri: &str) -> Result<Opened, RepositoryError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(folder.path(), None).expect("a cache");
        let downloads = Downloads::new(cache, Arc::new(Silent), Duration::from_millis(300));
        let client = Client::new(&BTreeMap::new()).expect("a client");
        open(&ModelUri::parse(uri).expect("a URI"), &downloads, &client, &BTreeMap::new()).await
    }

    /// What is said of an address below which the server answers with `below`, and itself with `own`.
    async fn said(below: u16, own: fn(&crate::store::testing::Request) -> Reply) -> Result<Option<String>, String> {
        let server = Server::start(move |request| match request.line.contains("/net/model.toml?") {
            true => Reply::of(below),
            false => own(request),
        });
        let uri = format!("{}/net?X-Amz-Signature=s", server.await.url);
        match opened(&uri).await {
            Ok(opened) => Ok(opened.file),
            Err(error @ RepositoryError::Unreachable { .. }) => Err(format!("unreachable: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn a_signed_address_is_of_a_file_whatever_is_said_of_what_lies_below() {
        for below in [401, 403, 404] {
            let found = said(below, |request| Reply::file(request, ONNX, "v1")).await;
            assert_eq!(found, Ok(Some("net.onnx".to_owned())), "{below}");
            // What was asked for first says more.
            for own in [|_: &_| Reply::of(403), |request: &_| Reply::file(request, b"<html>", "v1")] {
                let reason = said(below, own).await.expect_err("no model");
                let expected = format!("/net/model.toml: the server answered {below}");
                assert!(reason.contains(&expected), "{reason}");
            }
            let reason = said(below, |_| Reply::of(503)).await.expect_err("silent");
            assert!(reason.starts_with("unreachable: ") && reason.contains("503"), "{reason}");
        }
    }
}
