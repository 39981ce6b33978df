//! The models of a start: found in their sources, made known to the engine, loaded, then watched.

use std::sync::Arc;

use anyhow::anyhow;
use corymb_engine::{Engine, Live, OnDemand, OnDemandOptions, Opening, Seen, Sources};
use corymb_hardware::Hardware;
use corymb_repository::{ModelFolder, Repository};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::allocator;
use crate::config::Config;
use crate::sources;

/// What helps where one model of several fails.
const KEEP_GOING: &str = "; --keep-going serves the other models";

/// The models that are to be served, and what opens them.
pub(super) struct Models<'a> {
    config: &'a Config,
    repository: Arc<Repository>,
    sources: Sources,
}

/// Models that were found, and what is known of their sources, where these are polled.
pub(super) struct Found {
    seen: Seen,
    folders: Vec<ModelFolder>,
    /// Those that could not be opened, where the others are served without them.
    failed: Vec<(String, String)>,
}

/// Models that the engine has still to load, and perhaps to hear of.
pub(super) struct Loading<'a> {
    models: Models<'a>,
    engine: Engine,
    found: Option<Found>,
    /// There is one until the models are found.
    opening: Option<Opening>,
    live: Live,
    on_demand: Option<OnDemand>,
}

impl Found {
    fn announce(&self, engine: &Engine) {
        engine.announce(&self.folders);
        for (name, reason) in &self.failed {
            engine.announce_failed(name, reason.clone());
        }
    }
}

impl<'a> Models<'a> {
    pub(super) fn new(config: &'a Config) -> anyhow::Result<Self> {
        let repository = Arc::new(sources::repository(&config.sources)?);
        Ok(Self { config, repository, sources: sources::live(&config.sources, &config.admin_root) })
    }

    /// Finds the models, downloading what is not here. Those that are loaded on demand are found when they are listed.
    pub(super) async fn find(&self) -> anyhow::Result<Found> {
        let Self { config, repository, sources } = self;
        if config.on_demand.is_some() && !config.sources.is_empty() {
            return Ok(Found { seen: Seen::default(), folders: Vec::new(), failed: Vec::new() });
        }
        // Before they are opened: what changes in between is seen afterwards.
        let seen = if config.poll.is_some() { Seen::first(repository, sources).await } else { Seen::default() };
        let opened = sources::open(&config.sources, repository, config.admin).await?;
        if config.engine.keep_going {
            let failed = opened.failed.into_iter().map(|(name, error)| (name, error.to_string())).collect();
            return Ok(Found { seen, folders: opened.folders, failed });
        }
        let others = opened.failed.len() > 1 || !opened.folders.is_empty();
        let folders = opened.all().map_err(|error| match others {
            true => anyhow!("{error}{KEEP_GOING}"),
            false => error.into(),
        })?;
        Ok(Found { seen, folders, failed: Vec::new() })
    }

    /// Tells the engine of the models that were found, or that they are still being looked for.
    pub(super) fn announce(mut self, engine: &Engine, found: Option<Found>) -> Loading<'a> {
        let opening = found.is_none().then(|| engine.opening());
        if let Some(found @ Found { folders, .. }) = &found {
            found.announce(engine);
            // It was checked when it was opened.
            self.sources.embedded = folders.first().filter(|_| self.config.sources.is_empty()).cloned();
        }
        let live = Live::new(engine.clone(), Arc::clone(&self.repository), self.sources.clone());
        // The model inside the binary is loaded anyway.
        let budget = self.config.on_demand.filter(|_| !self.config.sources.is_empty());
        let on_demand = budget.map(|budget| {
            let memory = Hardware::read().memory;
            // What was freed would be taken for what a model takes.
            let resident = Arc::new(move || {
                allocator::trim();
                memory.family_bytes()
            });
            OnDemand::new(live.clone(), OnDemandOptions { budget, resident, cache: self.config.engine.cache.clone() })
        });
        Loading { models: self, engine: engine.clone(), found, opening, live, on_demand }
    }
}

impl Loading<'_> {
    /// What loads and unloads models from now on.
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// What loads them when they are asked for.
    pub(super) fn on_demand(&self) -> Option<OnDemand> {
        self.on_demand.clone()
    }

    /// Returns when every model is ready, or their list is read. Then their sources are watched, where they are polled.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        let Self { models, engine, found, opening, live, on_demand } = self;
        let Found { seen, folders, failed } = match found {
            Some(found) => found,
            None => {
                let found = models.find().await?;
                found.announce(&engine);
                found
            }
        };
        if let Some(on_demand) = on_demand {
            let Models { config, repository, .. } = &models;
            let names = sources::listed(&config.sources, repository, on_demand.list().await?, config.admin).await?;
            tracing::info!(models = names.len(), "models are loaded on demand");
        }
        drop(opening);
        let served = folders.iter().map(|folder| folder.name.clone()).chain(failed.into_iter().map(|(name, _)| name));
        let served: Vec<String> = served.collect();
        load(&live, folders, models.config).await?;
        if let Some(period) = models.config.poll {
            tokio::spawn(async move { live.watch(period, seen, &served).await });
        }
        Ok(())
    }
}

/// Loads as many models at a time as there are cores. An older version stands for one that cannot be loaded. The first model of
/// which there is none ends the start, unless it may go on.
async fn load(live: &Live, folders: Vec<ModelFolder>, config: &Config) -> anyhow::Result<()> {
    let keep_going = config.engine.keep_going;
    // Versions of a model stand side by side, ascending.
    let models: Vec<Vec<ModelFolder>> =
        folders.chunk_by(|one, two| one.name == two.name).map(<[ModelFolder]>::to_vec).collect();
    let hint = if models.len() > 1 { KEEP_GOING } else { "" };
    let loads = models.into_iter().map(|folders| async move {
        let name = folders[0].name.clone();
        let place = folders.last().and_then(|newest| Some(format!(" ({})", newest.path()?.display())));
        let loading = sources::Loading::begin(&name);
        let loaded = live.load_or_older(&name, folders).await;
        drop(loading);
        match loaded {
            // The engine has logged the reason; the model stays `failed`.
            Err(_) if keep_going => Ok(()),
            Err(error) => Err(anyhow!("load model '{name}'{}: {error:#}{hint}", place.unwrap_or_default())),
            Ok(()) => Ok(()),
        }
    });
    stream::iter(loads).buffer_unordered(config.engine.workers).try_collect().await
}
