//! Looks at the sources of models from time to time. What has not changed is not opened; what cannot be read or loaded
//! leaves what serves as it is, and is said once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corymb_repository::{Found, ModelFolder, Repository, RepositoryError};
use futures::future::{join, join_all};

use super::{Live, Sources};
use crate::engine::Engine;

/// Sources that are looked at at a time.
pub(super) const AT_ONCE: usize = 16;

/// What is still being written changes from one look to the next: on a disk a change must have lasted so long.
const SETTLED: Duration = Duration::from_millis(500);

/// The revision of each source, by URI.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<String, String>);

impl Seen {
    /// Looks at all sources. Before they are opened, so that what changes in between is seen afterwards.
    pub async fn first(repository: &Repository, sources: &Sources) -> Self {
        let uris = sources.named.iter().map(|(_, uri)| uri).chain(&sources.folder);
        let look = |uri: String| async move {
            // What cannot be read now, opening says, or the next look.
            let revision = repository.revision(&uri).await.ok()?;
            Some((uri, revision))
        };
        let mut seen = BTreeMap::new();
        for uri in uris {
            seen.extend(look(uri.clone()).await);
        }
        Self(seen)
    }
}

/// What is known of one source.
#[derive(Debug, Default)]
struct Look {
    revision: Option<String>,
    /// The last that was said of it, by model.
    complaints: BTreeMap<String, String>,
    /// Whether it could not even be asked whether it has changed.
    away: bool,
    /// Models of a folder of models that were there.
    models: BTreeSet<String>,
    /// Whether it was a folder of models.
    many: bool,
}

impl Look {
    fn complain(&mut self, engine: &Engine, model: &str, error: &RepositoryError) {
        let error = error.to_string();
        if self.complaints.get(model) != Some(&error) {
            tracing::error!(model, error, "its source cannot be used; what serves is left as it is");
            // What is wrong with all of it is wrong with each.
            let all = self.models.iter().map(String::as_str).filter(|_| model.is_empty());
            all.chain([model]).for_each(|model| engine.source_failed(model, &error));
            self.complaints.insert(model.to_owned(), error);
        }
    }
}

impl Live {
    /// Looks at every source each `period`, for ever. `seen` is how they were before the models `served` were opened.
    pub async fn watch(&self, period: Duration, seen: Seen, served: &[String]) {
        let sources = &self.0.sources;
        let look = |uri: &str| Look { revision: seen.0.get(uri).cloned(), ..Look::default() };
        let named = sources.named.iter().map(|(name, uri)| {
            let mut look = look(uri);
            async move {
                loop {
                    tokio::time::sleep(period).await;
                    // It may have been loaded from elsewhere.
                    if !self.asked().places.contains_key(name) {
                        self.look_at_model(name, uri, &mut look, period).await;
                    }
                }
            }
        });
        let folder = sources.folder.iter().map(|uri| {
            let mut look = look(uri);
            let is_named = |name: &String| sources.named.iter().any(|(named, _)| named == name);
            look.models = served.iter().filter(|name| !is_named(name)).cloned().collect();
            let own_name = sources.own_name();
            look.many = look.models.len() != 1 || !look.models.iter().any(|name| Some(name) == own_name.as_ref());
            async move {
                loop {
                    tokio::time::sleep(period).await;
                    self.look_at_folder(uri, &mut look, period).await;
                }
            }
        });
        let asked = async {
            let mut looks: BTreeMap<(String, String), Look> = BTreeMap::new();
            loop {
                tokio::time::sleep(period).await;
                let places = self.asked().places.clone();
                looks.retain(|(name, uri), _| places.get(name) == Some(uri));
                for (name, uri) in places {
                    let look = looks.entry((name.clone(), uri.clone())).or_default();
                    self.look_at_model(&name, &uri, look, period).await;
                }
            }
        };
        join(join(join_all(named), join_all(folder)), asked).await;
    }

    async fn look_at_model(&self, name: &str, uri: &str, look: &mut Look, period: Duration) {
        if self.is_unloaded(name) {
            return;
        }
        let Some(revision) = self.changed(name, uri, look, period).await else { return };
        let opened = self.0.repository.open(name, uri).await;
        if self.take(name, opened, look).await {
            look.revision = Some(revision);
        }
    }

    async fn look_at_folder(&self, uri: &str, look: &mut Look, period: Duration) {
        let Some(revision) = self.changed("", uri, look, period).await else { return };
        let found = self.0.repository.look_into(uri, self.0.sources.folder_name.as_deref()).await;
        let models = match found {
            // A folder of models may be empty; a model whose files are not there is one that cannot be read.
            Ok(Found::None(..)) if look.many => Vec::new(),
            Ok(Found::None(_, path)) => return look.complain(&self.0.engine, "", &RepositoryError::Empty { path }),
            Ok(Found::One(name, opened)) => {
                if self.take(&name, opened, look).await {
                    look.revision = Some(revision);
                    look.models = [name].into();
                    look.many = false;
                }
                return;
            }
            Ok(Found::Many(models)) => models,
            Err(error) => return look.complain(&self.0.engine, "", &error),
        };
        look.many = true;
        let models: Vec<_> = models.into_iter().filter(|(name, _)| !self.is_elsewhere(name)).collect();
        let present: BTreeSet<String> = models.iter().map(|(name, _)| name.clone()).collect();
        for vanished in look.models.difference(&present).filter(|name| !self.is_elsewhere(name)) {
            tracing::warn!(model = vanished, "its folder has vanished; it is unloaded");
            self.0.engine.forget(vanished).await;
            self.asked().unloaded.remove(vanished);
            look.complaints.remove(vanished);
        }
        look.models = present;
        let mut taken = true;
        let mut updates = Vec::new();
        for (name, opened) in models {
            match opened {
                Ok(folders) => {
                    look.complaints.remove(&name);
                    updates.push(self.update(name, folders));
                }
                Err(error) => {
                    look.complain(&self.0.engine, &name, &error);
                    taken &= !error.may_pass();
                }
            }
        }
        join_all(updates).await;
        if taken {
            look.revision = Some(revision);
        }
    }

    /// The revision of a source, if it is another than before, and the same for a while.
    async fn changed(&self, name: &str, uri: &str, look: &mut Look, period: Duration) -> Option<String> {
        let revision = || async {
            // Never closed.
            let _turn = self.0.looking.acquire().await;
            self.0.repository.revision(uri).await
        };
        let first = match revision().await {
            Ok(first) => first,
            Err(error) => {
                look.complain(&self.0.engine, name, &error);
                look.away = true;
                return None;
            }
        };
        // Whoever comes back is opened again: what was said of it in between is no longer so, or is said anew.
        if std::mem::take(&mut look.away) {
            look.complaints.remove(name);
            look.revision = None;
        }
        if look.revision.as_ref() == Some(&first) {
            return None;
        }
        if Repository::is_local(uri) {
            tokio::time::sleep(period.min(SETTLED)).await;
            let second = revision().await;
            // The next look will tell.
            return second.is_ok_and(|second| second == first).then_some(first);
        }
        Some(first)
    }

    /// Whether the source need not be opened again before it changes.
    async fn take(&self, name: &str, opened: Result<Vec<ModelFolder>, RepositoryError>, look: &mut Look) -> bool {
        match opened {
            Ok(folders) => {
                look.complaints.clear();
                self.update(name.to_owned(), folders).await;
                true
            }
            Err(error) => {
                look.complain(&self.0.engine, name, &error);
                !error.may_pass()
            }
        }
    }

    async fn update(&self, name: String, folders: Vec<ModelFolder>) {
        if self.is_unloaded(&name) {
            return;
        }
        // The engine has logged why it failed.
        let _ = self.0.engine.update(&name, folders, None).await;
        // It may have been unloaded while it was being loaded.
        if self.is_unloaded(&name) {
            let _ = self.0.engine.unload(&name).await;
        }
    }

    fn is_unloaded(&self, name: &str) -> bool {
        self.asked().unloaded.contains(name)
    }

    /// Whether a model of the folder has been given another place by its name.
    fn is_elsewhere(&self, name: &str) -> bool {
        self.0.sources.named.iter().any(|(named, _)| named == name) || self.asked().places.contains_key(name)
    }
}
