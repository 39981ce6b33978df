//! Which models there are, and which versions of each answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use opentelemetry::KeyValue;
use tokio::sync::watch;

use crate::accounting::Concurrency;
use crate::batch::{Instances, Queue};
use crate::error::{EngineError, quoted};
use crate::lifecycle::State;
use crate::loads::{Loads, VersionStatus};
use crate::signals::Series;
use crate::split::{Draws, Shares, Split};
use crate::version::Version;

/// Read by every request without a lock, replaced whole when a model appears.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    models: ArcSwap<BTreeMap<String, Arc<Entry>>>,
}

/// One model, and what answers for its versions.
#[derive(Debug)]
pub(crate) struct Entry<V = Version> {
    pub(crate) name: String,
    pub(crate) concurrency: Arc<Concurrency>,
    /// Held while versions come and go: one change of a model at a time.
    pub(crate) updating: Arc<tokio::sync::Mutex<()>>,
    /// Replaced while `loads` is held, so that who holds it finds both as they belong together.
    serving: ArcSwap<Serving<V>>,
    draws: Draws,
    /// What was asked for at run time goes before what the manifest says.
    split: Mutex<[Option<Split>; 2]>,
    loads: Mutex<Loads>,
    /// Whether readiness waits for it.
    asked_for: AtomicBool,
    /// Counts changes of state, for those who wait for one.
    changes: watch::Sender<u64>,
}

/// The versions that answer: replaced whole when one comes or goes.
#[derive(Debug)]
pub(crate) struct Serving<V = Version> {
    /// Ascending by number.
    versions: Vec<Served<V>>,
    /// Who answers requests that name no version; none for the newest.
    shares: Option<Shares>,
}

/// A version that answers.
#[derive(Debug)]
pub(crate) struct Served<V = Version> {
    /// Of its load.
    pub(crate) id: u64,
    /// Of its files.
    pub(crate) stamp: String,
    pub(crate) version: Arc<V>,
}

impl<V> Clone for Served<V> {
    fn clone(&self) -> Self {
        Self { id: self.id, stamp: self.stamp.clone(), version: Arc::clone(&self.version) }
    }
}

/// What answers for a version.
pub(crate) trait Answers {
    /// Of the model.
    fn version(&self) -> &str;
    /// It answers no more.
    fn end(&self);
}

impl Answers for Version {
    fn version(&self) -> &str {
        &self.version
    }

    fn end(&self) {
        self.end_trials();
    }
}

impl Registry {
    /// The entry of that name, made if it is new.
    pub(crate) fn entry(&self, name: &str) -> Arc<Entry> {
        if let Some(entry) = self.models.load().get(name) {
            return Arc::clone(entry);
        }
        let new = Arc::new(Entry::new(name));
        let models = self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.entry(name.to_owned()).or_insert_with(|| Arc::clone(&new));
            models
        });
        // `rcu` answers what was there before: another thread may have been first.
        models.get(name).map_or(new, Arc::clone)
    }

    /// Whether `entry` is still the one of its name.
    pub(crate) fn has(&self, entry: &Arc<Entry>) -> bool {
        self.models.load().get(&entry.name).is_some_and(|known| Arc::ptr_eq(known, entry))
    }

    /// Forgets a model. Who holds its `updating` knows that nothing comes back to it.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            if models.get(&entry.name).is_some_and(|known| Arc::ptr_eq(known, entry)) {
                models.remove(&entry.name);
            }
            models
        });
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<Entry>, EngineError> {
        let models = self.models.load();
        models.get(name).map(Arc::clone).ok_or_else(|| {
            let served = models.values().filter(|entry| !entry.is_unloaded()).map(|entry| entry.name.as_str());
            EngineError::UnknownModel { name: name.to_owned(), served: quoted(served) }
        })
    }

    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.models.load().values().map(Arc::clone).collect()
    }
}

impl<V: Answers> Entry<V> {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            concurrency: Arc::default(),
            updating: Arc::default(),
            serving: ArcSwap::from_pointee(Serving { versions: Vec::new(), shares: None }),
            draws: Draws::default(),
            split: Mutex::default(),
            loads: Mutex::default(),
            asked_for: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// The version that answers a request, or why none does.
    pub(crate) fn pick(&self, version: Option<&str>) -> Result<Arc<V>, EngineError> {
        let serving = self.serving.load();
        let index = serving.shares.as_ref().filter(|_| version.is_none()).map(|shares| shares.draw(&self.draws));
        match index.and_then(|index| serving.versions.get(index)) {
            Some(drawn) => Ok(Arc::clone(&drawn.version)),
            None => self.find(&serving, version),
        }
    }

    /// The version that is named, or the newest: what a model is described by.
    pub(crate) fn newest(&self, version: Option<&str>) -> Result<Arc<V>, EngineError> {
        self.find(&self.serving.load(), version)
    }

    fn find(&self, serving: &Serving<V>, version: Option<&str>) -> Result<Arc<V>, EngineError> {
        if let Some(found) = serving.find(version) {
            return Ok(found);
        }
        step();
        // Before anybody is refused it is looked once more, while nothing changes: the reason is of the same moment.
        let loads = self.loads();
        self.serving.load().find(version).ok_or_else(|| loads.refusal(&self.name, version))
    }

    /// Those that answer.
    pub(crate) fn served(&self) -> Guard<Arc<Serving<V>>> {
        self.serving.load()
    }

    /// Whether a version may become ready without anybody's doing.
    pub(crate) fn is_coming(&self) -> bool {
        self.loads().is_coming()
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.serving.load().versions.is_empty()
    }

    /// Whether it was there, and was let go.
    pub(crate) fn is_unloaded(&self) -> bool {
        !self.is_ready() && self.loads().is_unloaded()
    }

    /// Whether nothing will change by itself: it answers, or it failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_ready() || self.loads().is_settled()
    }

    /// Whether readiness waits for it.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.asked_for.load(Ordering::Relaxed)
    }

    pub(crate) fn ask_for(&self, asked: bool) {
        self.asked_for.store(asked, Ordering::Relaxed);
    }

    /// Each version once, in order of number.
    pub(crate) fn statuses(&self) -> Vec<VersionStatus> {
        let loads = self.loads();
        let mut statuses = loads.statuses();
        for (version, share) in self.serving.load().shares() {
            if let Some(status) = statuses.iter_mut().find(|status| status.version == version) {
                status.share = Some(share);
            }
        }
        statuses
    }

    /// Says that a version will be loaded.
    pub(crate) fn announce(&self, version: &str) {
        self.loads().announce(version);
        self.changed();
    }

    /// Says that there is a model that nobody has asked for.
    pub(crate) fn rest(&self) {
        self.loads().rest();
        self.changed();
    }

    /// Says why a model of which no version answers cannot be loaded.
    pub(crate) fn fail_at_rest(&self, reason: &str) {
        if !self.is_ready() {
            self.loads().fail_at_rest(reason);
            self.changed();
        }
    }

    /// Loads that have begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.loads().begun()
    }

    /// A load begins: the one that was announced, or a new one. Answers its number.
    pub(crate) fn begin_load(&self, version: &str) -> u64 {
        let id = self.loads().begin(version);
        self.changed();
        id
    }

    /// What a load records: what other loads of its version record, else what `make` makes. It ends when the version is gone.
    pub(crate) fn series(&self, id: u64, make: impl FnOnce() -> Arc<Series>) -> Arc<Series> {
        self.loads().series(id, make)
    }

    /// What the loads that are not gone record.
    pub(crate) fn all_series(&self) -> Vec<Arc<Series>> {
        self.loads().all_series()
    }

    /// Moves a load along the state machine. What is not on it is left undone.
    pub(crate) fn advance(&self, id: u64, next: State) {
        self.loads().advance(id, next);
        self.changed();
    }

    /// Says of the newest version that answers why it cannot be loaded anew.
    pub(crate) fn fail_anew(&self, reason: &str) {
        let mut loads = self.loads();
        if let Some(newest) = self.serving.load().versions.last() {
            loads.fail(newest.version.version(), reason);
        }
        drop(loads);
        self.changed();
    }

    /// What answers for this version is what its files are: why they could not be loaded is no longer so.
    pub(crate) fn forgive(&self, version: &str) {
        self.loads().forgive(version);
        self.changed();
    }

    /// From now on `served` answers, beside the others and in place of a load of the same version.
    pub(crate) fn join(&self, served: Served<V>) {
        self.change(|versions| {
            versions.retain(|known| known.version.version() != served.version.version());
            versions.push(served);
            // Numbers before what is none.
            versions.sort_by_key(|served| {
                let version = served.version.version();
                (version.parse::<u64>().unwrap_or_default(), version.to_owned())
            });
        });
    }

    /// Only those that `keep` holds for go on answering.
    pub(crate) fn retain(&self, keep: impl Fn(&Served<V>) -> bool) {
        self.change(|versions| versions.retain(keep));
    }

    /// How requests that name no version are divided from now on: `asked` at run time, and by the manifest.
    pub(crate) fn divide(&self, asked: Option<Split>, manifest: Option<Split>) {
        {
            let mut split = self.split.lock().unwrap_or_else(PoisonError::into_inner);
            let [before_asked, before_manifest] = std::mem::take(&mut *split);
            *split = [asked.or(before_asked), manifest.or(before_manifest)];
        }
        self.change(|_| {});
    }

    /// Forgets how requests are to be divided.
    pub(crate) fn undivide(&self) {
        *self.split.lock().unwrap_or_else(PoisonError::into_inner) = [None, None];
    }

    /// Changes which versions answer, and says so of their loads.
    fn change(&self, change: impl FnOnce(&mut Vec<Served<V>>)) {
        step();
        let gone = {
            let mut loads = self.loads();
            let before = self.serving.load_full();
            let mut versions = before.versions.clone();
            change(&mut versions);
            let has = |versions: &[Served<V>], id| versions.iter().any(|served| served.id == id);
            let come = versions.iter().map(|served| served.id).filter(|id| !has(&before.versions, *id));
            let come: Vec<u64> = come.collect();
            let gone = before.versions.iter().filter(|served| !has(&versions, served.id)).cloned();
            let gone: Vec<Served<V>> = gone.collect();
            let shares = self.shares(&versions);
            self.serving.store(Arc::new(Serving { versions, shares }));
            come.into_iter().for_each(|id| loads.advance(id, State::Ready));
            gone.iter().for_each(|served| loads.advance(served.id, State::Draining));
            gone
        };
        step();
        gone.iter().for_each(|served| served.version.end());
        self.changed();
    }

    fn shares(&self, versions: &[Served<V>]) -> Option<Shares> {
        let names: Vec<&str> = versions.iter().map(|served| served.version.version()).collect();
        let split = self.split.lock().unwrap_or_else(PoisonError::into_inner);
        let split = split.iter().flatten().next().cloned().unwrap_or_default();
        split.shares(&names).map(|shares| Shares::new(&shares))
    }

    /// Whether requests are still running on versions that no longer answer.
    pub(crate) fn is_draining(&self) -> bool {
        self.loads().is_draining()
    }

    /// Ticks at each change of state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Requests that wait, for a worker or for an instance.
    pub(crate) fn queue_depth(&self) -> usize {
        let of = |version: &Version| version.waiting.count() + version.queue.as_ref().map_or(0, Queue::depth);
        self.serving.load().versions.iter().map(|served| of(&served.version)).sum()
    }

    /// Shows the instances of each version that answers, on each device, with what names them.
    pub(crate) fn instances(&self, mut each: impl FnMut(&[KeyValue; 4], Instances)) {
        for Served { version, .. } in &self.serving.load().versions {
            let instances = version.queue.iter().flat_map(Queue::instances);
            version.signals.devices().zip(instances).for_each(|(named, instances)| each(named, instances));
        }
    }

    /// Load over capacity, of the version where that is highest, where `all` is the part of the shared workers that is asked for.
    pub(crate) fn saturation(&self, all: f64) -> f64 {
        let serving = self.serving.load();
        serving.versions.iter().map(|served| served.version.capacity.saturation(all)).fold(0.0, f64::max)
    }

    /// The part of the shared workers that is asked for by requests for this model.
    pub(crate) fn shared_load(&self) -> f64 {
        self.serving.load().versions.iter().map(|served| served.version.capacity.shared()).sum()
    }

    /// So much time has passed.
    pub(crate) fn tick(&self, time: std::time::Duration) {
        for served in &self.serving.load().versions {
            served.version.capacity.tick(time);
        }
    }
}

impl<V: Answers> Serving<V> {
    /// The version that is named, or the newest.
    fn find(&self, version: Option<&str>) -> Option<Arc<V>> {
        let served = match version {
            None => self.versions.last(),
            Some(wanted) => self.versions.iter().find(|served| served.version.version() == wanted),
        };
        served.map(|served| Arc::clone(&served.version))
    }

    /// Whether this very version answers.
    pub(crate) fn has(&self, version: &str, stamp: &str) -> bool {
        let same = |served: &&Served<V>| served.version.version() == version && served.stamp == stamp;
        !stamp.is_empty() && self.versions.iter().any(|served| same(&served))
    }

    /// The names of those that answer, ascending.
    pub(crate) fn names(&self) -> Vec<String> {
        self.versions.iter().map(|served| served.version.version().to_owned()).collect()
    }

    /// The share of each version, where requests are divided.
    pub(crate) fn shares(&self) -> Vec<(String, u64)> {
        let Some(shares) = &self.shares else { return Vec::new() };
        self.names().into_iter().zip(shares.all()).collect()
    }
}

/// Where a scheduler of tests may have others go on.
#[cfg(not(test))]
const fn step() {}

#[cfg(test)]
use tests::step;

#[cfg(test)]
mod tests;
