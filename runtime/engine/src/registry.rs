//! Which models there are, and which version of each answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use crate::accounting::Concurrency;
use crate::error::EngineError;
use crate::lifecycle::State;
use crate::version::Version;

/// Read by every request without a lock, replaced whole when a model appears.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    models: ArcSwap<BTreeMap<String, Arc<Entry>>>,
}

/// One model.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) concurrency: Arc<Concurrency>,
    serving: ArcSwapOption<Version>,
    /// Every version ever loaded here, in order of loading.
    versions: Mutex<Vec<(String, State)>>,
    /// Counts changes of state, for those who wait for one.
    changes: watch::Sender<u64>,
}

impl Registry {
    /// The entry of that name, made if it is new.
    pub(crate) fn entry(&self, name: &str) -> Arc<Entry> {
        if let Some(entry) = self.models.load().get(name) {
            return Arc::clone(entry);
        }
        let new = Arc::new(Entry {
            name: name.to_owned(),
            concurrency: Arc::default(),
            serving: ArcSwapOption::empty(),
            versions: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let models = self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.entry(name.to_owned()).or_insert_with(|| Arc::clone(&new));
            models
        });
        // `rcu` answers what was there before: another thread may have been first.
        models.get(name).map_or(new, Arc::clone)
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Entry>, EngineError> {
        let models = self.models.load();
        models.get(name).map(Arc::clone).ok_or_else(|| EngineError::UnknownModel {
            name: name.to_owned(),
            served: quoted(models.keys().map(String::as_str)),
        })
    }

    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.models.load().values().map(Arc::clone).collect()
    }
}

impl Entry {
    /// The version that answers, or why none does.
    pub(crate) fn serving(&self, version: Option<&str>) -> Result<Arc<Version>, EngineError> {
        let serving = self.serving.load_full();
        let Some(wanted) = version else {
            return serving.ok_or_else(|| EngineError::NotReady { model: self.name.clone(), state: self.state_name() });
        };
        if let Some(serving) = serving.filter(|serving| serving.version == wanted) {
            return Ok(serving);
        }
        let versions = self.versions();
        match versions.iter().rev().find(|(known, _)| known == wanted) {
            None | Some((_, State::Gone)) => Err(EngineError::UnknownVersion {
                model: self.name.clone(),
                version: wanted.to_owned(),
                served: quoted(
                    versions.iter().filter(|(_, state)| *state != State::Gone).map(|(known, _)| known.as_str()),
                ),
            }),
            Some((_, State::Draining)) => {
                Err(EngineError::Draining { model: self.name.clone(), version: wanted.to_owned() })
            }
            Some((_, state)) => Err(EngineError::NotReady { model: self.name.clone(), state: state.name() }),
        }
    }

    /// Whether a version may become ready without anybody's doing.
    pub(crate) fn is_coming(&self) -> bool {
        self.versions().iter().any(|(_, state)| matches!(state, State::Loading | State::WarmingUp))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.serving.load().is_some()
    }

    /// Whether nothing will change by itself: it answers, or it failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_ready() || (!self.is_coming() && !self.versions().is_empty())
    }

    pub(crate) fn states(&self) -> Vec<(String, State)> {
        self.versions().clone()
    }

    /// Moves a version along the state machine; a new version begins with `Loading`.
    ///
    /// # Errors
    /// The state it is in, when it may not become `next`.
    pub(crate) fn advance(&self, version: &str, next: State) -> Result<(), &'static str> {
        let mut versions = self.versions();
        match versions.iter_mut().find(|(known, _)| known == version) {
            Some((_, state)) if state.may_become(&next) => *state = next,
            Some((_, state)) => return Err(state.name()),
            None if next == State::Loading => versions.push((version.to_owned(), next)),
            None => return Err("unknown"),
        }
        drop(versions);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// From now on `version` answers. Answers the one before.
    pub(crate) fn swap(&self, version: Option<Arc<Version>>) -> Option<Arc<Version>> {
        self.serving.swap(version)
    }

    /// Requests that wait, for a worker or for an instance.
    pub(crate) fn queue_depth(&self) -> usize {
        let serving = self.serving.load();
        let Some(version) = serving.as_ref() else { return 0 };
        version.waiting.count() + version.queue.as_ref().map_or(0, crate::batch::Queue::depth)
    }

    /// Load over capacity of the version that answers.
    pub(crate) fn saturation(&self) -> f64 {
        self.serving.load().as_ref().map_or(0.0, |version| version.capacity.saturation())
    }

    /// So much time has passed.
    pub(crate) fn tick(&self, time: std::time::Duration) {
        if let Some(version) = self.serving.load().as_ref() {
            version.capacity.tick(time);
        }
    }

    /// Ticks at each change of state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn state_name(&self) -> &'static str {
        self.versions().last().map_or("unloaded", |(_, state)| state.name())
    }

    fn versions(&self) -> MutexGuard<'_, Vec<(String, State)>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most a few names: a server may have a thousand.
fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let all: Vec<&str> = names.collect();
    if all.is_empty() {
        return "none".to_owned();
    }
    let mut text = all.iter().take(SHOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        text.push_str(&format!(" and {} more", all.len() - SHOWN));
    }
    text
}
