//! The models, loaded as `serve` would: what it would refuse is refused here.

use std::sync::Arc;

use anyhow::Context as _;
use corymb_core::Finding;
use corymb_engine::{Engine, Live};
use corymb_repository::ModelFolder;

use crate::config::{Config, environment};
use crate::sources::{self, Opened};
use crate::wiring;

/// Opens, loads and warms up every model that the configuration names; what came of each. Those that are loaded on demand are listed.
///
/// # Errors
/// What keeps all of them from being looked at.
pub(super) fn models(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("start a thread")?;
    let found = runtime.block_on(load_all(config));
    // One that is still at work is not waited for.
    runtime.shutdown_background();
    found
}

async fn load_all(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let repository = sources::repository(&config.sources)?;
    if config.on_demand.is_some() && !config.sources.is_empty() {
        let names = sources::list(&config.sources, &repository, config.admin).await?;
        let found = format!("{} known, none of them loaded before it is asked for", names.len());
        return Ok(vec![Finding::usable("models on demand".to_owned(), found)]);
    }
    let Opened { folders, failed } = sources::open(&config.sources, &repository, config.admin).await?;
    let libraries = wiring::library_search(&config.sources, &environment());
    let engine = wiring::engine(config.engine.clone(), libraries, config.run_bytes)?;
    let live = Live::new(engine.clone(), Arc::new(repository), sources::live(&config.sources, &config.admin_root));
    let mut found: Vec<Finding> =
        failed.into_iter().map(|(name, error)| Finding::unusable(subject(&name), error.to_string(), None)).collect();
    for versions in folders.chunk_by(|one, two| one.name == two.name) {
        found.push(load(&engine, &live, versions.to_vec()).await);
    }
    Ok(found)
}

async fn load(engine: &Engine, live: &Live, versions: Vec<ModelFolder>) -> Finding {
    let name = versions[0].name.clone();
    let loaded = live.load_or_older(&name, versions).await.map_err(|error| error.to_string());
    match loaded.and_then(|()| engine.describe(&name, None).map_err(|error| error.to_string())) {
        Ok(model) => {
            let backend = if model.backend.is_empty() { "a plugin" } else { model.backend };
            Finding::usable(subject(&name), format!("loaded by {backend} on {}", model.device))
        }
        Err(reason) => Finding::unusable(subject(&name), reason, None),
    }
}

fn subject(model: &str) -> String {
    format!("model {model}")
}
