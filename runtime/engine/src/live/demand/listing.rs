//! Which models there are: the list of their folder is read at the start, and again where somebody asks for a name that is not in it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corymb_core::{Code, Error};
use corymb_repository::RepositoryError;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use super::item::Item;
use super::{Inner, OnDemand};
use crate::live::{not_found, without_paths};

/// The list of models is not asked for again before that, whoever asks for a name that is not in it.
const LIST_AGAIN: Duration = Duration::from_secs(5);

/// How the list was read last.
#[derive(Debug, Default)]
pub(super) struct State {
    read: Option<Instant>,
    /// Why it could not be.
    failed: Option<String>,
    /// Somebody reads it.
    running: Option<Shared<BoxFuture<'static, ()>>>,
}

impl OnDemand {
    /// Reads the list of models. Those that are new to it are known from now on, as not loaded. The names are those in the folder of
    /// models, where there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self) -> Result<Vec<String>, RepositoryError> {
        let listed = self.read_list().await;
        let mut state = self.0.listing();
        state.read = Some(Instant::now());
        state.failed = listed.as_ref().err().map(ToString::to_string);
        listed
    }

    async fn read_list(&self) -> Result<Vec<String>, RepositoryError> {
        let live = &self.0.live.0;
        let sources = &live.sources;
        let listed = match &sources.folder {
            Some(folder) => live.repository.list(folder, sources.folder_name.as_deref()).await?,
            None => Vec::new(),
        };
        let in_folder = listed.iter().map(|listed| listed.name.clone()).collect();
        let names =
            sources.named.iter().map(|(name, _)| name).chain(sources.embedded.iter().map(|folder| &folder.name));
        let all = names.map(|name| (name.clone(), None));
        let all = all.chain(listed.into_iter().map(|listed| (listed.name.clone(), Some(listed))));
        let mut items = self.0.items.write().unwrap_or_else(PoisonError::into_inner);
        for (name, listed) in all {
            let item = items.entry(name).or_insert_with_key(|name| {
                live.engine.rest(name);
                Arc::default()
            });
            if let Some(listed) = listed {
                item.list(listed);
            }
        }
        Ok(in_folder)
    }

    /// One that has come since the list was read.
    pub(super) async fn new_item(&self, model: &str, until: Instant) -> Result<Arc<Item>, Error> {
        if let Some(running) = self.listing_anew()
            && tokio::time::timeout_at(until.into(), running).await.is_err()
        {
            let message = "the list of models was not read when the deadline passed; it is being read".to_owned();
            return Err(Error::new(Code::DeadlineExceeded, message));
        }
        let missing = || match &self.0.listing().failed {
            Some(reason) => {
                let shown = without_paths(reason);
                let message =
                    format!("there is no model '{model}' yet, and the list of models cannot be read: {shown}");
                Error { details: Some(reason.clone()), ..Error::new(Code::NotReady, message) }
            }
            None => not_found(model),
        };
        self.0.item(model).ok_or_else(missing)
    }

    /// The reading that is under way, else one that begins where the last was long ago. It goes on, whoever waits for it.
    fn listing_anew(&self) -> Option<Shared<BoxFuture<'static, ()>>> {
        let mut state = self.0.listing();
        if let Some(running) = &state.running {
            return Some(running.clone());
        }
        if state.read.is_some_and(|read| read.elapsed() < LIST_AGAIN) {
            return None;
        }
        let demand = self.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = demand.list().await {
                tracing::warn!(%error, "the list of models cannot be read");
            }
        });
        let inner = Arc::clone(&self.0);
        // However it ended.
        let running = task.map(move |_| inner.listing().running = None).boxed().shared();
        state.running = Some(running.clone());
        Some(running)
    }
}

impl Inner {
    /// Whether the sources have a model of that name still; so, too, where they cannot be asked.
    pub(super) async fn is_listed(&self, model: &str) -> bool {
        let live = &self.live.0;
        let Some(folder) = live.sources.folder.as_ref().filter(|_| self.live.named(model).is_none()) else {
            return true;
        };
        let listed = live.repository.list(folder, live.sources.folder_name.as_deref()).await;
        listed.map_or(true, |listed| listed.iter().any(|listed| listed.name == model))
    }

    fn listing(&self) -> MutexGuard<'_, State> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
