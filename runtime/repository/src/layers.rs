//! Models in layers that are tapes: images of containers and artefacts that are packed. Each layer is downloaded and unpacked
//! once; its files are files of the cache.

mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::archive::{Limits, Packing, Refusal, unpack_layer};
use crate::cache::{Cache, Hold, key, write_json};
use crate::download::Downloads;
use crate::error::RepositoryError;
use crate::layers::merge::{Content, Found, Merged};
use crate::shape::below;
use crate::store::{Listing, Object, Oci, OciFile, OciLayer, Packed, Source, inside, object};
use crate::unpacked::{Keeper, alone, blocking, failed, fetch, read_record, walk};

/// Where KServe's images have their model.
const MODELS: &str = "models";
/// Layers that are downloaded and unpacked at a time.
const LAYERS: usize = 4;
/// The most files of a layer that is searched for a model: an image without its usual folder may be a whole system.
const MAX_FILES: usize = 1_000;
/// Programs come with deeper folders than models.
const DEPTH: usize = 64;

/// What is kept of a layer.
#[derive(Serialize, Deserialize)]
struct Record {
    content: Content,
}

/// A layer, as far as it was looked into.
struct Opened {
    content: Content,
    /// Its files stay in the cache until a tree of them is made.
    holds: Vec<Hold>,
}

/// One image, or artefact, while its layers are opened.
#[derive(Clone, Copy)]
struct Opening<'a> {
    downloads: &'a Downloads,
    source: &'a Source,
    layers: &'a [OciLayer],
    is_image: bool,
    /// The folder of the image that is looked into; empty for all of it.
    below: &'static str,
}

/// The files of what `source` names, where they lie in tapes; none where each is a blob of its own.
///
/// # Errors
/// When a layer does not arrive, or cannot be unpacked within the limits.
pub(crate) async fn open(
    downloads: &Downloads,
    source: &Source,
    oci: &Oci,
) -> Result<Option<(Packed, Vec<Hold>)>, RepositoryError> {
    let uri = source.shown("");
    let listed = downloads.ask(&uri, || oci.layers()).await?;
    if !listed.layers.iter().any(|layer| matches!(layer, OciLayer::Tape(..))) {
        return Ok(None);
    }
    let (whole, path) = (Source::Oci(Box::new(oci.whole())), oci.path());
    let opening = Opening { downloads, source: &whole, layers: &listed.layers, is_image: listed.is_image, below: "" };
    let mut found = None;
    if listed.is_image {
        let opening = Opening { below: MODELS, ..opening };
        found = Some(opening.files().await?).filter(|(_, files)| !files.is_empty()).map(|found| (opening, found));
    }
    let (opening, (opened, mut files)) = match found {
        Some(found) => found,
        None => {
            let found = opening.files().await?;
            (opening, found)
        }
    };
    files.retain(|file, _| inside(file, path).is_some());
    if files.is_empty() {
        return Err(RepositoryError::Remote { object: uri, reason: "there are no files in it".to_owned() });
    }
    let (listing, holds) = opening.finish(opened, &files).await?;
    let relative = |(file, object): (String, Object)| Some((inside(&file, path)?.to_owned(), object));
    let files = listing.into_iter().filter_map(relative).collect();
    Ok(Some((Packed { uri, files }, holds)))
}

type Merging = (Vec<Opened>, BTreeMap<String, Found>);

impl Opening<'_> {
    /// The files below the folder that is looked into, those of all layers together.
    async fn files(&self) -> Result<Merging, RepositoryError> {
        let open: Vec<BoxFuture<'_, _>> = self.layers.iter().map(|layer| self.layer(layer, false).boxed()).collect();
        let opened: Vec<Opened> = stream::iter(open).buffered(LAYERS).try_collect().await?;
        let contents: Vec<Content> = opened.iter().map(|opened| opened.content.clone()).collect();
        let found = Merged::of(&contents).files(self.below).map_err(|reason| self.wrong(reason))?;
        Ok((opened, found))
    }

    /// Makes sure that all of them are in the cache, each under its own name.
    async fn finish(
        &self,
        opened: Vec<Opened>,
        found: &BTreeMap<String, Found>,
    ) -> Result<(Listing, Vec<Hold>), RepositoryError> {
        let mut holds: Vec<Hold> = opened.into_iter().flat_map(|opened| opened.holds).collect();
        let cache = &self.downloads.cache;
        let failed = |reason| self.failed(reason);
        let mut absent = BTreeSet::new();
        for found in found.values() {
            let key = self.key(found);
            holds.push(cache.hold_blob(&key).map_err(failed)?);
            if cache.find(&key).is_none() {
                absent.insert(found.layer);
            }
        }
        for layer in absent {
            holds.extend(self.layer(&self.layers[layer], true).await?.holds);
        }
        let mut listing = BTreeMap::new();
        let mut linked = Vec::new();
        for (path, found) in found {
            let object = self.object(found);
            let name = self.source.shown(path);
            if name != self.name(&found.path) {
                linked.push((name, object.clone(), cache.blob(&self.key(found))));
            }
            listing.insert(path.clone(), object);
        }
        let uri = self.source.shown("");
        let (cache, place) = (cache.clone(), uri.clone());
        let path = cache.folder().to_owned();
        let copied = blocking(&uri, move || {
            copies(&cache, &linked).map_err(|reason| RepositoryError::Cache { path, object: place, reason })
        });
        holds.extend(copied.await?);
        for layer in self.layers {
            if let OciLayer::Tape(_, file) = layer {
                let name = self.source.shown(&file.path);
                self.downloads.cache.drop_blob(&Cache::blob_key(&name, &file.object));
            }
        }
        Ok((listing, holds))
    }

    /// What lies in a layer: as it is known from before, else downloaded and unpacked. With `anew`, its files are wanted.
    async fn layer(&self, layer: &OciLayer, anew: bool) -> Result<Opened, RepositoryError> {
        match layer {
            OciLayer::File(file) => self.file(file).await,
            OciLayer::Tape(packing, file) => match read_record::<Record>(&self.record(file)).filter(|_| !anew) {
                Some(Record { content }) => Ok(Opened { content, holds: Vec::new() }),
                None => self.tape(*packing, file).await,
            },
        }
    }

    async fn file(&self, file: &OciFile) -> Result<Opened, RepositoryError> {
        let blob = self.downloads.fetch(self.source, &file.path, file.object.clone(), None, None).await?;
        let hold = self.downloads.cache.hold_blob(&blob.key).map_err(|reason| self.failed(reason))?;
        let content = Content { files: BTreeMap::from([(file.path.clone(), file.object.size)]), ..Content::default() };
        Ok(Opened { content, holds: vec![hold] })
    }

    async fn tape(&self, packing: Packing, file: &OciFile) -> Result<Opened, RepositoryError> {
        let (blob, archive) = fetch(self.downloads, self.source, &file.path, &file.object, None, None).await?;
        let unpacking = Unpacking {
            cache: self.downloads.cache.clone(),
            uri: self.source.shown(&file.path),
            root: self.source.shown(""),
            tag: file.object.tag.clone(),
            below: self.below,
            most: if self.is_image && self.below.is_empty() { Some(MAX_FILES) } else { None },
            record: self.record(file),
        };
        let uri = unpacking.uri.clone();
        blocking(&uri, move || {
            let opened = unpacking.run(&archive, packing).map_err(|refusal| unpacking.failed(refusal))?;
            // Of a layer without a model all of it may be wanted yet.
            if !opened.content.files.is_empty() {
                unpacking.cache.drop_blob(&blob.key);
            }
            Ok(opened)
        })
        .await
    }

    /// Where it is written what lies in a layer, whichever image it is of.
    fn record(&self, file: &OciFile) -> PathBuf {
        let digest = file.object.tag.as_deref().unwrap_or_default();
        self.downloads.cache.archive_record(&key(&["layer", self.below, digest]))
    }

    fn object(&self, found: &Found) -> Object {
        let (OciLayer::File(file) | OciLayer::Tape(_, file)) = &self.layers[found.layer];
        object(file.object.tag.as_ref(), found.size)
    }

    fn key(&self, found: &Found) -> String {
        Cache::blob_key(&self.name(&found.path), &self.object(found))
    }

    /// What a file of a layer is known by.
    fn name(&self, path: &str) -> String {
        named(&self.source.shown(""), self.below, path)
    }

    fn wrong(&self, reason: String) -> RepositoryError {
        RepositoryError::Remote { object: self.source.shown(""), reason }
    }

    fn failed(&self, reason: io::Error) -> RepositoryError {
        let (path, object) = (self.downloads.cache.folder().to_owned(), self.source.shown(""));
        RepositoryError::Cache { path, object, reason }
    }
}

/// A layer on its way into the cache.
struct Unpacking {
    cache: Cache,
    /// Of the layer.
    uri: String,
    /// Of the image.
    root: String,
    /// Of the layer, and so of its files.
    tag: Option<String>,
    below: &'static str,
    /// The most files that it may have.
    most: Option<usize>,
    record: PathBuf,
}

impl Unpacking {
    fn run(&self, archive: &File, packing: Packing) -> Result<Opened, Refusal> {
        // Others may be unpacking the same, in this process or in another.
        let _lock = alone(&self.record, &[&self.root, &self.record.to_string_lossy()])?;
        if let Some(opened) = self.known()? {
            return Ok(opened);
        }
        let into = self.cache.temporary_folder()?;
        let limits = Limits { depth: DEPTH, ..Limits::default() };
        let (layer, unpacked) = unpack_layer(archive, packing, self.below, into.path(), &limits)?;
        let files = walk(into.path(), &limits)?;
        if let Some(most) = self.most.filter(|most| files.len() > *most) {
            let reason =
                format!("has {} files, and the image no folder /{MODELS}; at most {most} are searched", files.len());
            return Err(Refusal::Archive { reason });
        }
        self.cache.make_room(unpacked.bytes).map_err(|full| io::Error::new(io::ErrorKind::StorageFull, full))?;
        let (mut holds, mut keeper) = (Vec::new(), Keeper::new(&self.cache));
        for (path, size) in &files {
            let object = object(self.tag.as_ref(), *size);
            holds.push(keeper.keep(&self.name(path), &object, &into.path().join(path))?);
        }
        let content = Content { files, links: layer.links, gone: layer.gone, opaque: layer.opaque };
        let record = Record { content };
        write_json(&self.record, &record)?;
        let (files, bytes, left_out) = (unpacked.files, unpacked.bytes, unpacked.skipped);
        tracing::info!(object = self.uri, files, bytes, left_out, "unpacked");
        Ok(Opened { content: record.content, holds })
    }

    /// What was unpacked meanwhile, where all of it is there.
    fn known(&self) -> io::Result<Option<Opened>> {
        let Some(Record { content }) = read_record(&self.record) else { return Ok(None) };
        let mut holds = Vec::new();
        for (path, size) in &content.files {
            let key = Cache::blob_key(&self.name(path), &object(self.tag.as_ref(), *size));
            holds.push(self.cache.hold_blob(&key)?);
            if self.cache.find(&key).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Opened { content, holds }))
    }

    fn name(&self, path: &str) -> String {
        named(&self.root, self.below, path)
    }

    fn failed(&self, refusal: Refusal) -> RepositoryError {
        failed(&self.cache, self.uri.clone(), refusal)
    }
}

/// Files of layers under names of their own, where a link leads to them.
fn copies(cache: &Cache, all: &[(String, Object, PathBuf)]) -> io::Result<Vec<Hold>> {
    let mut keeper = Keeper::new(cache);
    let copy = |(name, object, from): &(String, Object, PathBuf)| {
        let key = Cache::blob_key(name, object);
        let hold = cache.hold_blob(&key)?;
        if cache.find(&key).is_some() {
            return Ok(hold);
        }
        keeper.keep(name, object, from)
    };
    all.iter().map(copy).collect()
}

/// A path of a layer of the image `root`, as one of the folder `folder` of it that is looked into, where it lies there.
fn named(root: &str, folder: &str, path: &str) -> String {
    below(root, inside(path, folder).unwrap_or(path))
}
