//! URIs in, checked folders out: of this machine as they are, of stores by way of the cache.

mod remote;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::remote::Remote;
use crate::cache::Cache;
use crate::download::{Downloads, Progress, Silent};
use crate::error::RepositoryError;
use crate::layout::{self, Found, ModelFolder, check_name};
use crate::listed::Listed;
use crate::offline::{self, Offline};
use crate::opened;
use crate::signature::SignaturePolicy;
use crate::store::Client;
use crate::uri::{ModelUri, Place};

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
    pub async fn list(&self, uri: &str, name: Option<&str>) -> Result<Vec<Listed>, RepositoryError> {
        let parsed = ModelUri::parse(uri)?;
        if matches!(parsed.place, Place::Local(_)) {
            let (uri, name) = (uri.to_owned(), name.map(str::to_owned));
            return on_disk(move || layout::list(&uri, name.as_deref())).await;
        }
        let is_given = name.is_some();
        let own = name.map(str::to_owned).or_else(|| parsed.default_name()).unwrap_or_default();
        self.run(move |remote| async move {
            let asked = match remote.offline {
                Offline::Always => Err(remote.not_cached(&parsed)),
                _ => remote.list(&parsed, &own, is_given).await,
            };
            let (cache, place) = (remote.downloads.cache.clone(), remote.shown(&parsed));
            remote.or_cached(&parsed, asked, move || offline::list(&cache, &place, &own, is_given)).await
        })
        .await
    }

    /// Opens one of the models that [`Repository::list`] named of the place `uri`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub async fn open_listed(&self, uri: &str, listed: &Listed) -> Result<Vec<ModelFolder>, RepositoryError> {
        let parsed = ModelUri::parse(uri)?;
        let listed = listed.clone();
        if matches!(parsed.place, Place::Local(_)) {
            let uri = uri.to_owned();
            return self.local(move |signatures| layout::open_listed(&uri, &listed, signatures)).await;
        }
        // The rest of a bucket need not be listed for one of its folders.
        if let (Place::Bucket(_), Some(item), false) = (&parsed.place, &listed.item, opened::is_file(&parsed.place)) {
            return self.open(&listed.name, &Self::child(uri, item.path())?).await;
        }
        self.run(move |remote| async move {
            let asked = match remote.offline {
                Offline::Always => Err(remote.not_cached(&parsed)),
                _ => remote.open_listed(&parsed, &listed).await,
            };
            let (cache, place) = (remote.downloads.cache.clone(), remote.shown(&parsed));
            let (sha256, signatures) = (parsed.sha256.clone(), remote.signatures.clone());
            let cached = move || offline::open_listed(&cache, &place, &listed, sha256.as_deref(), &signatures);
            remote.or_cached(&parsed, asked, cached).await
        })
        .await
    }

    /// What a model is called that `uri` names, if it names one and nothing else says: as its folder, its file without the ending,
    /// or its repository.
    #[must_use]
    pub fn own_name(uri: &str) -> Option<String> {
        let parsed = ModelUri::parse(uri).ok()?;
        match &parsed.place {
            Place::Local(path) => Some(layout::own_name(&path.canonicalize().unwrap_or_else(|_| path.clone()))),
            _ => parsed.default_name(),
        }
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
