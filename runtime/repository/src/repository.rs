//! URIs in, checked folders out: of this machine as they are, of stores by way of the cache.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::runtime::Runtime;

use crate::cache::Cache;
use crate::download::{Downloads, Progress, Silent};
use crate::error::RepositoryError;
use crate::gather::{Gathered, Gathering};
use crate::layout::{self, Demands, Found, ModelFolder, check_name};
use crate::offline::{self, Offline};
use crate::opened::{self, Opened};
use crate::plan::{Below, below_of};
use crate::shape::{Item, Shape, below};
use crate::signature::{Kept, SignaturePolicy};
use crate::store::{Client, Listing, Source};
use crate::uri::{ModelUri, Place};

/// How long a store may not answer from which something was downloaded before.
const SOON: Duration = Duration::from_secs(10);
/// Models that are downloaded at a time.
const MODELS: usize = 16;

/// What the repository needs to know of its surroundings.
#[derive(Clone)]
pub struct RepositoryOptions {
    /// Where to keep what is downloaded. None: nothing can be downloaded.
    pub cache: Option<PathBuf>,
    /// Bytes that the cache may hold; none for no bound.
    pub cache_size: Option<u64>,
    /// How long all tries together may bring nothing.
    pub download_timeout: Duration,
    /// Variables that say who asks: `AWS_…`, `GOOGLE_…`, `GCE_METADATA_HOST`, `CLOUDSDK_CONFIG`, `AZURE_…`, `IDENTITY_ENDPOINT`,
    /// `HF_…`, `HUGGING_FACE_HUB_TOKEN`, `XDG_CACHE_HOME`, `STORAGE_EMULATOR_HOST`, `HOME`; those of KServe: `S3_…`, `AZ_…`,
    /// `STORAGE_CONFIG`, `STORAGE_OVERRIDE_CONFIG`, `awsAnonymousCredential`, `CA_BUNDLE_…`; those of registries: `DOCKER_CONFIG`,
    /// `REGISTRY_AUTH_FILE`, `XDG_RUNTIME_DIR`; and whom to trust: `SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE`,
    /// `CURL_CA_BUNDLE`. A `credential_process` of AWS and a credential helper of Docker are run with all of them.
    pub environment: BTreeMap<String, String>,
    /// Who is told how far downloads are.
    pub progress: Option<Arc<dyn Progress>>,
    /// Which models must be signed, and by whom.
    pub signatures: SignaturePolicy,
    /// Whether what was downloaded before may stand for a store.
    pub offline: Offline,
}

/// Opens models. What it hands out stays in the cache for as long as that lives.
pub struct Repository {
    options: RepositoryOptions,
    remote: Mutex<Option<Arc<Remote>>>,
}

/// What only downloads need: made with the first, since a server of local models starts in less time than this takes.
struct Remote {
    /// Threads of its own: writing to a slow disk must not hold up requests.
    runtime: Option<Runtime>,
    client: Client,
    downloads: Downloads,
    environment: BTreeMap<String, String>,
    signatures: SignaturePolicy,
    offline: Offline,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // What is under way is continued by the next process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The environment holds secrets, so it is left out.
impl fmt::Debug for RepositoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryOptions")
            .field("cache", &self.cache)
            .field("cache_size", &self.cache_size)
            .field("download_timeout", &self.download_timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Repository {
    /// Touches neither disk nor network.
    #[must_use]
    pub fn new(options: RepositoryOptions) -> Self {
        Self { options, remote: Mutex::default() }
    }

    /// The model at `uri` under the name `name`: the versions that its policy takes, ascending.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub async fn open(&self, name: &str, uri: &str) -> Result<Vec<ModelFolder>, RepositoryError> {
        check_name(name)?;
        let parsed = ModelUri::parse(uri)?;
        let name = name.to_owned();
        if matches!(parsed.place, Place::Local(_)) {
            let uri = uri.to_owned();
            return self.local(move |signatures| layout::open(&name, &uri, signatures)).await;
        }
        self.run(move |remote| async move {
            let asked = match remote.offline {
                Offline::Always => Err(remote.not_cached(&parsed)),
                _ => remote.open(&parsed, &name).await,
            };
            let (cache, uri, signatures) =
                (remote.downloads.cache.clone(), remote.shown(&parsed), remote.signatures.clone());
            let sha256 = parsed.sha256.clone();
            remote
                .or_cached(&parsed, asked, move || offline::open(&cache, &uri, &name, sha256.as_deref(), &signatures))
                .await
        })
        .await
    }

    /// The names of the models in a place, as [`Repository::look_into`] would open them, without opening them.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn names(&self, uri: &str, name: Option<&str>) -> Result<Vec<String>, RepositoryError> {
        let parsed = ModelUri::parse(uri)?;
        if matches!(parsed.place, Place::Local(_)) {
            let (uri, name) = (uri.to_owned(), name.map(str::to_owned));
            return on_disk(move || layout::names(&uri, name.as_deref())).await;
        }
        let given = name.map(str::to_owned);
        let own = given.clone().or_else(|| parsed.default_name()).unwrap_or_default();
        self.run(move |remote| async move {
            let opened = remote.source(&parsed).await?;
            let shape = match &opened.listing {
                Some(listing) if opened.file.is_none() && given.is_none() => Shape::of(listing, "")?,
                _ => Shape::Model,
            };
            Ok(match shape {
                Shape::Models(items) => items.into_iter().map(|item| item.name).collect(),
                Shape::Nothing => Vec::new(),
                _ => vec![own],
            })
        })
        .await
    }

    /// As [`Repository::open`], of the versions before `version` alone, for where that cannot be loaded.
    ///
    /// # Errors
    /// There is none, the manifest names its versions, or the model is not of this machine.
    pub async fn open_before(&self, name: &str, uri: &str, version: u64) -> Result<Vec<ModelFolder>, RepositoryError> {
        check_name(name)?;
        let (name, uri) = (name.to_owned(), uri.to_owned());
        self.local(move |signatures| layout::open_before(&name, &uri, version, signatures)).await
    }

    /// What `--model-dir` names: a model itself (named `name`, or as its folder), or a folder of models, each named as
    /// its folder.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub async fn open_dir(&self, uri: &str, name: Option<&str>) -> Result<Vec<ModelFolder>, RepositoryError> {
        self.look_into(uri, name).await?.all()
    }

    /// As [`Repository::open_dir`], but what is wrong with one model does not hide the others.
    ///
    /// # Errors
    /// When the place itself cannot be read.
    pub async fn look_into(&self, uri: &str, name: Option<&str>) -> Result<Found, RepositoryError> {
        let parsed = ModelUri::parse(uri)?;
        if matches!(parsed.place, Place::Local(_)) {
            let (uri, name) = (uri.to_owned(), name.map(str::to_owned));
            return self.local(move |signatures| layout::look_into(&uri, name.as_deref(), signatures)).await;
        }
        let is_given = name.is_some();
        let name = name.map(str::to_owned).or_else(|| parsed.default_name()).unwrap_or_default();
        self.run(move |remote| async move {
            let asked = match remote.offline {
                Offline::Always => Err(remote.not_cached(&parsed)),
                _ => remote.look_into(&parsed, &name, is_given).await,
            };
            let (cache, uri, signatures) =
                (remote.downloads.cache.clone(), remote.shown(&parsed), remote.signatures.clone());
            remote
                .or_cached(&parsed, asked, move || offline::look_into(&cache, &uri, &name, is_given, &signatures))
                .await
        })
        .await
    }

    /// The URI of the folder `name` in a place that holds models.
    ///
    /// # Errors
    /// When `name` cannot name a model, which a path or `..` cannot.
    pub fn child(uri: &str, name: &str) -> Result<String, RepositoryError> {
        check_name(name)?;
        // What may stand behind a path is a signature.
        let (path, rest) = uri.find('?').filter(|_| uri.contains("://")).map_or((uri, ""), |at| uri.split_at(at));
        Ok(format!("{}/{name}{rest}", path.trim_end_matches('/')))
    }

    /// Whether what `uri` names is `root` or lies below it. Links of this machine are followed first, and what is not
    /// there lies nowhere.
    #[must_use]
    pub fn is_below(uri: &str, root: &str) -> bool {
        let (Ok(uri), Ok(root)) = (ModelUri::parse(uri), ModelUri::parse(root)) else { return false };
        match (&uri.place, &root.place) {
            (Place::Local(path), Place::Local(root)) => match (path.canonicalize(), root.canonicalize()) {
                (Ok(path), Ok(root)) => path.starts_with(root),
                _ => false,
            },
            (place, root) => place.is_below(root),
        }
    }

    /// Whether `uri` names something of this machine, which is read while it is being written.
    #[must_use]
    pub fn is_local(uri: &str) -> bool {
        ModelUri::parse(uri).is_ok_and(|uri| matches!(uri.place, Place::Local(_)))
    }

    /// What changes when something below `uri` does, cheaply: names, sizes and tags, without their content. Polling it
    /// tells when to open anew. Of a web folder it is the manifest and of a file the file.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub async fn revision(&self, uri: &str) -> Result<String, RepositoryError> {
        let parsed = ModelUri::parse(uri)?;
        if let Place::Local(path) = &parsed.place {
            let path = path.clone();
            return on_disk(move || crate::revision::of_disk(&path)).await;
        }
        self.run(move |remote| async move {
            if remote.offline == Offline::Always {
                return Ok(String::new());
            }
            if let Some(digest) =
                opened::digest(&parsed, &remote.downloads, &remote.client, &remote.environment).await?
            {
                return Ok(digest);
            }
            let opened = remote.source(&parsed).await?;
            opened.revision(&remote.downloads).await
        })
        .await
    }

    /// Opens on a thread that may block.
    async fn local<T: Send + 'static>(
        &self,
        open: impl FnOnce(&SignaturePolicy) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let signatures = self.options.signatures.clone();
        on_disk(move || open(&signatures)).await
    }

    /// Runs on the threads of downloads, whichever thread waits for it.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Remote>) -> F + Send + 'static) -> Result<T, RepositoryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RepositoryError>> + Send + 'static,
    {
        let remote = self.remote()?;
        let Some(runtime) = &remote.runtime else { return Err(stopped()) };
        let working = Arc::clone(&remote);
        let result = runtime.spawn(async move { work(working).await });
        result.await.map_err(|_| stopped())?
    }

    fn remote(&self) -> Result<Arc<Remote>, RepositoryError> {
        let mut remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = &*remote {
            return Ok(Arc::clone(remote));
        }
        let options = &self.options;
        let folder = options.cache.as_ref().ok_or(RepositoryError::NoCache)?.join("models");
        let failed = |reason| RepositoryError::Cache { path: folder.clone(), object: "open".to_owned(), reason };
        let cache = Cache::open(&folder, options.cache_size).map_err(failed)?;
        let client = Client::new(&options.environment)
            .map_err(|fault| RepositoryError::Remote { object: "HTTPS".to_owned(), reason: fault.reason })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("download")
            .enable_all()
            .build()
            .map_err(failed)?;
        let progress = options.progress.clone().unwrap_or_else(|| Arc::new(Silent));
        let downloads = Downloads::new(cache, progress, options.download_timeout);
        let environment = options.environment.clone();
        let signatures = options.signatures.clone();
        let offline = options.offline;
        let made = Arc::new(Remote { runtime: Some(runtime), client, downloads, environment, signatures, offline });
        *remote = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Reading files may take long: not for a thread that serves.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| stopped())?
}

fn stopped() -> RepositoryError {
    RepositoryError::Remote { object: "download".to_owned(), reason: "it was stopped".to_owned() }
}

impl Remote {
    async fn source(&self, uri: &ModelUri) -> Result<Opened, RepositoryError> {
        // Who has something to serve does not wait as long for a store.
        let is_known = self.offline == Offline::Unreachable && offline::knows(&self.downloads.cache, &self.shown(uri));
        let downloads = if is_known { self.downloads.within(SOON) } else { self.downloads.clone() };
        opened::open(uri, &downloads, &self.client, &self.environment).await
    }

    /// What a place is called.
    fn shown(&self, uri: &ModelUri) -> String {
        opened::shown(uri, &self.environment)
    }

    fn not_cached(&self, uri: &ModelUri) -> RepositoryError {
        RepositoryError::NotCached { object: self.shown(uri), path: self.downloads.cache.folder().to_owned() }
    }

    /// What the store answered; where it cannot be reached, what was downloaded from it before.
    async fn or_cached<T: Send + 'static>(
        &self,
        uri: &ModelUri,
        asked: Result<T, RepositoryError>,
        cached: impl FnOnce() -> Result<Option<T>, RepositoryError> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let error = match asked {
            Err(error @ RepositoryError::NotCached { .. }) => error,
            Err(error @ RepositoryError::Unreachable { .. }) if self.offline == Offline::Unreachable => error,
            other => return other,
        };
        let Some(found) = on_disk(cached).await? else { return Err(error) };
        if self.offline == Offline::Unreachable {
            let (place, error) = (self.shown(uri), error.to_string());
            tracing::warn!(place, error, "the store cannot be reached; what was downloaded from it before is served");
        }
        Ok(found)
    }

    async fn open(&self, uri: &ModelUri, name: &str) -> Result<Vec<ModelFolder>, RepositoryError> {
        let opened = self.source(uri).await?;
        self.model(&opened, "", name, None).await
    }

    async fn look_into(self: &Arc<Self>, uri: &ModelUri, name: &str, is_given: bool) -> Result<Found, RepositoryError> {
        let opened = self.source(uri).await?;
        let shape = match &opened.listing {
            Some(listing) if opened.file.is_none() => Shape::said(listing, !is_given)?,
            _ => Shape::Model,
        };
        // A name is that of the one model here, or below; a repository of the hub is named as its model.
        let is_hub = matches!(opened.source, Source::Hub(_));
        let below = |listing: &Listing| Ok::<_, RepositoryError>(matches!(below_of(listing, "")?, Below::One(_)));
        let is_one = is_given || (is_hub && opened.listing.as_ref().map_or(Ok(false), below)?);
        let items = match shape {
            Shape::Models(items) if !is_one => items,
            Shape::Nothing if !is_one => {
                let below = opened.listing.as_ref().map(|listing| below_of(listing, "")).transpose()?;
                return Ok(Found::None(below.map(Below::paths).unwrap_or_default(), self.shown(uri).into()));
            }
            _ => {
                let models = self.model(&opened, "", name, None).await;
                // Of a place that cannot be reached there may be something to serve.
                return match models {
                    Err(error @ RepositoryError::Unreachable { .. }) => Err(error),
                    models => Ok(Found::One(name.to_owned(), models)),
                };
            }
        };
        // Boxed, because the compiler cannot see that a future of a borrowed name may move between threads.
        let open = |item: &Item| {
            let (name, file) = (item.name.clone(), item.file.clone());
            let root = if file.is_some() { String::new() } else { name.clone() };
            let opened = &opened;
            async move {
                let models = self.model(opened, &root, &name, file.as_deref()).await;
                (name, models)
            }
            .boxed()
        };
        let opens: Vec<BoxFuture<'_, _>> = items.iter().map(open).collect();
        Ok(Found::Many(stream::iter(opens).buffered(MODELS).collect().await))
    }

    /// The model in the folder `root`, or the `file` in a folder of models.
    async fn model(
        &self,
        opened: &Opened,
        root: &str,
        name: &str,
        file: Option<&str>,
    ) -> Result<Vec<ModelFolder>, RepositoryError> {
        check_name(name)?;
        let trust = self.signatures.of(name);
        let trust = trust.as_deref();
        let listing = opened.listing.as_ref();
        let gathering =
            Gathering::new(&self.downloads, &opened.source, listing, root, name, trust, opened.manifest.as_ref());
        let file = file.or(opened.file.as_deref());
        let (Gathered { tree, verified, held }, plan) = match file {
            None => gathering.folder().await.map(|(gathered, plan)| (gathered, Some(plan)))?,
            Some(file) => (gathering.file(file, opened.sha256.as_deref()).await?, None),
        };
        let demands = Demands { verified: &verified, trust, kept: Kept::Fetched };
        let open = || match (plan, file) {
            (Some(plan), _) => layout::open_plan(name, &tree.path, plan, None, demands).map_err(|failed| failed.1),
            (None, file) => {
                let path = tree.path.join(file.unwrap_or_default());
                layout::open_path(name, &path, opened.sha256.as_deref(), demands)
            }
        };
        // All files are read for a signature, and others are downloading on these threads.
        let model = if trust.is_some() { tokio::task::block_in_place(open) } else { open() };
        let model = model.map(|mut versions| {
            versions.iter_mut().for_each(|version| version.held = held.clone());
            versions
        });
        // Where the file is from says more than where in the cache it lies.
        model.map_err(|error| match error {
            RepositoryError::Signature { path, reason } => {
                let inside = path.strip_prefix(&tree.path).map(|inside| below(root, &inside.to_string_lossy()));
                let path = inside.map_or(path, |inside| opened.source.shown(&inside).into());
                RepositoryError::Signature { path, reason }
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_a_folder_is_not_below_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("root/a")).expect("made");
        std::fs::create_dir_all(at("root2")).expect("made");
        std::os::unix::fs::symlink(at("root2"), at("root/link")).expect("linked");
        let root = at("root").display().to_string();
        let below = |name: &str| Repository::is_below(&at(name).display().to_string(), &root);
        assert!(below("root/a") && below("root") && below("root/a/../a"));
        for outside in ["root2", "root/../root2", "root/link", "root/absent"] {
            assert!(!below(outside), "{outside}");
        }
        assert!(Repository::is_below(&format!("file://{root}/a"), &root));
    }

    #[test]
    fn the_folder_of_a_model_is_named_by_it() {
        assert_eq!(Repository::child("/m/", "a").expect("a name"), "/m/a");
        assert_eq!(Repository::child("https://h/m?sig=1", "a").expect("a name"), "https://h/m/a?sig=1");
        for wrong in ["..", "../x", "a/b", ""] {
            assert!(Repository::child("/m", wrong).is_err(), "{wrong}");
        }
    }
}
