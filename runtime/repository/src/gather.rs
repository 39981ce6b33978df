//! What of a store a model needs, and no more: its manifest says, or the names of its files do.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all};

use crate::cache::Tree;
use crate::download::{Blob, Downloads};
use crate::error::RepositoryError;
use crate::layout::{Held, Verified};
use crate::manifest::Manifest;
use crate::onnx::external_data;
use crate::shape::{Folders as _, MANIFEST, Shape, TRITON, WARMUP, below, is_inside, only_onnx};
use crate::signature::{Kept, MAX_SIGNATURE, SIGNATURE, Statement, Trust, statement, unsigned};
use crate::store::{Algorithm, Listing, Object, Source};
use crate::triton::Triton;

/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 20;

/// A model of a store whose files are being collected.
pub(crate) struct Gathering<'a> {
    downloads: &'a Downloads,
    source: &'a Source,
    /// Of everything below the source's root; none where the store cannot be asked.
    listing: Option<&'a Listing>,
    /// The model's folder, relative to the source's root.
    root: &'a str,
    name: &'a str,
    /// Who must have signed it.
    trust: Option<&'a Trust>,
    /// By path relative to `root`.
    taken: Mutex<BTreeMap<String, Blob>>,
}

/// Whether a file is a compiled plugin, which is never fetched, under whatever pretext: it is machine code, believed only
/// by who could have written it, and here that is anyone who may write to the bucket.
fn is_compiled(file: &str) -> bool {
    file.ends_with(".cwasm")
}

/// A model's files, as a folder on this machine.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) tree: Tree,
    pub(crate) verified: Verified,
    pub(crate) held: Held,
}

impl<'a> Gathering<'a> {
    pub(crate) fn new(
        downloads: &'a Downloads,
        source: &'a Source,
        listing: Option<&'a Listing>,
        root: &'a str,
        name: &'a str,
        trust: Option<&'a Trust>,
    ) -> Self {
        Self { downloads, source, listing, root, name, trust, taken: Mutex::default() }
    }

    /// One `.onnx` file and what it refers to.
    pub(crate) async fn file(self, file: &str, sha256: Option<&str>) -> Result<Gathered, RepositoryError> {
        if self.listing.is_some_and(|listing| !listing.contains_key(file)) {
            let object = self.source.shown(file);
            return Err(RepositoryError::Remote { object, reason: "there is no such file".to_owned() });
        }
        if let Some(trust) = self.trust
            && self.statement("", trust).await?.is_none()
        {
            return Err(self.unsigned(""));
        }
        self.onnx(file, sha256).await?;
        self.link(file)
    }

    /// A folder with a model, or with versions of one.
    pub(crate) async fn folder(self) -> Result<Gathered, RepositoryError> {
        let shape = match self.listing {
            Some(listing) => Shape::of(listing, self.root)?,
            // Without a listing there is a manifest or nothing.
            None => Shape::Model,
        };
        let shown = || self.source.shown(self.root).into();
        match shape {
            Shape::Model => {
                if !self.signed("").await? {
                    return Err(self.unsigned(""));
                }
                let manifest = self.manifest("").await?;
                self.version("", manifest.as_ref()).await?;
            }
            Shape::Versions(versions) => {
                let whole = self.signed("").await?;
                let top = self.manifest("").await?;
                let numbers: Vec<u64> = versions.iter().map(|(number, _)| *number).collect();
                let policy = top.as_ref().map(|(manifest, _)| manifest.versions.clone()).unwrap_or_default();
                let taken = policy.select(&numbers).map_err(|reason| self.wrong(MANIFEST, reason))?;
                let wanted = versions.iter().filter(|(number, _)| taken.contains(number));
                let (this, top) = (&self, top.as_ref());
                let all: Vec<BoxFuture<'_, _>> = wanted
                    .map(|(_, folder)| {
                        let version = async move {
                            if !whole && !this.signed(folder).await? {
                                return Err(this.unsigned(folder));
                            }
                            let own = this.manifest(folder).await?;
                            this.version(folder, own.as_ref().or(top)).await
                        };
                        version.boxed()
                    })
                    .collect();
                try_join_all(all).await?;
            }
            Shape::SavedModel => return Err(RepositoryError::SavedModel { path: shown() }),
            Shape::Models(_) | Shape::Nothing => return Err(RepositoryError::Empty { path: shown() }),
        }
        self.link("")
    }

    /// Fetches what the signature of a folder covers, when it is one that is believed; false where there is none. True
    /// where nobody asks for one. What has arrived is compared with the signature when the folder is opened: the bytes
    /// on the disk are those that are served.
    async fn signed(&self, folder: &str) -> Result<bool, RepositoryError> {
        let Some(trust) = self.trust else { return Ok(true) };
        let Some(statement) = self.statement(folder, trust).await? else { return Ok(false) };
        self.check_names(folder, &statement)?;
        let wanted = statement.names().filter(|name| Kept::Fetched.holds(name)).map(|name| below(folder, name));
        self.all(wanted.collect::<Vec<_>>().into_iter()).await?;
        Ok(true)
    }

    /// No file more and none fewer than was signed, as far as the store can be asked: before anything is downloaded.
    fn check_names(&self, folder: &str, statement: &Statement) -> Result<(), RepositoryError> {
        let refused = |name: &str, reason: &str| {
            let path = self.source.shown(&self.at(&below(folder, name))).into();
            Err(RepositoryError::Signature { path, reason: reason.to_owned() })
        };
        if statement.is_of_one_file() {
            return refused(SIGNATURE, "the signature of a single file; expected one of the folder");
        }
        let Some(listing) = self.listing else { return Ok(()) };
        let place = self.at(folder);
        let prefix = if place.is_empty() { place } else { format!("{place}/") };
        let present = listing.range(prefix.clone()..).map_while(|(key, _)| key.strip_prefix(&prefix));
        for name in present {
            if name != SIGNATURE && !statement.lists(name) && !statement.ignores(name) {
                return refused(name, "this file is not in the signature");
            }
        }
        let is_absent = |name: &str| Kept::Fetched.holds(name) && !listing.contains_key(&format!("{prefix}{name}"));
        match statement.names().find(|name| is_absent(name)) {
            Some(absent) => refused(absent, "no such file, but it is in the signature"),
            None => Ok(()),
        }
    }

    /// What the signature in a folder says, if somebody who is trusted made it; none where there is no signature.
    async fn statement(&self, folder: &str, trust: &Trust) -> Result<Option<Statement>, RepositoryError> {
        let path = below(folder, SIGNATURE);
        let refused = |path: &str, reason: String| {
            Err(RepositoryError::Signature { path: self.source.shown(&self.at(path)).into(), reason })
        };
        if self.listing.is_some_and(|listing| !listing.contains_key(&self.at(&path))) {
            return Ok(None);
        }
        let object = match self.object(&path).await {
            Ok(object) => object,
            Err(RepositoryError::Remote { object, reason }) => {
                let reason = format!("{reason}; a signature of this model is demanded");
                return Err(RepositoryError::Remote { object, reason });
            }
            Err(other) => return Err(other),
        };
        if object.0.size > MAX_SIGNATURE {
            return refused(&path, format!("it has {} bytes; at most {MAX_SIGNATURE} are read", object.0.size));
        }
        let blob = self.take_object(&path, object, None).await?;
        let text = fs::read(self.downloads.cache.blob(&blob.key)).map_err(|reason| RepositoryError::Unreadable {
            path: self.source.shown(&self.at(&path)).into(),
            reason,
        })?;
        let statement = match statement(&text, trust) {
            Ok((statement, _)) => statement,
            Err(reason) => return refused(&path, reason),
        };
        Ok(Some(statement))
    }

    fn unsigned(&self, folder: &str) -> RepositoryError {
        unsigned(self.source.shown(&self.at(&below(folder, SIGNATURE))).as_ref())
    }

    /// What the folder says of itself; with Triton's also the samples that it names.
    async fn manifest(&self, folder: &str) -> Result<Option<(Manifest, Vec<String>)>, RepositoryError> {
        for name in [MANIFEST, TRITON] {
            let path = below(folder, name);
            // A web server is not asked for Triton's: without a listing its numbered folders could not be found.
            if self.listing.is_none() && name == TRITON {
                continue;
            }
            let Some(text) = self.text(&path).await? else { continue };
            if name == MANIFEST {
                let manifest = Manifest::parse(&text).map_err(|reason| self.wrong(&path, reason))?;
                return Ok(Some((manifest, Vec::new())));
            }
            let triton = Triton::parse(&text, self.name).map_err(|reason| self.wrong(&path, reason))?;
            let samples = triton.warmup.into_iter().map(|sample| below(WARMUP, &sample.file));
            return Ok(Some((triton.manifest, samples.collect())));
        }
        Ok(None)
    }

    /// The files of one version: of those that several share, the ones that lie beside it count too.
    async fn version(&self, folder: &str, said: Option<&(Manifest, Vec<String>)>) -> Result<(), RepositoryError> {
        let manifest = said.map(|(manifest, _)| manifest.clone()).unwrap_or_default();
        let model = match (&manifest.file, self.listing) {
            (Some(file), _) => Some(self.inside("file", file)?.to_owned()),
            (None, Some(listing)) => {
                let place = below(self.root, folder);
                let place = place.trim_end_matches('/');
                only_onnx(listing, place).map_err(|error| error.at(self.source.shown(place).as_ref()))?
            }
            (None, None) if manifest.plugin.is_some() => None,
            (None, None) => {
                let reason =
                    "`file` is missing: a folder on a web server cannot be searched for an .onnx file".to_owned();
                return Err(self.wrong(&below(folder, MANIFEST), reason));
            }
        };
        let mut shared = Vec::new();
        if let Some(plugin) = &manifest.plugin {
            shared.push(self.inside("plugin.file", &plugin.file)?);
        }
        if let Some(labels) = &manifest.labels {
            shared.push(self.inside("labels", labels)?);
        }
        if model.is_none() && manifest.plugin.is_none() {
            return Err(RepositoryError::Empty { path: self.source.shown(&self.at(folder)).into() });
        }
        let samples = self.samples(folder, said.map(|(_, samples)| samples.as_slice()).unwrap_or_default())?;
        let onnx = async {
            match &model {
                Some(file) => self.onnx(&self.place(folder, file), manifest.sha256.as_deref()).await,
                None => Ok(()),
            }
        };
        let shared = self.all(shared.iter().map(|file| self.place(folder, file)));
        let samples = self.all(samples.into_iter());
        let (onnx, shared, samples) = futures::join!(onnx, shared, samples);
        // The model's own fault is the one to name.
        onnx?;
        shared?;
        samples
    }

    /// Several files side by side.
    async fn all(&self, paths: impl Iterator<Item = String>) -> Result<(), RepositoryError> {
        let all: Vec<BoxFuture<'_, _>> =
            paths.map(|path| async move { self.take(&path, None).await.map(drop) }.boxed()).collect();
        try_join_all(all).await.map(drop)
    }

    /// An `.onnx` file with its external data.
    async fn onnx(&self, file: &str, sha256: Option<&str>) -> Result<(), RepositoryError> {
        let blob = self.take(file, sha256).await?;
        let path = self.downloads.cache.blob(&blob.key);
        // What is no ONNX file is left to the backend, whose words are better.
        let Ok(locations) = external_data(&path) else { return Ok(()) };
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        if let Some(outside) = locations.iter().find(|location| !is_inside(location) || is_compiled(location)) {
            let (path, value) = (self.source.shown(&self.at(file)).into(), outside.clone());
            return Err(RepositoryError::Outside { path, key: "location", value });
        }
        self.all(locations.iter().map(|location| below(folder, location))).await
    }

    /// Samples: those that are named, else all that lie in their folder.
    fn samples(&self, folder: &str, named: &[String]) -> Result<Vec<String>, RepositoryError> {
        if let Some(outside) = named.iter().find(|file| !is_inside(file) || is_compiled(file)) {
            return Err(self.wrong(TRITON, format!("'{outside}' leads out of the model's folder")));
        }
        let Some(listing) = self.listing.filter(|_| named.is_empty()) else { return Ok(named.to_vec()) };
        for place in [folder, ""] {
            let warmup = below(place, WARMUP);
            let entries = listing.entries(&self.at(&warmup))?;
            let files = entries.iter().filter(|(file, folder)| !**folder && !is_compiled(file));
            let files: Vec<String> = files.map(|(file, _)| below(&warmup, file)).collect();
            if !files.is_empty() {
                return Ok(files);
            }
        }
        Ok(Vec::new())
    }

    fn inside<'b>(&self, key: &'static str, file: &'b str) -> Result<&'b str, RepositoryError> {
        if is_inside(file) && !is_compiled(file) {
            return Ok(file);
        }
        let path = self.source.shown(&self.at(MANIFEST)).into();
        Err(RepositoryError::Outside { path, key, value: file.to_owned() })
    }

    /// Where a file of a version is: in its folder, or beside it.
    fn place(&self, folder: &str, file: &str) -> String {
        let own = below(folder, file);
        let absent = self.listing.is_some_and(|listing| !listing.contains_key(&self.at(&own)));
        if absent && !folder.is_empty() { file.to_owned() } else { own }
    }

    /// The text of a small file; none where there is no such file.
    async fn text(&self, path: &str) -> Result<Option<String>, RepositoryError> {
        if self.listing.is_some_and(|listing| !listing.contains_key(&self.at(path))) {
            return Ok(None);
        }
        let object = self.object(path).await?;
        if object.0.size > MAX_MANIFEST {
            return Err(self.wrong(path, format!("it has {} bytes; at most {MAX_MANIFEST} are read", object.0.size)));
        }
        let blob = self.take_object(path, object, None).await?;
        let blob_path = self.downloads.cache.blob(&blob.key);
        match fs::read_to_string(&blob_path) {
            Ok(text) => Ok(Some(text)),
            Err(reason) => Err(RepositoryError::Unreadable { path: self.source.shown(&self.at(path)).into(), reason }),
        }
    }

    async fn take(&self, path: &str, sha256: Option<&str>) -> Result<Blob, RepositoryError> {
        if sha256.is_none()
            && let Some(blob) = self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(path)
        {
            return Ok(blob.clone());
        }
        let object = self.object(path).await?;
        self.take_object(path, object, sha256).await
    }

    async fn take_object(
        &self,
        path: &str,
        (object, answer): (Object, Option<crate::store::Answer>),
        sha256: Option<&str>,
    ) -> Result<Blob, RepositoryError> {
        let blob = self.downloads.fetch(self.source, &self.at(path), object, answer, sha256).await?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), blob.clone());
        Ok(blob)
    }

    async fn object(&self, path: &str) -> Result<(Object, Option<crate::store::Answer>), RepositoryError> {
        let at = self.at(path);
        match self.listing {
            Some(listing) => match listing.get(&at) {
                Some(object) => Ok((object.clone(), None)),
                None => Err(RepositoryError::Missing { path: self.source.shown(&at).into(), by: MANIFEST.to_owned() }),
            },
            None => self.downloads.probe(self.source, &at).await,
        }
    }

    /// A path of the model, relative to the source's root.
    fn at(&self, path: &str) -> String {
        match (self.root.is_empty(), path.is_empty()) {
            (true, _) => path.to_owned(),
            (false, true) => self.root.to_owned(),
            (false, false) => below(self.root, path),
        }
    }

    fn wrong(&self, path: &str, reason: String) -> RepositoryError {
        RepositoryError::Manifest { path: self.source.shown(&self.at(path)).into(), reason }
    }

    /// Makes a folder of what was taken; it is known by the URI that was asked for.
    fn link(self, file: &str) -> Result<Gathered, RepositoryError> {
        let uri = self.source.shown(&self.at(file));
        let taken = self.taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        let files = taken.iter().map(|(path, blob)| (path.clone(), blob.key.clone())).collect();
        let (tree, hold) = self.downloads.cache.tree(&uri, files).map_err(|reason| RepositoryError::Cache {
            path: self.downloads.cache.folder().to_owned(),
            object: uri.clone(),
            reason,
        })?;
        let digest = |blob: &Blob| blob.record.digests.0.get(&Algorithm::Sha256.into()).cloned();
        let verified = taken.iter().filter_map(|(path, blob)| Some((tree.path.join(path), digest(blob)?))).collect();
        Ok(Gathered { tree, verified, held: Held::new(hold) })
    }
}
