//! What of a store a model needs, and no more: its manifest says, or the names of its files do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all, try_join_all};

use crate::cache::Tree;
use crate::download::{Blob, Downloads};
use crate::error::RepositoryError;
use crate::layout::{Held, Verified};
use crate::manifest::Manifest;
use crate::onnx::external_data;
use crate::plan::{Ask, Plan, Step, Texts, step};
use crate::shape::{Folders, MANIFEST, below, is_inside, normal};
use crate::signature::{Kept, MAX_SIGNATURE, SIGNATURE, Statement, Trust, statement, unsigned};
use crate::store::{Algorithm, Digests, Listing, Object, Source};

/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 20;

/// What describes a model to others and is small: tokenizers, vocabularies, how pictures are prepared.
const BESIDE: [&str; 17] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "target.spm",
    "source.spm",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];
/// The most bytes of one of them.
const MAX_BESIDE: u64 = 256 << 20;

/// The model's folder in a listing.
struct Seen<'a> {
    listing: &'a Listing,
    source: &'a Source,
    root: &'a str,
}

impl Folders for Seen<'_> {
    fn entries(&self, path: &str) -> Result<BTreeMap<String, bool>, RepositoryError> {
        self.listing.entries(&at(self.root, path))
    }

    fn shown(&self, path: &str) -> String {
        self.source.shown(&at(self.root, path))
    }

    fn is_forbidden(&self, file: &str) -> bool {
        is_compiled(file)
    }
}

/// A path of the model in the folder `root`, relative to what that is relative to.
fn at(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { below(root, path) }
}

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
    /// The manifest, where it was asked for already.
    manifest: Option<&'a Object>,
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
        manifest: Option<&'a Object>,
    ) -> Self {
        Self { downloads, source, listing, root, name, trust, manifest, taken: Mutex::default() }
    }

    /// One `.onnx` file and what it refers to.
    pub(crate) async fn file(self, file: &str, sha256: Option<&str>) -> Result<Gathered, RepositoryError> {
        if let Some(trust) = self.trust
            && self.statement("", trust).await?.is_none()
        {
            return Err(self.unsigned(""));
        }
        self.onnx(file, sha256).await?;
        self.beside([""; 3]).await;
        self.link(file)
    }

    /// A folder with a model, or with versions of one, or above it.
    pub(crate) async fn folder(self) -> Result<(Gathered, Plan), RepositoryError> {
        let named;
        let listing = match self.listing {
            Some(listing) => listing,
            None => {
                named = self.named().await?;
                &named
            }
        };
        let (ask, mut texts) = (Ask::of(self.name), Texts::new());
        let plan = loop {
            let seen = Seen { listing, source: self.source, root: self.root };
            match step(&seen, &texts, &ask)? {
                Step::Done(plan) => break plan,
                Step::Read(path) => {
                    let text = self.text(&path).await?;
                    texts.insert(path, text);
                }
            }
        };
        plan.announce(self.name);
        if !self.signed(&plan.base).await? {
            if !plan.numbered {
                return Err(self.unsigned(&plan.base));
            }
            for version in &plan.versions {
                if !self.signed(&version.folder).await? {
                    return Err(self.unsigned(&version.folder));
                }
            }
        }
        let models = plan.versions.iter().filter_map(|version| {
            let model = version.model.as_deref()?;
            Some(self.onnx(model, version.manifest.sha256.as_deref()).boxed())
        });
        let models = try_join_all(models.collect::<Vec<BoxFuture<'_, _>>>());
        let others = self.all(plan.files().map(str::to_owned));
        let (models, others) = futures::join!(models, others);
        // The model's own fault is the one to name.
        models?;
        others?;
        self.all(self.packed().into_iter()).await?;
        // They are compared on the disk, whichever version they are of.
        let checked = plan.checked().filter(|path| !is_compiled(path)).map(str::to_owned);
        self.all(checked.collect::<BTreeSet<_>>().into_iter()).await?;
        join_all(plan.versions.iter().map(|version| self.beside([version.folder.as_str(), &plan.base, ""]))).await;
        Ok((self.link("")?, plan))
    }

    /// Of an archive, which is here, all that lies in the model's folder: it stays in the cache as one.
    fn packed(&self) -> Vec<String> {
        let Some(listing) = self.listing.filter(|_| matches!(self.source, Source::Archive(_))) else {
            return Vec::new();
        };
        let prefix = if self.root.is_empty() { String::new() } else { format!("{}/", self.root) };
        let paths = listing.range(prefix.clone()..).map_while(|(path, _)| path.strip_prefix(&prefix));
        paths.filter(|path| !is_compiled(path)).map(str::to_owned).collect()
    }

    /// What the manifest of a folder names that cannot be listed.
    async fn named(&self) -> Result<Listing, RepositoryError> {
        let text = self.text(MANIFEST).await?;
        let manifest = Manifest::parse(&text).map_err(|reason| self.wrong(MANIFEST, reason))?;
        if manifest.file.is_none() && manifest.plugin.is_none() {
            let reason = "`file` is missing: a folder on a web server cannot be searched for an .onnx file".to_owned();
            return Err(self.wrong(MANIFEST, reason));
        }
        let plugin = manifest.plugin.as_ref().map(|section| section.file.as_str());
        let names = [Some(MANIFEST), manifest.file.as_deref(), plugin, manifest.labels.as_deref()];
        let unknown = Object { size: 0, tag: None, digests: Digests::default(), composite: None };
        Ok(names.into_iter().flatten().map(|name| (self.at(&normal(name)), unknown.clone())).collect())
    }

    /// Takes what describes a model to others, such as its tokenizer, from the first of the folders that has it. The model is
    /// served without, so what is wrong with one is said and no more.
    async fn beside(&self, folders: [&str; 3]) {
        let Some(listing) = self.listing else { return };
        let places = BESIDE.into_iter().filter_map(|name| {
            let paths = folders.map(|folder| below(folder, name));
            let known = |path: &String| listing.get(&self.at(path)).is_some_and(|object| object.size <= MAX_BESIDE);
            paths.into_iter().find(known)
        });
        let take = |path: String| {
            async move {
                if let Err(error) = self.take(&path, None).await {
                    tracing::warn!(model = self.name, %error, "a file beside the model cannot be fetched");
                }
            }
            .boxed()
        };
        join_all(places.map(take).collect::<Vec<BoxFuture<'_, _>>>()).await;
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

    /// The text of a small file.
    pub(crate) async fn text(&self, path: &str) -> Result<String, RepositoryError> {
        let object = self.object(path).await?;
        if object.0.size > MAX_MANIFEST {
            return Err(self.wrong(path, format!("it has {} bytes; at most {MAX_MANIFEST} are read", object.0.size)));
        }
        let blob = self.take_object(path, object, None).await?;
        let blob_path = self.downloads.cache.blob(&blob.key);
        fs::read_to_string(&blob_path)
            .map_err(|reason| RepositoryError::Unreadable { path: self.source.shown(&self.at(path)).into(), reason })
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
                None => {
                    let object = self.source.shown(&at);
                    Err(RepositoryError::Remote { object, reason: "there is no such object".to_owned() })
                }
            },
            None => match self.manifest.filter(|_| at == MANIFEST) {
                Some(known) => Ok((known.clone(), None)),
                None => self.downloads.probe(self.source, &at).await,
            },
        }
    }

    /// A path of the model, relative to the source's root.
    fn at(&self, path: &str) -> String {
        at(self.root, path)
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

#[cfg(test)]
mod tests;
