//! Versions come and go: loaded off the path of requests, swapped in when they are warm, let go when they are replaced.

use std::sync::Arc;
use std::time::Instant;

use corymb_repository::ModelFolder;
use futures::future::join_all;
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::error::{EngineError, LoadError};
use crate::lifecycle::State;
use crate::load::{self, Loaded};
use crate::measure::Measuring;
use crate::pool::{Panicked, in_background};
use crate::registry::{Entry, Served};
use crate::signals::Series;
use crate::split::Split;
use crate::version::Version;
use crate::warmup;

impl Engine {
    /// Says which models will be loaded, so that readiness waits for them and callers hear "loading", not "unknown".
    pub fn announce(&self, folders: &[ModelFolder]) {
        for folder in folders {
            let entry = self.0.registry.entry(&folder.name);
            entry.ask_for(true);
            entry.announce(&folder.version);
        }
    }

    /// Makes a model known that is loaded when it is asked for.
    pub(crate) fn rest(&self, model: &str) {
        self.0.registry.entry(model).rest();
    }

    /// Makes a model known that could not be opened: it has failed, for this reason, until it is loaded.
    pub fn announce_failed(&self, model: &str, reason: String) {
        tracing::error!(model, error = reason, "model failed to load");
        let entry = self.0.registry.entry(model);
        entry.ask_for(true);
        let id = entry.begin_load("1");
        entry.advance(id, State::Failed(reason));
    }

    /// Says of a model that nothing answers for why it cannot be loaded.
    pub(crate) fn not_opened(&self, model: &str, reason: &str) {
        tracing::error!(model, error = reason, "model failed to load");
        if let Ok(entry) = self.0.registry.find(model) {
            entry.fail_at_rest(reason);
        }
    }

    /// Says of a model that answers why what it is made of cannot be used as it is now.
    pub(crate) fn source_failed(&self, model: &str, reason: &str) {
        if let Ok(entry) = self.0.registry.find(model) {
            entry.fail_anew(reason);
        }
    }

    /// Serves this version of its model and no other: see [`Engine::update`].
    ///
    /// # Errors
    /// Why it did not become ready.
    pub async fn load(&self, folder: ModelFolder) -> Result<(), LoadError> {
        let name = folder.name.clone();
        self.update(&name, vec![folder], None).await
    }

    /// Makes `folders` the versions that answer for `model`. Those that are not loaded yet, or whose files have changed,
    /// are loaded beside the others and swapped in each when it is warm; then those that are not among them drain. If one
    /// fails, whatever answered before goes on answering. `split` goes before what the manifest says, until the model is
    /// unloaded.
    ///
    /// # Errors
    /// Why one did not become ready; the first of them.
    pub async fn update(&self, model: &str, folders: Vec<ModelFolder>, split: Option<Split>) -> Result<(), LoadError> {
        // In a task of its own: who asked may go away, a load that was begun goes on.
        let (engine, model) = (self.clone(), model.to_owned());
        let updating = tokio::spawn(async move { engine.update_now(&model, folders, split).await });
        updating.await.map_err(|error| LoadError::Panicked(error.to_string()))?
    }

    async fn update_now(&self, model: &str, folders: Vec<ModelFolder>, split: Option<Split>) -> Result<(), LoadError> {
        let wanted: Vec<String> = folders.iter().map(|folder| folder.version.clone()).collect();
        if let Some(fault) = split.as_ref().and_then(|split| split.fault(&wanted)) {
            return Err(LoadError::Split(fault));
        }
        let (entry, _updating) = self.begin_update(model).await;
        // The newest says how requests are divided.
        let manifest = folders.last().map(|folder| Split::of(&folder.manifest.versions));
        entry.divide(split, manifest);
        let (same, changed): (Vec<_>, Vec<_>) =
            folders.into_iter().partition(|folder| entry.served().has(&folder.version, &folder.stamp));
        same.iter().for_each(|folder| entry.forgive(&folder.version));
        let changed = changed.into_iter();
        let loads: Vec<_> = changed.map(|folder| self.load_one(&entry, folder)).collect();
        let loaded: Result<Vec<()>, LoadError> = join_all(loads).await.into_iter().collect();
        loaded?;
        entry.retain(|served| wanted.contains(&served.version.version));
        Ok(())
    }

    /// Lets go of a model: requests that it has taken are finished, new ones are refused.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`].
    pub async fn unload(&self, model: &str) -> Result<(), EngineError> {
        self.let_go(model).await.map(|_| ())
    }

    /// Has no version answer; how many loads of the model had begun when that was so.
    async fn let_go(&self, model: &str) -> Result<(Arc<Entry>, u64), EngineError> {
        self.0.registry.find(model)?;
        let (entry, _updating) = self.begin_update(model).await;
        let answered = entry.is_ready();
        entry.ask_for(false);
        entry.undivide();
        entry.retain(|_| false);
        if answered {
            tracing::info!(model, "model unloaded");
        }
        let begun = entry.begun();
        Ok((entry, begun))
    }

    /// As [`Engine::unload`], and then the model is not known any more.
    pub async fn forget(&self, model: &str) {
        let Ok((entry, begun)) = self.let_go(model).await else { return };
        let engine = self.clone();
        tokio::spawn(async move {
            let mut changes = entry.changes();
            while entry.is_draining() && changes.changed().await.is_ok() {}
            let _updating = entry.updating.lock().await;
            // In the meantime it may have come back.
            if entry.begun() == begun {
                engine.0.registry.remove(&entry);
            }
        });
    }

    /// The entry of that name, with its lock: one that was forgotten while it was waited for is not written to.
    async fn begin_update(&self, model: &str) -> (Arc<Entry>, tokio::sync::OwnedMutexGuard<()>) {
        loop {
            let entry = self.0.registry.entry(model);
            let updating = Arc::clone(&entry.updating).lock_owned().await;
            if self.0.registry.has(&entry) {
                return (entry, updating);
            }
        }
    }

    async fn load_one(&self, entry: &Arc<Entry>, folder: ModelFolder) -> Result<(), LoadError> {
        let id = entry.begin_load(&folder.version);
        // Never closed.
        let _permit = self.0.loads.acquire().await;
        let begin = Instant::now();
        let series = entry.series(id, || Series::new(&self.0.meters, &folder.name, &folder.version));
        let result = self.load_and_warm(entry, id, &folder, Arc::clone(&series)).await;
        let time = begin.elapsed();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        series.loaded(outcome, time);
        self.0.options.pool.remeasure();
        match result {
            Ok((version, gone)) => {
                tracing::info!(
                    model = folder.name,
                    version = folder.version,
                    backend = version.backend,
                    device = version.device,
                    reason = version.reason,
                    rows = version.division.rows,
                    rows_node = version.division.node,
                    batching = version.findings().batching,
                    plugin = version.plugin.as_ref().map(|plugin| plugin.info().name.as_str()),
                    milliseconds = time.as_millis() as u64,
                    "model ready"
                );
                if version.division.rows == "trusted" {
                    let advice = version.division.advice.as_deref().unwrap_or_default();
                    tracing::warn!(model = folder.name, advice, "requests share runs because the manifest says so");
                }
                entry.join(Served { id, stamp: folder.stamp, version });
                let entry = Arc::clone(entry);
                tokio::spawn(async move {
                    // The sender is never used: it is dropped with the version, after its last request.
                    let _ = gone.await;
                    // It may have gone before it was said that it drains.
                    entry.advance(id, State::Draining);
                    entry.advance(id, State::Gone);
                });
                Ok(())
            }
            Err(error) => {
                let serving = Some(entry.served().names().join(", ")).filter(|names| !names.is_empty());
                tracing::error!(model = folder.name, version = folder.version, %error, serving, "model failed to load");
                entry.advance(id, State::Failed(error.to_string()));
                Err(error)
            }
        }
    }

    async fn load_and_warm(
        &self,
        entry: &Arc<Entry>,
        id: u64,
        folder: &ModelFolder,
        series: Arc<Series>,
    ) -> Result<(Arc<Version>, oneshot::Receiver<()>), LoadError> {
        let (shared, folder_for_loading) = (Arc::clone(&self.0), folder.clone());
        // An engine that runs on threads of its own makes them now.
        let yields = folder.manifest.instances.threads.unwrap_or(1) == 1;
        let loading = in_background(yields, move || load::load(&shared, &folder_for_loading, series));
        let Loaded { version, instances, sharing, gone } =
            loading.await.map_err(|Panicked(message)| LoadError::Panicked(message))??;
        entry.advance(id, State::WarmingUp);
        let version = Arc::new(version);
        warmup::warm_up(&self.0, &version, &folder.samples, instances).await?;
        version.end_warm_up();
        if let Some(files) = &folder.model {
            Measuring::new(&self.0, &version, sharing, files.clone(), !folder.samples.is_empty()).begin().await;
        }
        if let Some(signed) = folder.signed.clone() {
            let unchanged = tokio::task::spawn_blocking(move || signed.ensure_unchanged());
            unchanged.await.map_err(|error| LoadError::Panicked(error.to_string()))??;
        }
        Ok((version, gone))
    }
}
