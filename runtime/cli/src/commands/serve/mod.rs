//! `corymb serve`: configuration, bind, load, listen, serve, drain.

mod allowed;
mod knative;
mod models;
mod server;
mod sockets;
mod stop;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use corymb_engine::{Engine, State};
use corymb_hardware::Hardware;
use corymb_listener::{Drained, Listener};
use corymb_server::Server;
use tokio::net::TcpSocket;

use self::models::{Loading, Models};
pub(crate) use self::sockets::bind_one;
use self::stop::StopSignals;
use crate::config::{Config, ServeFlags, environment};
use crate::wiring::{LogBridge, Signals};
use crate::{logs, wiring};

/// What is left for models when the server's own drain has used up its time.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// Serves until a signal to stop.
pub(crate) fn serve(flags: ServeFlags, start: Instant) -> anyhow::Result<()> {
    let open_files = sockets::raise_open_files();
    let hardware = Hardware::read();
    let config = Config::build(flags, &environment(), &hardware)?;
    allowed::check(&hardware, &config.threads)?;
    let bridge = LogBridge::default();
    let log = logs::start(config.log_format, &config.log_level, bridge.clone())?;
    for warning in config.warnings.iter().chain(&hardware.notes) {
        tracing::warn!("{warning}");
    }
    let threads = &config.threads;
    tracing::info!(
        cores = threads.cores,
        limited_by = threads.limited_by,
        workers = threads.workers,
        io_threads = threads.io_threads,
        "threads planned"
    );
    if let Err(error) = open_files {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.io_threads)
        .thread_name("io")
        .enable_all()
        .build()
        .context("start the I/O threads")?;
    let result = runtime.block_on(run(&config, &bridge, &log, start));
    // A model that is still loading is not waited for.
    runtime.shutdown_background();
    result
}

/// From the sockets to the last signal. A taken port fails before anything is loaded; nothing listens before the models
/// are ready, unless that is wanted.
async fn run(config: &Config, bridge: &LogBridge, log: &logs::Log, start: Instant) -> anyhow::Result<()> {
    let stop = StopSignals::listen()?;
    let sockets = sockets::bind(config)?;
    let signals = Signals::start(&config.telemetry, bridge, log.lost())?;
    knative::serve_stats(config)?;
    let models = Models::new(config)?;
    // What is inside the binary is there at once. Who listens early listens before the other sources have been asked.
    let found = if config.listen_early && !config.sources.is_empty() {
        None
    } else if let Some(found) = stop.unless_stopped(models.find()).await {
        Some(found?)
    } else {
        tracing::info!("stopped before the models were there");
        return Ok(());
    };
    let libraries = wiring::library_search(&config.sources, &environment());
    let engine = wiring::engine(config.engine.clone(), libraries, config.run_bytes)?;
    let loading = models.announce(&engine, found);
    let listener = server::new(config, &engine, &signals, loading.live(), loading.on_demand());
    let ready = |addresses: &str| announce_ready(&engine, addresses, start);
    let drained = if config.listen_early {
        listen_then_load(listener, sockets, loading, &stop, ready).await?
    } else if let Some(drained) = load_then_listen(listener, sockets, loading, &stop, ready).await? {
        drained
    } else {
        tracing::info!("stopped before the models were ready");
        return Ok(());
    };
    let left = config.listener.drain_timeout.saturating_sub(drained.took).max(LAST_GRACE);
    engine.shut_down(left).await;
    tracing::info!(requests_cut = drained.cut, milliseconds = drained.took.as_millis() as u64, "stopped");
    signals.flush();
    Ok(())
}

/// Serves from the beginning; a request waits for its model, or is told that it is not ready.
async fn listen_then_load(
    listener: Listener<Server>,
    sockets: Vec<TcpSocket>,
    loading: Loading<'_>,
    stop: &StopSignals,
    ready: impl FnOnce(&str),
) -> anyhow::Result<Drained> {
    let listeners = sockets::listen(sockets)?;
    let addresses = sockets::addresses(&listeners)?;
    tracing::info!(address = addresses, "listening; models are loading");
    let serving = server::serve(listener, listeners, stop);
    tokio::pin!(serving);
    tokio::select! {
        drained = &mut serving => Ok(drained),
        loaded = loading.finish() => {
            loaded?;
            ready(&addresses);
            Ok(serving.await)
        }
    }
}

/// Serves when every model is ready; none when it is stopped before.
async fn load_then_listen(
    listener: Listener<Server>,
    sockets: Vec<TcpSocket>,
    loading: Loading<'_>,
    stop: &StopSignals,
    ready: impl FnOnce(&str),
) -> anyhow::Result<Option<Drained>> {
    let Some(loaded) = stop.unless_stopped(loading.finish()).await else { return Ok(None) };
    loaded?;
    let listeners = sockets::listen(sockets)?;
    ready(&sockets::addresses(&listeners)?);
    Ok(Some(server::serve(listener, listeners, stop).await))
}

/// The one line that says the server is up.
fn announce_ready(engine: &Engine, addresses: &str, start: Instant) {
    let (resting, models): (Vec<_>, Vec<_>) = engine
        .models()
        .into_iter()
        .partition(|model| model.versions.iter().all(|version| version.state == State::Gone));
    let models = models.into_iter().map(|model| match engine.describe(&model.name, None) {
        Ok(described) => {
            let backend = if described.backend.is_empty() { "plugin" } else { described.backend };
            format!("{} ({backend}, {})", described.name, described.device)
        }
        Err(_) => format!("{} (failed)", model.name),
    });
    let resting = (!resting.is_empty()).then(|| format!("{} on demand", resting.len()));
    let models = models.chain(resting).collect::<Vec<_>>().join(", ");
    tracing::info!(address = addresses, models, milliseconds_to_ready = start.elapsed().as_millis() as u64, "serving");
}
