//! Models of stores: asked, downloaded and opened on threads of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::runtime::Runtime;

use super::on_disk;
use crate::download::Downloads;
use crate::error::RepositoryError;
use crate::gather::{Gathered, Gathering};
use crate::layout::{self, Demands, Found, ModelFolder, check_name};
use crate::listed::{Lies, Listed};
use crate::offline::{self, Offline};
use crate::opened::{self, Opened};
use crate::plan::{Below, below_of};
use crate::shape::{Aside, MLSERVER, below};
use crate::signature::{Kept, SignaturePolicy};
use crate::store::{Client, Source};
use crate::uri::ModelUri;

/// How long a store may not answer from which something was downloaded before.
const SOON: Duration = Duration::from_secs(10);
/// Models that are downloaded at a time.
const MODELS: usize = 16;

/// What only downloads need: made with the first, since a server of local models starts in less time than this takes.
pub(super) struct Remote {
    /// Threads of its own: writing to a slow disk must not hold up requests.
    pub(super) runtime: Option<Runtime>,
    pub(super) client: Client,
    pub(super) downloads: Downloads,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) signatures: SignaturePolicy,
    pub(super) offline: Offline,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // What is under way is continued by the next process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    pub(super) async fn source(&self, uri: &ModelUri) -> Result<Opened, RepositoryError> {
        // Who has something to serve does not wait as long for a store.
        let is_known = self.offline == Offline::Unreachable && offline::knows(&self.downloads.cache, &self.shown(uri));
        let downloads = if is_known { self.downloads.within(SOON) } else { self.downloads.clone() };
        opened::open(uri, &downloads, &self.client, &self.environment).await
    }

    /// What a place is called.
    pub(super) fn shown(&self, uri: &ModelUri) -> String {
        opened::shown(uri, &self.environment)
    }

    pub(super) fn not_cached(&self, uri: &ModelUri) -> RepositoryError {
        RepositoryError::NotCached { object: self.shown(uri), path: self.downloads.cache.folder().to_owned() }
    }

    /// What the store answered; where it cannot be reached, what was downloaded from it before.
    pub(super) async fn or_cached<T: Send + 'static>(
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

    pub(super) async fn open(&self, uri: &ModelUri, name: &str) -> Result<Vec<ModelFolder>, RepositoryError> {
        let opened = self.source(uri).await?;
        self.model(&opened, "", name, None).await
    }

    /// The models of a place that was asked, by name; else the paths of those below it. A repository of the hub is named as its
    /// model.
    async fn models_of(
        &self,
        opened: &Opened,
        own: &str,
        is_given: bool,
    ) -> Result<Result<Vec<Listed>, Vec<String>>, RepositoryError> {
        let Some(listing) = opened.listing.as_ref().filter(|_| opened.file.is_none()) else {
            return Ok(Ok(vec![Listed::itself(own.to_owned())]));
        };
        let is_hub = matches!(opened.source, Source::Hub(_));
        let is_one = is_given || (is_hub && matches!(below_of(listing, "")?, Below::One(_)));
        let (lies, asides) = Lies::of(listing, is_one)?;
        asides.iter().for_each(Aside::announce);
        if let Lies::Nothing(below) = lies {
            return Ok(Err(below));
        }
        let folders = if is_given { Vec::new() } else { lies.texts(listing) };
        let read = |folder: String| {
            async move {
                let gathering =
                    Gathering::new(&self.downloads, &opened.source, Some(listing), &folder, own, None, None);
                // What cannot be read is said when it is opened.
                let text = gathering.text(MLSERVER).await.ok()?;
                Some((folder, text))
            }
            .boxed()
        };
        let reads: Vec<BoxFuture<'_, _>> = folders.into_iter().map(read).collect();
        let texts: Vec<Option<(String, String)>> = stream::iter(reads).buffered(MODELS).collect().await;
        Ok(Ok(lies.listed(own, &texts.into_iter().flatten().collect())))
    }

    pub(super) async fn list(&self, uri: &ModelUri, own: &str, is_given: bool) -> Result<Vec<Listed>, RepositoryError> {
        let opened = self.source(uri).await?;
        let listed = self.models_of(&opened, own, is_given).await?.unwrap_or_default();
        self.remember(uri, is_given, &listed);
        Ok(listed)
    }

    /// So that the same are known while the place cannot be asked.
    fn remember(&self, uri: &ModelUri, is_given: bool, listed: &[Listed]) {
        if !is_given {
            self.downloads.cache.keep_place(&self.shown(uri), listed);
        }
    }

    pub(super) async fn open_listed(
        &self,
        uri: &ModelUri,
        listed: &Listed,
    ) -> Result<Vec<ModelFolder>, RepositoryError> {
        let opened = self.source(uri).await?;
        self.item(&opened, listed).await
    }

    async fn item(&self, opened: &Opened, listed: &Listed) -> Result<Vec<ModelFolder>, RepositoryError> {
        let file = listed.item.as_ref().and_then(|item| item.file.as_deref());
        let root = listed.item.as_ref().filter(|_| file.is_none()).map_or("", |item| item.path());
        self.model(opened, root, &listed.name, file).await
    }

    pub(super) async fn look_into(
        self: &Arc<Self>,
        uri: &ModelUri,
        name: &str,
        is_given: bool,
    ) -> Result<Found, RepositoryError> {
        let opened = self.source(uri).await?;
        let listed = match self.models_of(&opened, name, is_given).await? {
            Ok(listed) => listed,
            Err(below) => return Ok(Found::None(below, self.shown(uri).into())),
        };
        self.remember(uri, is_given, &listed);
        if let [itself @ Listed { item: None, .. }] = &listed[..] {
            // Of a place that cannot be reached there may be something to serve.
            return match self.item(&opened, itself).await {
                Err(error @ RepositoryError::Unreachable { .. }) => Err(error),
                models => Ok(Found::One(itself.name.clone(), models)),
            };
        }
        // Boxed, because the compiler cannot see that a future of a borrowed name may move between threads.
        let open = |listed: Listed| {
            let opened = &opened;
            async move {
                let models = self.item(opened, &listed).await;
                (listed.name, models)
            }
            .boxed()
        };
        let opens: Vec<BoxFuture<'_, _>> = listed.into_iter().map(open).collect();
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
